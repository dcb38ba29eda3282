package pkcs11

import (
	"bytes"
	"encoding/asn1"
	"slices"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

// curveOID returns the DER of the curve's object identifier (CKA_EC_PARAMS):
// 1.3.132.0.10 (SEC 2) and 1.2.840.10045.3.1.7 (X9.62). Nil for other bytes.
func curveOID(a worker.Algorithm) []byte {
	switch a {
	case worker.Secp256k1:
		return []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a}
	case worker.P256:
		return []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	}
	return nil
}

// curveOf is the inverse of curveOID; 0 for a curve that is not ours.
func curveOf(params []byte) worker.Algorithm {
	for _, a := range [...]worker.Algorithm{worker.Secp256k1, worker.P256} {
		if bytes.Equal(params, curveOID(a)) {
			return a
		}
	}
	return 0
}

// object is an EC key object. Its point is empty when the token does not tell.
type object struct {
	handle     pkcs11.ObjectHandle
	label      string
	id, params []byte
	point      []byte
}

// candidate is a private key with every public key that may belong to it.
type candidate struct {
	object
	alg    worker.Algorithm
	points []worker.PublicKey
}

// findKey returns the one key that fits, if no other has its label and id.
func (w *Worker) findKey(ref worker.TokenRef, q worker.KeyQuery) (key *worker.Key, err error) {
	err = w.withSession(ref, func(s *session) error {
		c, err := w.lookUp(ref, s.handle, q)
		if err != nil {
			return err
		}
		if err := w.unique(ref, s.handle, c); err != nil {
			return err
		}
		key = &worker.Key{Algorithm: c.alg, PublicKey: c.points[0], Label: c.label, ID: c.id}
		key.Attributes, err = w.attributes(s.handle, c.handle)
		s.keys[keyName{c.alg, c.points[0]}] = c.handle
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// unique refuses a key when another private key, of whatever kind, has its label
// and id: whoever addresses it by name may get either.
func (w *Worker) unique(ref worker.TokenRef, sh pkcs11.SessionHandle, c candidate) error {
	if c.label == "" && len(c.id) == 0 {
		return nil
	}
	// Not searched by an empty label or id, which would match any.
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, c.label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, c.id),
	}
	same, err := w.find(sh, template)
	if err != nil {
		return err
	}
	if len(same) > 1 {
		return failure(worker.ErrKeyDuplicate, "token %s has %d private keys with label %q and id %x: give each its own", ref, len(same), c.label, c.id)
	}
	return nil
}

// lookUp enforces "exactly one": two keys may carry the same label and id in
// any token, and guessing which one is meant would be signing with a key
// nobody chose.
func (w *Worker) lookUp(ref worker.TokenRef, sh pkcs11.SessionHandle, q worker.KeyQuery) (candidate, error) {
	all, err := w.candidates(sh, q)
	if err != nil {
		return candidate{}, err
	}
	named := q.Label != "" || len(q.ID) > 0 || q.PublicKey != worker.PublicKey{}
	fits := slices.DeleteFunc(all, func(c candidate) bool {
		if q.PublicKey != (worker.PublicKey{}) && !slices.Contains(c.points, q.PublicKey) {
			return true
		}
		return !named && (c.alg == 0 || q.Algorithm != 0 && c.alg != q.Algorithm)
	})
	switch {
	case len(fits) == 0:
		return candidate{}, failure(worker.ErrKeyNotFound, "token %s has no private EC key with %s: check the configured key, or generate it", ref, q)
	case len(fits) > 1:
		return candidate{}, failure(worker.ErrKeyAmbiguous, "token %s has %d private keys with %s: give each key its own id and label", ref, len(fits), q)
	}
	c := fits[0]
	switch {
	case c.alg == 0:
		return candidate{}, failure(worker.ErrKeyCurve, "the key with %s in token %s is on another curve (parameters %x): only secp256k1 and p256 can be used", q, ref, c.params)
	case q.Algorithm != 0 && q.Algorithm != c.alg:
		return candidate{}, failure(worker.ErrKeyCurve, "the key with %s in token %s is on %s", q, ref, c.alg)
	case len(c.points) == 0:
		return candidate{}, failure(worker.ErrKeyNotFound, "token %s has a private key with %s but no public key for it: import or restore the public key object", ref, q)
	case len(c.points) > 1:
		return candidate{}, failure(worker.ErrKeyAmbiguous, "token %s has %d public keys that may belong to the private key with %s: give each pair its own id", ref, len(c.points), q)
	}
	return c, nil
}

// candidates returns the private EC keys with the query's label and id.
func (w *Worker) candidates(sh pkcs11.SessionHandle, q worker.KeyQuery) ([]candidate, error) {
	private, err := w.objects(sh, pkcs11.CKO_PRIVATE_KEY, q.Label, q.ID)
	if err != nil {
		return nil, err
	}
	public, err := w.objects(sh, pkcs11.CKO_PUBLIC_KEY, "", nil)
	if err != nil {
		return nil, err
	}
	out := make([]candidate, 0, len(private))
	for _, o := range private {
		c := candidate{object: o, alg: curveOf(o.params)}
		// tpm2-pkcs11 answers for the point on the private object itself.
		if p, ok := publicKey(c.alg, o.point); ok {
			c.points = []worker.PublicKey{p}
		} else {
			c.points = pair(c.alg, o, public)
		}
		out = append(out, c)
	}
	return out, nil
}

// pair returns the distinct public keys that may belong to a private key: same
// curve and same id; without an id, same label.
func pair(alg worker.Algorithm, private object, public []object) []worker.PublicKey {
	var out []worker.PublicKey
	for _, o := range public {
		if !bytes.Equal(o.id, private.id) || !bytes.Equal(o.params, private.params) {
			continue
		}
		if len(o.id) == 0 && o.label != private.label {
			continue
		}
		if p, ok := publicKey(alg, o.point); ok && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// publicKey decodes CKA_EC_POINT. By the standard it is a DER OCTET STRING
// around the point; older modules give the bare point.
func publicKey(alg worker.Algorithm, value []byte) (worker.PublicKey, bool) {
	var point []byte
	if rest, err := asn1.Unmarshal(value, &point); err == nil && len(rest) == 0 {
		if k, err := worker.CompressPoint(alg, point); err == nil {
			return k, true
		}
	}
	k, err := worker.CompressPoint(alg, value)
	return k, err == nil
}

// objects lists the EC key objects of a class; empty label and id match all.
func (w *Worker) objects(sh pkcs11.SessionHandle, class uint, label string, id []byte) ([]object, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
	}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if len(id) > 0 {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	handles, err := w.find(sh, template)
	if err != nil {
		return nil, err
	}
	out := make([]object, 0, len(handles))
	for _, h := range handles {
		o := object{handle: h}
		var name []byte
		for _, field := range []struct {
			attr uint
			into *[]byte
		}{
			{pkcs11.CKA_LABEL, &name},
			{pkcs11.CKA_ID, &o.id},
			{pkcs11.CKA_EC_PARAMS, &o.params},
			{pkcs11.CKA_EC_POINT, &o.point},
		} {
			if *field.into, err = w.attribute(sh, h, field.attr); err != nil {
				return nil, err
			}
		}
		o.label = string(name)
		out = append(out, o)
	}
	return out, nil
}

// findBatch is how many handles one C_FindObjects call asks for.
const findBatch = 64

func (w *Worker) find(sh pkcs11.SessionHandle, template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := w.ctx.FindObjectsInit(sh, template); err != nil {
		return nil, returned("C_FindObjectsInit", err, "the token does not search its keys")
	}
	var out []pkcs11.ObjectHandle
	for {
		batch, _, err := w.ctx.FindObjects(sh, findBatch)
		if err != nil {
			return nil, returned("C_FindObjects", err, "the token does not search its keys")
		}
		if len(batch) == 0 {
			break
		}
		out = append(out, batch...)
	}
	if err := w.ctx.FindObjectsFinal(sh); err != nil {
		return nil, returned("C_FindObjectsFinal", err, "the token does not end its search")
	}
	return out, nil
}

// attribute reads one attribute; nil if the token does not answer for it. One
// at a time, because a token may fail the whole list for one it does not know.
func (w *Worker) attribute(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, attr uint) ([]byte, error) {
	got, err := w.ctx.GetAttributeValue(sh, h, []*pkcs11.Attribute{pkcs11.NewAttribute(attr, nil)})
	switch err {
	case nil:
		return got[0].Value, nil
	case pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID), pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE):
		return nil, nil
	}
	return nil, returned("C_GetAttributeValue", err, "the token does not show attribute %#x", attr)
}

func (w *Worker) attributes(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle) (a worker.Attributes, err error) {
	for _, field := range []struct {
		attr uint
		into *worker.Answer
	}{
		{pkcs11.CKA_SENSITIVE, &a.Sensitive},
		{pkcs11.CKA_ALWAYS_SENSITIVE, &a.AlwaysSensitive},
		{pkcs11.CKA_EXTRACTABLE, &a.Extractable},
		{pkcs11.CKA_NEVER_EXTRACTABLE, &a.NeverExtractable},
		{pkcs11.CKA_LOCAL, &a.Local},
		{pkcs11.CKA_SIGN, &a.Sign},
		{pkcs11.CKA_DECRYPT, &a.Decrypt},
		{pkcs11.CKA_UNWRAP, &a.Unwrap},
		{pkcs11.CKA_DERIVE, &a.Derive},
	} {
		value, err := w.attribute(sh, h, field.attr)
		if err != nil {
			return worker.Attributes{}, err
		}
		*field.into = answer(value)
	}
	return a, nil
}

// answer reads a CK_BBOOL; anything but one byte of 0 or 1 is no answer.
func answer(value []byte) worker.Answer {
	if len(value) == 1 {
		switch value[0] {
		case 0: // CK_FALSE
			return worker.False
		case 1: // CK_TRUE
			return worker.True
		}
	}
	return worker.NotAnswered
}
