package pkcs11

import (
	"crypto/sha256"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

// sign returns the 64 raw bytes of the token. CKM_ECDSA signs any input:
// SoftHSM took 0, 20, 31, 33, 48 and 64 bytes; here it is 32 or nothing.
func (w *Worker) sign(ref worker.TokenRef, q worker.KeyQuery, digest []byte) (sig []byte, err error) {
	if len(digest) != sha256.Size {
		return nil, failure(worker.ErrBadRequest, "digest has %d bytes, want %d", len(digest), sha256.Size)
	}
	if q.Algorithm == 0 || q.PublicKey == (worker.PublicKey{}) {
		return nil, failure(worker.ErrBadRequest, "a signing key is named by algorithm and public key, got %s", q)
	}
	err = w.withSession(ref, func(s *session) error {
		name := keyName{q.Algorithm, q.PublicKey}
		h, ok := s.keys[name]
		if !ok {
			c, err := w.lookUp(ref, s.handle, q)
			if err != nil {
				return err
			}
			h = c.handle
			s.keys[name] = h
		}
		mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}
		if err := w.ctx.SignInit(s.handle, mechanism, h); err != nil {
			return returned("C_SignInit", err, "token %s does not begin to sign with %s", ref, q)
		}
		if sig, err = w.ctx.Sign(s.handle, digest); err != nil {
			return returned("C_Sign", err, "token %s does not sign with %s", ref, q)
		}
		return nil
	})
	return sig, err
}
