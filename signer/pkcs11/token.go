package pkcs11

import (
	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/pkcs11/native"
	"qcitycoin.org/qcity/signer/worker"
)

// slotToken is a token and where it sits right now.
type slotToken struct {
	slot        uint
	initialised bool
	info        worker.TokenInfo
	minPIN      uint // lengths in bytes; 0: the token does not say
	maxPIN      uint
}

// slots lists every slot with a token in it, initialised or not. A slot whose
// token cannot be read is passed over: it must not hide the others.
func (w *Worker) slots() ([]slotToken, error) {
	ids, err := w.ctx.GetSlotList(true)
	if err != nil {
		return nil, returned("C_GetSlotList", err, "the PKCS#11 module does not list its slots")
	}
	var out []slotToken
	for _, id := range ids {
		t, err := w.ctx.GetTokenInfo(id)
		if err != nil {
			if w.passed[id] != err.Error() { // once, as absent tokens are looked for often
				w.passed[id] = err.Error()
				w.log.Warn("token passed over", "slot", id, "err", returned("C_GetTokenInfo", err, "the token does not say what it is"))
			}
			continue
		}
		delete(w.passed, id)
		out = append(out, slotToken{
			slot: id, initialised: t.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0, info: tokenInfo(t),
			minPIN: t.MinPinLen, maxPIN: t.MaxPinLen,
		})
	}
	return out, nil
}

func tokenInfo(t pkcs11.TokenInfo) worker.TokenInfo {
	return worker.TokenInfo{
		TokenRef:       worker.TokenRef{Label: trim(t.Label), Serial: trim(t.SerialNumber)},
		Manufacturer:   trim(t.ManufacturerID),
		Model:          trim(t.Model),
		Firmware:       version(t.FirmwareVersion),
		PINInitialised: t.Flags&pkcs11.CKF_USER_PIN_INITIALIZED != 0,
		PINCountLow:    t.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0,
		PINFinalTry:    t.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0,
		PINLocked:      t.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0,
		PINExpired:     t.Flags&pkcs11.CKF_USER_PIN_TO_BE_CHANGED != 0,
		PINAtDevice:    t.Flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0,
	}
}

func (w *Worker) listTokens() ([]worker.TokenInfo, error) {
	slots, err := w.slots()
	if err != nil {
		return nil, err
	}
	var out []worker.TokenInfo
	for _, s := range slots {
		if s.initialised {
			out = append(out, s.info)
		}
	}
	return out, nil
}

// findToken returns the one initialised token with this label and serial.
func (w *Worker) findToken(ref worker.TokenRef) (slotToken, error) {
	var found slotToken
	if ref.Label == "" || ref.Serial == "" {
		return found, failure(worker.ErrBadRequest, "a token is addressed by label and serial, got %s", ref)
	}
	slots, err := w.slots()
	if err != nil {
		return found, err
	}
	n := 0
	for _, s := range slots {
		if s.initialised && s.info.TokenRef == ref {
			found = s
			n++
		}
	}
	switch n {
	case 0:
		return found, failure(worker.ErrTokenNotFound, "token %s is not there: connect it, or correct label and serial", ref)
	case 1:
		return found, nil
	}
	return found, failure(worker.ErrTokenAmbiguous, "%d tokens call themselves %s: disconnect all but one", n, ref)
}

// login makes at most one C_Login call. At the device means without a PIN from
// here: the token asks for it itself (PKCS#11, C_Login with a null pointer).
func (w *Worker) login(ref worker.TokenRef, pin []byte, atDevice bool) (*worker.TokenInfo, error) {
	if atDevice != (len(pin) == 0) {
		return nil, failure(worker.ErrPINInvalid, "the PIN for token %s is empty", ref)
	}
	if w.logins[ref] != nil {
		return nil, failure(worker.ErrAlreadyLoggedIn, "token %s is logged in already", ref)
	}
	t, err := w.findToken(ref)
	if err != nil {
		return nil, err
	}
	if err := checkPINState(t.info); err != nil {
		return nil, err
	}
	if atDevice && !t.info.PINAtDevice {
		return nil, failure(worker.ErrNoPINPad, "token %s has no way to enter a PIN at the device: name another source of the PIN", ref)
	}
	anchor, err := w.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, returned("C_OpenSession", err, "token %s opens no session", ref)
	}
	if err := native.Login(w.ctx, anchor, pin); err != nil {
		w.closeSession(anchor)
		return nil, loginFailure(ref, err)
	}
	w.logins[ref] = newLogin(t.slot, anchor, w.sessions)
	return &t.info, nil
}

// checkPINState refuses, before any try is spent, what cannot succeed or what
// could lock the token.
func checkPINState(t worker.TokenInfo) error {
	switch {
	case !t.PINInitialised:
		return failure(worker.ErrTokenNotReady, "token %s has no user PIN yet: its security officer must set one", t.TokenRef)
	case t.PINLocked:
		return failure(worker.ErrPINLocked, "the PIN of token %s is locked: its security officer must unlock it", t.TokenRef)
	case t.PINFinalTry:
		return failure(worker.ErrPINFinalTry, "token %s locks at the next wrong PIN, so none is tried: log in once with the vendor's tool, or let its security officer reset the PIN", t.TokenRef)
	case t.PINExpired:
		return failure(worker.ErrPINExpired, "the PIN of token %s must be changed with the vendor's tool before it can be used", t.TokenRef)
	}
	return nil
}

// loginFailure gives the PIN codes their kinds.
func loginFailure(ref worker.TokenRef, err error) *worker.Error {
	e := returned("C_Login", err, "login to token %s failed", ref)
	switch e.RV {
	case worker.RVPINIncorrect:
		e.Kind = worker.ErrPINIncorrect
		e.Message = "the PIN for token " + ref.String() + " is wrong: it was tried once and is not tried again; correct it before the next start, because tokens lock"
	case worker.RVPINLocked:
		e.Kind = worker.ErrPINLocked
		e.Message = "the PIN of token " + ref.String() + " is locked: its security officer must unlock it"
	case worker.RVPINExpired:
		e.Kind = worker.ErrPINExpired
		e.Message = "the PIN of token " + ref.String() + " has expired: change it with the vendor's tool"
	case worker.RVPINInvalid, worker.RVPINLenRange, worker.RVPINTooWeak, worker.RVArgumentsBad:
		e.Kind = worker.ErrPINInvalid
		e.Message = "the PIN for token " + ref.String() + " has a length or form the token never accepts"
	case worker.RVUserPINNotInit:
		e.Kind = worker.ErrTokenNotReady
		e.Message = "token " + ref.String() + " has no user PIN yet: its security officer must set one"
	}
	return e
}
