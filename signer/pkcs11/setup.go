package pkcs11

import (
	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

// maxLabel is the width of CK_TOKEN_INFO.label in bytes.
const maxLabel = 32

// initToken turns a free slot into a token. It cannot erase one: only a slot
// whose token is not initialised is taken.
func (w *Worker) initToken(label string, soPIN, pin []byte) (*worker.TokenInfo, error) {
	if label == "" || len(label) > maxLabel || trim(label) != label {
		return nil, failure(worker.ErrBadRequest, "token label %q must have 1 to %d bytes and no trailing blank", label, maxLabel)
	}
	if len(soPIN) == 0 || len(pin) == 0 {
		return nil, failure(worker.ErrPINInvalid, "token %q needs a security officer PIN and a user PIN", label)
	}
	slots, err := w.slots()
	if err != nil {
		return nil, err
	}
	var free *slotToken
	for i, s := range slots {
		if s.initialised && s.info.Label == label {
			return nil, failure(worker.ErrTokenExists, "a token labelled %q exists already: choose another label", label)
		}
		if !s.initialised && free == nil {
			free = &slots[i]
		}
	}
	if free == nil {
		return nil, failure(worker.ErrNoFreeSlot, "no slot with an uninitialised token is left for %q: connect a blank token", label)
	}
	// A user PIN that is refused after C_InitToken leaves a token that is neither blank
	// nor usable.
	if n := uint(len(pin)); n < free.minPIN || free.maxPIN > 0 && n > free.maxPIN {
		return nil, failure(worker.ErrPINInvalid, "the user PIN for token %q has a length that the token does not take: choose one of %d to %d characters", label, free.minPIN, free.maxPIN)
	}
	if err := w.ctx.InitToken(free.slot, secretString(soPIN), label); err != nil {
		return nil, pinFormFailure(returned("C_InitToken", err, "token %q was not initialised", label))
	}
	made, err := w.findLabel(label)
	if err != nil {
		return nil, err
	}
	if err := w.setUserPIN(made.slot, soPIN, pin); err != nil {
		return nil, err
	}
	made, err = w.findLabel(label)
	if err != nil {
		return nil, err
	}
	return &made.info, nil
}

func (w *Worker) findLabel(label string) (slotToken, error) {
	slots, err := w.slots()
	if err != nil {
		return slotToken{}, err
	}
	for _, s := range slots {
		if s.initialised && s.info.Label == label {
			return s, nil
		}
	}
	return slotToken{}, failure(worker.ErrTokenNotFound, "token %q was initialised but is not listed", label)
}

// setUserPIN logs in as security officer, sets the user PIN and logs out.
func (w *Worker) setUserPIN(slot uint, soPIN, pin []byte) error {
	sh, err := w.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return returned("C_OpenSession", err, "the new token opens no session")
	}
	defer w.closeSession(sh)
	if err := w.ctx.Login(sh, pkcs11.CKU_SO, secretString(soPIN)); err != nil {
		return returned("C_Login", err, "the new token does not accept its security officer PIN")
	}
	if err := w.ctx.InitPIN(sh, secretString(pin)); err != nil {
		return pinFormFailure(returned("C_InitPIN", err, "the new token's user PIN was not set"))
	}
	if err := w.ctx.Logout(sh); err != nil {
		return returned("C_Logout", err, "the new token does not log out its security officer")
	}
	return nil
}

// pinFormFailure gives a PIN the token does not take as a new one its own kind.
// SoftHSM calls a security officer PIN that is too short CKR_PIN_INCORRECT;
// other tokens say that when they already have one and it is another.
func pinFormFailure(e *worker.Error) *worker.Error {
	switch e.RV {
	case worker.RVPINInvalid, worker.RVPINLenRange, worker.RVPINTooWeak, worker.RVPINIncorrect:
		e.Kind = worker.ErrPINInvalid
		e.Message += ": the PIN is too short, too long or too simple for this token, or not the one its security officer has"
	}
	return e
}

// generateKey makes a key pair that can sign and nothing else and never leaves
// the token. Defaults are not relied on: SoftHSM makes keys that are not
// sensitive, and allows decryption and unwrapping, unless told otherwise.
func (w *Worker) generateKey(ref worker.TokenRef, q worker.KeyQuery) (*worker.Key, error) {
	params := curveOID(q.Algorithm)
	if params == nil || q.Label == "" || len(q.ID) == 0 {
		return nil, failure(worker.ErrBadRequest, "a new key needs a known algorithm, a label and an id, got %s", q)
	}
	l := w.logins[ref]
	if l == nil {
		return nil, failure(worker.ErrNotLoggedIn, "token %s is not logged in", ref)
	}
	// A session of its own: it must be read-write, the one for signing is not.
	sh, err := w.ctx.OpenSession(l.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, returned("C_OpenSession", err, "token %s opens no session for writing", ref)
	}
	defer w.closeSession(sh)
	if err := w.nameFree(ref, sh, q); err != nil {
		return nil, err
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	public, private := keyTemplates(params, q)
	if _, _, err := w.ctx.GenerateKeyPair(sh, mechanism, public, private); err != nil {
		e := returned("C_GenerateKeyPair", err, "token %s does not generate a %s key", ref, q.Algorithm)
		if e.RV == worker.RVCurveNotSupported || e.RV == worker.RVDomainParamsInvalid {
			e.Kind = worker.ErrKeyCurve
			e.Message += ": it does not offer this curve"
		}
		return nil, e
	}
	return w.findKey(ref, q)
}

// nameFree refuses a label or an id that any EC key object already has.
func (w *Worker) nameFree(ref worker.TokenRef, sh pkcs11.SessionHandle, q worker.KeyQuery) error {
	for _, class := range [...]uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		for _, name := range [...]worker.KeyQuery{{Label: q.Label}, {ID: q.ID}} {
			taken, err := w.objects(sh, class, name.Label, name.ID)
			if err != nil {
				return err
			}
			if len(taken) > 0 {
				return failure(worker.ErrKeyExists, "token %s already has a key with %s: choose another label and id", ref, name)
			}
		}
	}
	return nil
}

// keyTemplates says nothing of CKA_VERIFY and CKA_ENCRYPT for the public half,
// which protects nothing: tpm2-pkcs11 1.9 refuses a template with either.
func keyTemplates(params []byte, q worker.KeyQuery) (public, private []*pkcs11.Attribute) {
	public = []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, q.Label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, q.ID),
	}
	private = []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, q.Label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, q.ID),
	}
	return public, private
}
