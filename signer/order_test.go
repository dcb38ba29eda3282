package signer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

// TestAuditBeforeRelease: what cannot be written into the audit log is not
// released, and is once it can be, as the same bytes and with an entry.
func TestAuditBeforeRelease(t *testing.T) {
	b := newBench(t)
	p := b.proposal(testSlot, 0, 1)
	b.audit.fails = errors.New("disk full")
	if _, err := b.sign(p); !errors.Is(err, ErrInternal) || !strings.Contains(err.Error(), "audit log") {
		t.Fatalf("got %v", err)
	}
	record, ok, err := b.service.SlotRecord(t.Context(), testSlot)
	if err != nil || !ok || record.State != Sealed {
		t.Fatalf("journal has %+v, %v", record, err)
	}
	// Still full: also a repeat is kept back, as its first release was never booked.
	if _, err := b.sign(p); !errors.Is(err, ErrInternal) {
		t.Fatalf("got %v", err)
	}
	b.audit.fails = nil
	r := b.mustSign(t, p)
	if e := b.audit.last(); e.Event != audit.EventRepeated || e.Signature != [64]byte(r.Signature) || string(r.Signature) != string(record.Signature) || e.Height != testSlot {
		t.Fatalf("entry %+v", e)
	}
}

// TestAuditEntries: every answer has its entry, and many that release nothing
// have one with their number.
func TestAuditEntries(t *testing.T) {
	b := newBench(t)
	p := b.proposal(testSlot, 0, 1)
	r := b.mustSign(t, p)
	want := audit.Entry{
		Time: b.now, Event: audit.EventSigned, Kind: audit.KindBlock, Height: testSlot, Key: b.keys[0].public,
		Digest: b.network.Digest(p), Signature: [64]byte(r.Signature),
	}
	if e := b.audit.last(); e != want {
		t.Fatalf("%+v", e)
	}
	rival := b.proposal(testSlot, 0, 2)
	if _, err := b.sign(rival); err == nil {
		t.Fatal("signed")
	}
	if e := b.audit.last(); e.Event != audit.EventRefused || e.Rule != string(RuleDoubleSign) || e.Digest != b.network.Digest(rival) || e.Detail == "" {
		t.Fatalf("%+v", e)
	}
	b.token.ready = errors.New("away")
	if _, err := b.sign(b.proposal(2*testSlot, 0, 1)); err == nil {
		t.Fatal("signed")
	}
	if e := b.audit.last(); e.Event != audit.EventFailed || !strings.Contains(e.Detail, "away") {
		t.Fatalf("%+v", e)
	}
	b.token.ready = nil
	before := len(b.audit.entries)
	for range 3 * noiseBurst {
		if _, err := b.sign(rival); err == nil {
			t.Fatal("signed")
		}
	}
	// The clock stands: a burst and no more.
	if n := len(b.audit.entries) - before; n > noiseBurst {
		t.Fatalf("%d entries for %d refusals", n, 3*noiseBurst)
	}
	b.now = b.now.Add(time.Minute)
	if _, err := b.sign(rival); err == nil {
		t.Fatal("signed")
	}
	if e := b.audit.last(); !strings.Contains(e.Detail, "were not logged") {
		t.Fatalf("%+v", e)
	}
	if n := b.service.Status(t.Context()).Refusals[RuleDoubleSign]; n != 3*noiseBurst+2 {
		t.Fatalf("counted %d", n)
	}
}

// movingAudit is an audit log whose entries have hashes that tell them apart.
type movingAudit struct{ memoryAudit }

func hashOf(seq uint64) types.Hash { return types.Hash{byte(seq), 0x77} }

func (a *movingAudit) Head() audit.Head {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := uint64(len(a.entries))
	return audit.Head{Seq: n, Hash: hashOf(n)}
}

func (a *movingAudit) HashAt(seq uint64) (types.Hash, error) { return hashOf(seq), nil }

// TestAnchor: a block carries an end of the audit log, of the last block signed
// or later, and the right one, also after a restart.
func TestAnchor(t *testing.T) {
	b := newBench(t)
	log := new(movingAudit)
	start := func() {
		t.Helper()
		b.open(t, publics(b.keys))
		var err error
		b.service, err = NewService(ServiceConfig{
			Network: b.network, Journal: b.journal, Token: b.token, Audit: log, Keys: publics(b.keys),
			Limit: b.limit, Clock: func() time.Time { return b.now }, Log: quiet(),
		})
		if err == nil {
			err = b.service.Seen(t.Context(), SeenRequest{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	start()
	ask := func(height uint32, outputs ...types.TxOut) error {
		p := remade(b.proposal(height, 0, 1), func(p *consensus.Proposal) { p.CoinOnline.Outputs = append(p.CoinOnline.Outputs[:2], outputs...) })
		_, err := b.sign(p)
		return err
	}
	at := func(seq uint64) types.TxOut { return anchorOutput(audit.Head{Seq: seq, Hash: hashOf(seq)}) }
	wantRule(t, ask(testSlot), RuleAnchor)
	wantRule(t, ask(testSlot, at(log.Head().Seq+1)), RuleAnchor)
	wantRule(t, ask(testSlot, anchorOutput(audit.Head{Seq: 1, Hash: hashOf(2)})), RuleAnchor)
	if err := ask(testSlot, at(2)); err != nil {
		t.Fatal(err)
	}
	wantRule(t, ask(2*testSlot, at(1)), RuleAnchor)
	start()
	wantRule(t, ask(2*testSlot, at(1)), RuleAnchor)
	if err := ask(2*testSlot, at(log.Head().Seq)); err != nil {
		t.Fatal(err)
	}
}

// TestHeightAhead: no height that the chain cannot have reached takes those below
// it from a key, in a block or in a vote.
func TestHeightAhead(t *testing.T) {
	b := newBench(t)
	top := uint32(b.network.HighestHeight(b.now.Unix()))
	far := top - top%testSlot + testSlot
	// Of a block, the work that its parent must have by then says the same.
	_, err := b.sign(b.proposal(far, 0, 1))
	wantRule(t, err, Rule(consensus.RuleBits))
	e := b.voting()
	_, err = b.attest(e.ballot(e.at(0, 0), far, 0, 1))
	wantRule(t, err, RuleAhead)
	b.mustAttest(t, e.ballot(e.at(0, 0), far-testSlot, 0, 1))
}

// TestHalt: nothing is signed and nothing released again, over a restart too,
// until two people resume; and a bad signature halts by itself.
func TestHalt(t *testing.T) {
	b := newBench(t)
	file := t.TempDir() + "/halt.json"
	start := func() {
		t.Helper()
		s, err := NewService(ServiceConfig{
			Network: b.network, Journal: b.journal, Token: b.token, Audit: b.audit, Keys: publics(b.keys),
			Limit: b.limit, HaltFile: file, Clock: func() time.Time { return b.now }, Log: quiet(),
		})
		if err == nil {
			err = s.Seen(t.Context(), SeenRequest{})
		}
		if err != nil {
			t.Fatal(err)
		}
		b.service = s
	}
	start()
	p := b.proposal(testSlot, 0, 1)
	first := b.mustSign(t, p)
	if err := b.service.Halt(t.Context(), "", "x"); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("nobody halts: %v", err)
	}
	if err := b.service.Halt(t.Context(), "kim", "inspection"); err != nil {
		t.Fatal(err)
	}
	halted := func() {
		t.Helper()
		for _, p := range []*consensus.Proposal{p, b.proposal(2*testSlot, 0, 1)} {
			_, err := b.sign(p)
			wantRule(t, err, RuleHalted)
			if !strings.Contains(err.Error(), "kim") || !strings.Contains(err.Error(), "inspection") {
				t.Fatal(err)
			}
		}
	}
	halted()
	start()
	halted()
	for _, c := range []struct {
		by   string
		wait time.Duration
		ok   bool
		done bool
	}{
		{"", 0, false, false},
		{"kim", 0, true, false},
		{"kim", time.Minute, false, false},
		{"lee", resumeWithin, true, false}, // too late for kim's word: lee is the first
		{"lee", -time.Hour, true, false},   // the clock went back: nobody's word counts
		{"kim", 0, true, true},
	} {
		b.now = b.now.Add(c.wait)
		done, err := b.service.Resume(t.Context(), c.by)
		if done != c.done || (err == nil) != c.ok {
			t.Fatalf("%q: %v, %v", c.by, done, err)
		}
		if !done {
			halted()
		}
	}
	b.now = time.Unix(parentTime+100, 0)
	if again := b.mustSign(t, p); string(again.Signature) != string(first.Signature) {
		t.Fatal("another signature")
	}
	if _, err := b.service.Resume(t.Context(), "kim"); !errors.Is(err, ErrBadRequest) {
		t.Fatalf("nothing to resume: %v", err)
	}
	start()
	b.mustSign(t, b.proposal(2*testSlot, 0, 1))
	b.token.after = func(s [64]byte) [64]byte { s[3] ^= 1; return s }
	if _, err := b.sign(b.proposal(3*testSlot, 0, 1)); err == nil {
		t.Fatal("released")
	}
	b.token.after = nil
	if h := b.service.Status(t.Context()).Halt; h == nil || h.By != "signer" {
		t.Fatalf("%+v", h)
	}
}

// TestHaltDuringRequest: what is under way is not released either.
func TestHaltDuringRequest(t *testing.T) {
	b := newBench(t)
	b.token.before = func() error { return b.service.Halt(context.Background(), "kim", "now") }
	_, err := b.sign(b.proposal(testSlot, 0, 1))
	wantRule(t, err, RuleHalted)
	b.token.before = nil
	b.resume(t)
	if r := b.mustSign(t, b.proposal(testSlot, 0, 1)); !r.Repeated {
		t.Fatal("it had been sealed")
	}
}

// TestSeen: nothing is signed before a node has said what the chain shows, and a
// key that signed there what the journal does not know halts everything.
func TestSeen(t *testing.T) {
	b := newBench(t)
	b.service.seen = false
	p := b.proposal(3*testSlot, 0, 1)
	_, err := b.sign(p)
	wantRule(t, err, RuleUnseen)
	say := func(block, vote uint32) error {
		return b.service.Seen(t.Context(), SeenRequest{Tip: 99, Keys: []Seen{
			{b.keys[0].public, block, vote}, {newSoftKey(types.P256, 77).public, 1000, 1000}, // not ours
		}})
	}
	if err := say(0, 0); err != nil {
		t.Fatal(err)
	}
	b.mustSign(t, p)
	if err := say(3*testSlot, 0); err != nil || b.service.Status(t.Context()).Halt != nil {
		t.Fatalf("its own block: %v", err)
	}
	for name, c := range map[string][2]uint32{"a block": {4 * testSlot, 0}, "a vote": {3 * testSlot, testSlot}} {
		if err := say(c[0], c[1]); err != nil {
			t.Fatal(err)
		}
		h := b.service.Status(t.Context()).Halt
		if h == nil || !strings.Contains(h.Reason, b.keys[0].public.String()) || !strings.Contains(h.Reason, "watermark raise") {
			t.Fatalf("%s that the journal does not know: %+v", name, h)
		}
		b.resume(t)
	}
}
