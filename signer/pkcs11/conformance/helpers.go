package conformance

import (
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/worker"
)

type verdict struct {
	result conformance.Result
	value  string
	note   string
}

func pass(format string, args ...any) verdict {
	return verdict{result: conformance.Pass, value: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) verdict {
	return verdict{result: conformance.Fail, value: fmt.Sprintf(format, args...)}
}

func silent(err error) verdict {
	return verdict{result: conformance.NotAnswered, value: code(err)}
}

// that passes if ok, with value either way.
func that(ok bool, format string, args ...any) verdict {
	if ok {
		return pass(format, args...)
	}
	return fail(format, args...)
}

// oneOf passes if err is one of the codes. A function that is not supported at
// all is no answer.
func oneOf(err error, codes ...uint) verdict {
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_FUNCTION_NOT_SUPPORTED)) {
		return silent(err)
	}
	for _, c := range codes {
		if errors.Is(err, pkcs11.Error(c)) {
			return pass("%s", code(err))
		}
	}
	return fail("%s", code(err))
}

// tolerated is oneOf where some tokens see no mistake, and none is made by that.
func tolerated(err error, codes ...uint) verdict {
	if err == nil {
		return verdict{conformance.NotAnswered, code(err), "the mistake is not reported"}
	}
	return oneOf(err, codes...)
}

// refused passes for any code but CKR_OK.
func refused(err error) verdict { return that(err != nil, "%s", code(err)) }

// recoverable passes for a code that the worker answers with a new search or a
// new session.
func recoverable(err error) verdict {
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return fail("%s", code(err))
	}
	class := worker.RV(rv).Class()
	return that(class == worker.ClassReFind || class == worker.ClassNewSession, "%s", code(err))
}

func attr(kind uint, value any) *pkcs11.Attribute { return pkcs11.NewAttribute(kind, value) }

// oid is CKA_EC_PARAMS of a curve.
func oid(a worker.Algorithm) []byte {
	id := asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	if a == worker.P256 {
		id = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	}
	der, err := asn1.Marshal(id)
	if err != nil {
		panic(err) // constants
	}
	return der
}

// pair is a scratch key pair.
type pair struct {
	alg       worker.Algorithm
	pub, priv pkcs11.ObjectHandle
	point     worker.PublicKey
	id        []byte
}

// scratch is the label of everything that is made, and the only thing that is
// ever destroyed.
const scratch = "qcity-probe-scratch"

// sweep destroys scratch objects, also those of an earlier run that crashed.
func (b *bench) sweep() {
	found, err := b.find(b.sh, attr(pkcs11.CKA_LABEL, scratch))
	if err != nil {
		return
	}
	for _, h := range found {
		_ = b.ctx.DestroyObject(b.sh, h)
	}
}

func (b *bench) find(sh pkcs11.SessionHandle, template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := b.ctx.FindObjectsInit(sh, template); err != nil {
		return nil, err
	}
	var out []pkcs11.ObjectHandle
	for {
		batch, _, err := b.ctx.FindObjects(sh, 16)
		if err != nil {
			return nil, err
		}
		if len(batch) == 0 || len(out) > 10_000 {
			return out, b.ctx.FindObjectsFinal(sh)
		}
		out = append(out, batch...)
	}
}

// generate makes a pair in the token; more replaces or adds to the attributes
// of the private key, and a nil value removes one.
func (b *bench) generate(sh pkcs11.SessionHandle, alg worker.Algorithm, id byte, more ...*pkcs11.Attribute) (pair, error) {
	return b.generateOn(sh, oid(alg), pair{alg: alg, id: []byte{0x51, id}}, more...)
}

func (b *bench) generateOn(sh pkcs11.SessionHandle, params []byte, p pair, more ...*pkcs11.Attribute) (pair, error) {
	public := []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), // no CKA_VERIFY: tpm2-pkcs11 refuses a template with it
		attr(pkcs11.CKA_LABEL, scratch), attr(pkcs11.CKA_ID, p.id),
	}
	if params != nil {
		public = append(public, attr(pkcs11.CKA_EC_PARAMS, params))
	}
	private := []*pkcs11.Attribute{
		attr(pkcs11.CKA_TOKEN, true), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SIGN, true),
		attr(pkcs11.CKA_SENSITIVE, true), attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_DECRYPT, false), attr(pkcs11.CKA_UNWRAP, false),
		attr(pkcs11.CKA_LABEL, scratch), attr(pkcs11.CKA_ID, p.id),
	}
	for _, m := range more {
		private = slices.DeleteFunc(private, func(a *pkcs11.Attribute) bool { return a.Type == m.Type })
		if m.Value != nil {
			private = append(private, m)
		}
	}
	var err error
	p.pub, p.priv, err = b.ctx.GenerateKeyPair(sh, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN), public, private)
	return p, err
}

func mechanism(m uint) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, nil)}
}

// makeScratch generates the pair that the cases use, on secp256k1 if there is
// such a thing here.
func (b *bench) makeScratch() (err error) {
	for _, alg := range [...]worker.Algorithm{worker.Secp256k1, worker.P256} {
		if b.key, err = b.generate(b.sh, alg, 0); err == nil {
			point, err := b.value(b.key.pub, pkcs11.CKA_EC_POINT)
			if err == nil {
				b.key.point, err = publicKey(alg, point)
			}
			if err != nil {
				return fmt.Errorf("the scratch key has no public key: %w", err)
			}
			return nil
		}
	}
	return fmt.Errorf("the token generates no key on either curve (C_GenerateKeyPair: %s)", code(err))
}

// publicKey reads CKA_EC_POINT in either form.
func publicKey(alg worker.Algorithm, value []byte) (worker.PublicKey, error) {
	var inner []byte
	if rest, err := asn1.Unmarshal(value, &inner); err == nil && len(rest) == 0 {
		if k, err := worker.CompressPoint(alg, inner); err == nil {
			return k, nil
		}
	}
	return worker.CompressPoint(alg, value)
}

func (b *bench) value(h pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	got, err := b.ctx.GetAttributeValue(b.sh, h, []*pkcs11.Attribute{attr(kind, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

// flag reads a Boolean attribute of the scratch key: "true", "false", or the
// code with which it was not answered.
func (b *bench) flag(h pkcs11.ObjectHandle, kind uint) (string, error) {
	v, err := b.value(h, kind)
	switch {
	case err != nil:
		return "", err
	case len(v) == 1 && v[0] == 0:
		return "false", nil
	case len(v) == 1 && v[0] == 1:
		return "true", nil
	}
	return "", fmt.Errorf("%d bytes", len(v))
}

// boolean passes if the attribute has the value; silence is told apart.
func (b *bench) boolean(h pkcs11.ObjectHandle, kind uint, want string) verdict {
	got, err := b.flag(h, kind)
	if err != nil {
		return silent(err)
	}
	return that(got == want, "%s", got)
}

// recorded passes with any answer.
func (b *bench) recorded(h pkcs11.ObjectHandle, kind uint) verdict {
	got, err := b.flag(h, kind)
	if err != nil {
		return silent(err)
	}
	return pass("%s", got)
}

func (b *bench) sign(sh pkcs11.SessionHandle, key pkcs11.ObjectHandle, data []byte) ([]byte, error) {
	if err := b.ctx.SignInit(sh, mechanism(pkcs11.CKM_ECDSA), key); err != nil {
		return nil, err
	}
	return b.ctx.Sign(sh, data)
}

// fresh gives f a read-only session of its own.
func (b *bench) fresh(f func(pkcs11.SessionHandle) verdict) verdict {
	sh, err := b.ctx.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return fail("C_OpenSession: %s", code(err))
	}
	defer func() { _ = b.ctx.CloseSession(sh) }()
	return f(sh)
}

func digest(n int) []byte {
	d := sha256.Sum256(fmt.Append(nil, scratch, n))
	return d[:]
}

func (b *bench) verifies(d, sig []byte) bool {
	_, err := worker.CheckSignature(b.key.alg, b.key.point, [32]byte(d), sig)
	return err == nil
}

const (
	noSlot    = uint(0x7ffffff1)
	noSession = pkcs11.SessionHandle(0x7ffffff3)
	noObject  = pkcs11.ObjectHandle(0x7ffffff5)
	noCode    = uint(0x7ffffff7) // mechanism or attribute
)
