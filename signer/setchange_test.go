package signer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

// setChange is a request of validator 0 to put a new key in the place of the one
// with this number.
func (b *bench) setChange(tb testing.TB, out int, in softKey) authority.SetChangeRequest {
	tb.Helper()
	keys := publics(b.keys)
	keys[out] = in.public
	challenge := []byte("asked by the officers")
	p, err := authority.Propose(b.network, authority.Chain{Current: firstSet(b.network)}, keys, []proof.Proof{{
		Key: in.public, Network: b.network.ID, Challenge: challenge,
		Signature: in.sign(proof.Digest(b.network.ID, in.public, challenge)),
	}}, "a new box", time.Unix(parentTime, 0))
	if err != nil {
		tb.Fatal(err)
	}
	return p.Request(0, authority.Authorisation{People: []string{"Ada Adler", "Bob Berg"}, Fingerprint: authority.Fingerprint(p.Next())})
}

// TestSignSetChange: rules, claim, token, verification, seal, audit; of one number
// a key signs one set, whatever fails, and the same again as the same bytes.
func TestSignSetChange(t *testing.T) {
	b := newBench(t)
	joins := newSoftKey(types.P256, 50)
	r, rival := b.setChange(t, 3, joins), b.setChange(t, 4, joins)
	ask := func(r authority.SetChangeRequest) (Response, error) { return b.service.SignSetChange(t.Context(), r) }

	alone := r
	alone.Authorisation.People = alone.Authorisation.People[:1]
	b.wantRefused(t, Rule(authority.RulePeople), func() (Response, error) { return ask(alone) })

	away := errors.New("token is away")
	b.token.before = func() error { return away }
	if _, err := ask(r); !errors.Is(err, ErrUnavailable) || !errors.Is(err, away) {
		t.Fatalf("got %v", err)
	}
	b.token.before = nil
	_, err := ask(rival)
	wantRule(t, err, RuleSetDouble)

	b.token.after = func(s [64]byte) [64]byte { s[9] ^= 1; return s }
	if _, err := ask(r); !errors.Is(err, ErrInternal) {
		t.Fatalf("got %v", err)
	}
	b.token.after = nil
	b.resume(t)
	first, err := ask(r)
	if err != nil {
		t.Fatal(err)
	}
	key, digest, err := r.Check(b.network)
	if err == nil {
		err = key.Verify(digest, [64]byte(first.Signature))
	}
	if err != nil {
		t.Fatal(err)
	}
	e := b.audit.last()
	if e.Event != audit.EventSigned || e.Kind != audit.KindSetChange || e.Height != 1 || e.Digest != digest || e.Actor != "Ada Adler, Bob Berg" || !strings.Contains(e.Detail, "a new box") {
		t.Fatalf("entry %+v", e)
	}
	b.limit = RateLimit{}
	b.open(t, publics(b.keys))
	b.token.ready = errors.New("token is away")
	signed := b.token.signed
	again, err := ask(r)
	if err != nil || !again.Repeated || string(again.Signature) != string(first.Signature) || b.token.signed != signed {
		t.Fatalf("again: %+v, %v", again, err)
	}
	b.limit, b.token.ready = RateLimit{1e6, 1e6}, nil
	b.open(t, publics(b.keys))
	_, err = ask(rival)
	wantRule(t, err, RuleSetDouble)

	b.open(t, publics(b.keys[1:]))
	_, err = ask(r)
	wantRule(t, err, RuleKeyNotHeld)
}
