package pkcs11

import (
	"bytes"
	"testing"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

// TestInventory: keys, certificates and blank tokens as another program left them.
func TestInventory(t *testing.T) {
	w, token := newToken(t)
	w.makePair(t, token, pairSpec{params: curveOID(worker.Secp256k1), label: "ours", id: []byte{1}})
	w.makePair(t, token, pairSpec{params: p384, label: "theirs", id: []byte{2}})
	w.makePair(t, token, pairSpec{params: curveOID(worker.P256), label: "half", id: []byte{3}, withoutPublicHalf: true})
	keys := ask(t, w, &worker.Request{Op: worker.OpListKeys, Token: token}).Keys
	got := map[string]worker.Key{}
	for _, k := range keys {
		got[k.Label] = k
	}
	if len(keys) != 3 || got["ours"].PublicKey == (worker.PublicKey{}) || got["ours"].Attributes.Sign != worker.True ||
		got["theirs"].Algorithm != 0 || got["half"].PublicKey != (worker.PublicKey{}) {
		t.Errorf("keys %+v", keys)
	}

	der := []byte{0x30, 0x03, 1, 2, 3}
	sh, err := w.ctx.OpenSession(w.logins[token].slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer w.closeSession(sh)
	_, err = w.ctx.CreateObject(sh, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, "attestation"),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{1}),
		pkcs11.NewAttribute(pkcs11.CKA_SUBJECT, []byte{0x30, 0}),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, der),
	})
	if err != nil {
		t.Fatal(err)
	}
	certificates := ask(t, w, &worker.Request{Op: worker.OpListCertificates, Token: token}).Certificates
	if len(certificates) != 1 || certificates[0].Label != "attestation" || !bytes.Equal(certificates[0].ID, []byte{1}) || !bytes.Equal(certificates[0].DER, der) {
		t.Errorf("certificates %+v", certificates)
	}
	if blanks := ask(t, w, &worker.Request{Op: worker.OpListBlanks}).Tokens; len(blanks) != 1 || blanks[0].Label == "token" {
		t.Errorf("blank tokens %+v", blanks)
	}
	for _, op := range []worker.Op{worker.OpListKeys, worker.OpListCertificates} {
		resp := w.Handle(&worker.Request{Op: op, Token: worker.TokenRef{Label: "token", Serial: "0"}})
		if resp.Err == nil || resp.Err.Kind != worker.ErrNotLoggedIn {
			t.Errorf("%s of another token: %v", op, resp.Err)
		}
	}
}
