package pkcs11

import (
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/worker"
)

const userPIN, soPIN = "user-pin-4711", "so-pin-0815"

// newToken opens SoftHSM inside this process, with one token, logged in.
func newToken(t testing.TB) (*Worker, worker.TokenRef) {
	t.Helper()
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	w := NewWorker(slog.New(slog.DiscardHandler))
	ask(t, w, &worker.Request{Op: worker.OpOpen, Protocol: worker.Protocol, Module: module})
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	token := ask(t, w, &worker.Request{Op: worker.OpInitToken, Token: worker.TokenRef{Label: "token"}, PIN: []byte(userPIN), SOPIN: []byte(soPIN)}).Token.TokenRef
	ask(t, w, &worker.Request{Op: worker.OpLogin, Token: token, PIN: []byte(userPIN)})
	return w, token
}

func ask(t testing.TB, w *Worker, req *worker.Request) *worker.Response {
	t.Helper()
	resp := w.Handle(req)
	if resp.Err != nil {
		t.Fatalf("%s: %v", req.Op, resp.Err)
	}
	return resp
}

// pairSpec is a key pair as another program might have made it.
type pairSpec struct {
	params            []byte
	label             string
	id                []byte
	private           []*pkcs11.Attribute // besides the usual
	withoutPublicHalf bool
}

func (w *Worker) makePair(t *testing.T, ref worker.TokenRef, p pairSpec) {
	t.Helper()
	sh, err := w.ctx.OpenSession(w.logins[ref].slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer w.closeSession(sh)
	public := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p.params),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, p.label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, p.id),
	}
	private := append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, p.label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, p.id),
	}, p.private...)
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	pub, _, err := w.ctx.GenerateKeyPair(sh, mechanism, public, private)
	if err != nil {
		t.Fatal(err)
	}
	if p.withoutPublicHalf {
		if err := w.ctx.DestroyObject(sh, pub); err != nil {
			t.Fatal(err)
		}
	}
}

// p384 is 1.3.132.0.34, a curve that is not ours.
var p384 = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}

func TestFindKey(t *testing.T) {
	k1, r1 := curveOID(worker.Secp256k1), curveOID(worker.P256)
	pair := func(params []byte, label string, id byte) pairSpec {
		return pairSpec{params: params, label: label, id: []byte{id}}
	}
	orphan := pair(k1, "orphan", 1)
	orphan.withoutPublicHalf = true
	for _, tc := range []struct {
		name  string
		pairs []pairSpec
		query worker.KeyQuery
		want  worker.Kind // empty: found
	}{
		{"empty token", nil, worker.KeyQuery{}, worker.ErrKeyNotFound},
		{"the only key", []pairSpec{pair(k1, "a", 1)}, worker.KeyQuery{}, ""},
		{"by algorithm among both", []pairSpec{pair(k1, "a", 1), pair(r1, "b", 2)}, worker.KeyQuery{Algorithm: worker.P256}, ""},
		{"nothing asked, two there", []pairSpec{pair(k1, "a", 1), pair(r1, "b", 2)}, worker.KeyQuery{}, worker.ErrKeyAmbiguous},
		{"one label, two ids, by label", []pairSpec{pair(k1, "a", 1), pair(k1, "a", 2)}, worker.KeyQuery{Label: "a"}, worker.ErrKeyAmbiguous},
		{"one label, two ids, by id", []pairSpec{pair(k1, "a", 1), pair(k1, "a", 2)}, worker.KeyQuery{ID: []byte{2}}, ""},
		{"one id, two labels, by label", []pairSpec{pair(k1, "a", 1), pair(k1, "b", 1)}, worker.KeyQuery{Label: "b"}, worker.ErrKeyAmbiguous},
		{"one id on two curves, by label", []pairSpec{pair(k1, "a", 1), pair(r1, "b", 1)}, worker.KeyQuery{Label: "b"}, ""},
		{"same label and id", []pairSpec{pair(k1, "a", 1), pair(k1, "a", 1)}, worker.KeyQuery{Label: "a", ID: []byte{1}}, worker.ErrKeyAmbiguous},
		{"same label and id on two curves", []pairSpec{pair(k1, "a", 1), pair(r1, "a", 1)}, worker.KeyQuery{Algorithm: worker.P256}, worker.ErrKeyDuplicate},
		{"same label and id on a foreign curve", []pairSpec{pair(k1, "a", 1), pair(p384, "a", 1)}, worker.KeyQuery{Algorithm: worker.Secp256k1}, worker.ErrKeyDuplicate},
		{"label and id of different keys", []pairSpec{pair(k1, "a", 1), pair(k1, "b", 2)}, worker.KeyQuery{Label: "a", ID: []byte{2}}, worker.ErrKeyNotFound},
		{"foreign curve by label", []pairSpec{pair(p384, "a", 1)}, worker.KeyQuery{Label: "a"}, worker.ErrKeyCurve},
		{"foreign curve does not disturb", []pairSpec{pair(p384, "a", 1), pair(k1, "b", 2)}, worker.KeyQuery{}, ""},
		{"other curve than asked for", []pairSpec{pair(r1, "a", 1)}, worker.KeyQuery{Label: "a", Algorithm: worker.Secp256k1}, worker.ErrKeyCurve},
		{"no public half", []pairSpec{orphan}, worker.KeyQuery{Label: "orphan"}, worker.ErrKeyNotFound},
		{"id empty, by label", []pairSpec{{params: k1, label: "a"}, {params: k1, label: "b"}}, worker.KeyQuery{Label: "b"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, token := newToken(t)
			for _, p := range tc.pairs {
				w.makePair(t, token, p)
			}
			resp := w.Handle(&worker.Request{Op: worker.OpFindKey, Token: token, Key: tc.query})
			if tc.want != "" {
				if resp.Err == nil || !errors.Is(resp.Err, tc.want) {
					t.Fatalf("got %+v, %v, want %s", resp.Key, resp.Err, tc.want)
				}
				return
			}
			if resp.Err != nil {
				t.Fatal(resp.Err)
			}
			// What was found must be what signs.
			d := [32]byte{1, 2, 3}
			sig := ask(t, w, &worker.Request{Op: worker.OpSign, Token: token, Key: worker.KeyQuery{Algorithm: resp.Key.Algorithm, PublicKey: resp.Key.PublicKey}, Digest: d[:]}).Signature
			if _, err := worker.CheckSignature(resp.Key.Algorithm, resp.Key.PublicKey, d, sig); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAmbiguousPublicKey: two keys with one id cannot be told apart by their
// public keys either, because nothing says which half belongs to which.
func TestAmbiguousPublicKey(t *testing.T) {
	w, token := newToken(t)
	w.makePair(t, token, pairSpec{params: curveOID(worker.P256), label: "a", id: []byte{1}})
	key := ask(t, w, &worker.Request{Op: worker.OpFindKey, Token: token}).Key
	w.makePair(t, token, pairSpec{params: curveOID(worker.P256), label: "a", id: []byte{1}})
	resp := w.Handle(&worker.Request{Op: worker.OpFindKey, Token: token, Key: worker.KeyQuery{PublicKey: key.PublicKey}})
	if resp.Err == nil || !errors.Is(resp.Err, worker.ErrKeyAmbiguous) {
		t.Fatalf("got %+v, %v, want %s", resp.Key, resp.Err, worker.ErrKeyAmbiguous)
	}
}

func TestWeakKeysAreDetected(t *testing.T) {
	attr := func(sensitive, extractable bool) []*pkcs11.Attribute {
		return []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, sensitive),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, extractable),
		}
	}
	for _, tc := range []struct {
		name    string
		private []*pkcs11.Attribute
		want    worker.Attributes
		weak    bool
	}{
		{"protected", attr(true, false), worker.Attributes{Sensitive: "true", AlwaysSensitive: "true", Extractable: "false", NeverExtractable: "true", Local: "true", Sign: "true", Decrypt: "true", Unwrap: "true", Derive: "false"}, false},
		{"extractable", attr(true, true), worker.Attributes{Sensitive: "true", AlwaysSensitive: "true", Extractable: "true", NeverExtractable: "false", Local: "true", Sign: "true", Decrypt: "true", Unwrap: "true", Derive: "false"}, true},
		{"not sensitive", attr(false, false), worker.Attributes{Sensitive: "false", AlwaysSensitive: "false", Extractable: "false", NeverExtractable: "true", Local: "true", Sign: "true", Decrypt: "true", Unwrap: "true", Derive: "false"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, token := newToken(t)
			w.makePair(t, token, pairSpec{params: curveOID(worker.Secp256k1), label: "a", id: []byte{1}, private: tc.private})
			got := ask(t, w, &worker.Request{Op: worker.OpFindKey, Token: token}).Key.Attributes
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if err := got.Check(); (err != nil) != tc.weak || tc.weak && !errors.Is(err, worker.ErrKeyUnprotected) {
				t.Errorf("got %v, want weak %t", err, tc.weak)
			}
		})
	}
}

// TestGeneratedKeyIsLockedDown reads what package worker does not report.
func TestGeneratedKeyIsLockedDown(t *testing.T) {
	w, token := newToken(t)
	key := ask(t, w, &worker.Request{Op: worker.OpGenerateKey, Token: token, Key: worker.KeyQuery{Algorithm: worker.Secp256k1, Label: "k", ID: []byte{1}}}).Key
	l := w.logins[token]
	s := l.idle[0]
	h := s.keys[keyName{key.Algorithm, key.PublicKey}]
	for name, tc := range map[string]struct {
		attr uint
		want worker.Answer
	}{
		"private":    {pkcs11.CKA_PRIVATE, worker.True},
		"token":      {pkcs11.CKA_TOKEN, worker.True},
		"modifiable": {pkcs11.CKA_MODIFIABLE, worker.False},
		"decrypt":    {pkcs11.CKA_DECRYPT, worker.False},
		"unwrap":     {pkcs11.CKA_UNWRAP, worker.False},
		"derive":     {pkcs11.CKA_DERIVE, worker.False},
	} {
		value, err := w.attribute(s.handle, h, tc.attr)
		if err != nil || answer(value) != tc.want {
			t.Errorf("%s: got %x, %v, want %s", name, value, err, tc.want)
		}
	}
	if _, err := w.ctx.GetAttributeValue(s.handle, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); err == nil {
		t.Error("the private key can be read")
	}
}

// SoftHSM signs any of these; the worker must not even ask.
func TestDigestLengths(t *testing.T) {
	w, token := newToken(t)
	key := ask(t, w, &worker.Request{Op: worker.OpGenerateKey, Token: token, Key: worker.KeyQuery{Algorithm: worker.Secp256k1, Label: "k", ID: []byte{1}}}).Key
	q := worker.KeyQuery{Algorithm: key.Algorithm, PublicKey: key.PublicKey}
	for _, n := range []int{0, 20, 31, 33, 48, 64} {
		resp := w.Handle(&worker.Request{Op: worker.OpSign, Token: token, Key: q, Digest: make([]byte, n)})
		if resp.Err == nil || !errors.Is(resp.Err, worker.ErrBadRequest) || resp.Signature != nil {
			t.Errorf("%d bytes: got %x, %v", n, resp.Signature, resp.Err)
		}
	}
	ask(t, w, &worker.Request{Op: worker.OpSign, Token: token, Key: q, Digest: make([]byte, 32)})
}

// TestFailureDropsHandles: after any failure the session and every handle
// found in it are gone, and the next call finds the key again.
func TestFailureDropsHandles(t *testing.T) {
	w, token := newToken(t)
	key := ask(t, w, &worker.Request{Op: worker.OpGenerateKey, Token: token, Key: worker.KeyQuery{Algorithm: worker.P256, Label: "k", ID: []byte{1}}}).Key
	q := worker.KeyQuery{Algorithm: key.Algorithm, PublicKey: key.PublicKey}
	sign := &worker.Request{Op: worker.OpSign, Token: token, Key: q, Digest: make([]byte, 32)}
	l := w.logins[token]
	s := l.idle[0]
	for h := range s.keys {
		s.keys[h] = 0xdead
	}
	resp := w.Handle(sign)
	if resp.Err == nil || worker.Classify(resp.Err) != worker.ClassReFind || l.live != 0 || len(l.idle) != 0 {
		t.Fatalf("got %v, %d sessions are open", resp.Err, l.live)
	}
	ask(t, w, sign)
}

func TestRequestOrder(t *testing.T) {
	w := NewWorker(slog.New(slog.DiscardHandler))
	opened, token := newToken(t)
	for _, tc := range []struct {
		name string
		w    *Worker
		req  worker.Request
		want worker.Kind
	}{
		{"sign before open", w, worker.Request{Op: worker.OpSign}, worker.ErrBadRequest},
		{"other protocol", w, worker.Request{Op: worker.OpOpen, Protocol: worker.Protocol + 1}, worker.ErrBadRequest},
		{"open twice", opened, worker.Request{Op: worker.OpOpen, Protocol: worker.Protocol}, worker.ErrBadRequest},
		{"unknown operation", opened, worker.Request{Op: "export-key"}, worker.ErrBadRequest},
		{"login twice", opened, worker.Request{Op: worker.OpLogin, Token: token, PIN: []byte(userPIN)}, worker.ErrAlreadyLoggedIn},
		{"find without login", opened, worker.Request{Op: worker.OpFindKey, Token: worker.TokenRef{Label: "x", Serial: "y"}}, worker.ErrNotLoggedIn},
		{"generate without login", opened, worker.Request{Op: worker.OpGenerateKey, Key: worker.KeyQuery{Algorithm: 1, Label: "l", ID: []byte{1}}}, worker.ErrNotLoggedIn},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if resp := tc.w.Handle(&tc.req); resp.Err == nil || !errors.Is(resp.Err, tc.want) {
				t.Errorf("got %v, want %s", resp.Err, tc.want)
			}
		})
	}
}

func TestPublicKeyForms(t *testing.T) {
	g := elliptic.P256().Params()
	point := make([]byte, 65)
	point[0] = 4
	g.Gx.FillBytes(point[1:33])
	g.Gy.FillBytes(point[33:])
	wrapped, err := asn1.Marshal(point)
	if err != nil {
		t.Fatal(err)
	}
	want, err := worker.CompressPoint(worker.P256, point)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		value []byte
		ok    bool
	}{
		{"octet string", wrapped, true},
		{"bare point", point, true},
		{"compressed", want[:], true},
		{"trailing byte", append(wrapped[:len(wrapped):len(wrapped)], 0), false},
		{"cut short", wrapped[:66], false},
		{"empty", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := publicKey(worker.P256, tc.value)
			if ok != tc.ok || ok && got != want {
				t.Errorf("got %s, %t, want %t", got, ok, tc.ok)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	for _, tc := range []struct {
		value []byte
		want  worker.Answer
	}{
		{nil, worker.NotAnswered},
		{[]byte{0}, worker.False},
		{[]byte{1}, worker.True},
		{[]byte{2}, worker.NotAnswered},
		{[]byte{1, 0, 0, 0}, worker.NotAnswered},
	} {
		if got := answer(tc.value); got != tc.want {
			t.Errorf("%x: got %q, want %q", tc.value, got, tc.want)
		}
	}
}

// FuzzPublicKey: whatever a token puts into CKA_EC_POINT, no panic, and what
// is accepted is a point of the curve.
func FuzzPublicKey(f *testing.F) {
	f.Add([]byte{4, 33, 2})
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, alg := range []worker.Algorithm{worker.Secp256k1, worker.P256} {
			if k, ok := publicKey(alg, value); ok {
				if again, err := worker.CompressPoint(alg, k[:]); err != nil || again != k {
					t.Fatalf("%x became %s, then %v", value, k, err)
				}
			}
		}
	})
}

// BenchmarkBareSign is C_SignInit and C_Sign in this process and nothing else.
func BenchmarkBareSign(b *testing.B) {
	for _, alg := range []worker.Algorithm{worker.Secp256k1, worker.P256} {
		b.Run(alg.String(), func(b *testing.B) {
			w, token := newToken(b)
			ask(b, w, &worker.Request{Op: worker.OpGenerateKey, Token: token, Key: worker.KeyQuery{Algorithm: alg, Label: "k", ID: []byte{1}}})
			s := w.logins[token].idle[0]
			var key pkcs11.ObjectHandle
			for _, h := range s.keys {
				key = h
			}
			digest := make([]byte, 32)
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := w.ctx.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, key); err != nil {
					b.Fatal(err)
				}
				if _, err := w.ctx.Sign(s.handle, digest); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
