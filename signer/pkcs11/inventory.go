package pkcs11

import (
	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

// listBlanks lists the tokens that are not initialised.
func (w *Worker) listBlanks() ([]worker.TokenInfo, error) {
	slots, err := w.slots()
	if err != nil {
		return nil, err
	}
	var out []worker.TokenInfo
	for _, s := range slots {
		if !s.initialised {
			out = append(out, s.info)
		}
	}
	return out, nil
}

// listKeys lists every private EC key, also one that could not be signed with.
func (w *Worker) listKeys(ref worker.TokenRef) (keys []worker.Key, err error) {
	err = w.withSession(ref, func(s *session) error {
		all, err := w.candidates(s.handle, worker.KeyQuery{})
		if err != nil {
			return err
		}
		for _, c := range all {
			k := worker.Key{Algorithm: c.alg, Label: c.label, ID: c.id}
			if len(c.points) == 1 {
				k.PublicKey = c.points[0]
			}
			if k.Attributes, err = w.attributes(s.handle, c.handle); err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

// listCertificates lists the X.509 certificates. Vendors put the attestation of
// a key, and what it is signed with, into such objects.
func (w *Worker) listCertificates(ref worker.TokenRef) (out []worker.Certificate, err error) {
	err = w.withSession(ref, func(s *session) error {
		handles, err := w.find(s.handle, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
			pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		})
		if err != nil {
			return err
		}
		for _, h := range handles {
			var c worker.Certificate
			var label []byte
			for attr, into := range map[uint]*[]byte{pkcs11.CKA_LABEL: &label, pkcs11.CKA_ID: &c.ID, pkcs11.CKA_VALUE: &c.DER} {
				if *into, err = w.attribute(s.handle, h, attr); err != nil {
					return err
				}
			}
			c.Label = string(label)
			out = append(out, c)
		}
		return nil
	})
	return out, err
}
