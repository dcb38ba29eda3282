package signer

import (
	"crypto/elliptic"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

func order(a types.KeyAlgorithm) *big.Int {
	if a == types.Secp256k1 {
		return secp256k1.Params().N
	}
	return elliptic.P256().Params().N
}

// spoilt are the ways in which 64 bytes are not the signature that a token was
// asked for.
func spoilt(key, other softKey, digest types.Hash) map[string]func([64]byte) [64]byte {
	n := order(key.public.Algorithm)
	with := func(r, s *big.Int) func([64]byte) [64]byte {
		return func(sig [64]byte) [64]byte {
			if r != nil {
				r.FillBytes(sig[:32])
			}
			if s != nil {
				s.FillBytes(sig[32:])
			}
			return sig
		}
	}
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	return map[string]func([64]byte) [64]byte{
		"zero":           func([64]byte) [64]byte { return [64]byte{} },
		"r is zero":      with(new(big.Int), nil),
		"s is zero":      with(nil, new(big.Int)),
		"r is the order": with(n, nil),
		"s is the order": with(nil, n),
		"r is above it":  with(most, nil),
		"s is above it":  with(nil, most),
		"r plus the order": func(sig [64]byte) [64]byte {
			r := new(big.Int).Add(new(big.Int).SetBytes(sig[:32]), n)
			if r.BitLen() > 256 {
				r = most
			}
			return with(r, nil)(sig)
		},
		"high S": func(sig [64]byte) [64]byte {
			return with(nil, new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])))(sig)
		},
		"r and s swapped": func(sig [64]byte) (out [64]byte) {
			copy(out[:], sig[32:])
			copy(out[32:], sig[:32])
			return out
		},
		"flipped bit":    func(sig [64]byte) [64]byte { sig[40] ^= 1; return sig },
		"another key":    func([64]byte) [64]byte { return other.sign(digest) },
		"another digest": func([64]byte) [64]byte { return key.sign(types.Hash{1}) },
	}
}

// TestSpoiltSignatures: whatever a token returns that is not a low-S signature of
// the right key, for a block, a vote or a set, under either curve, is not released
// and halts, in the audit log too; and once two people have resumed, the very
// claim is signed. What a module may return besides, such as another length, does
// not get past the worker's supervisor (TestCheckSignature there).
func TestSpoiltSignatures(t *testing.T) {
	n := 0
	for index := range uint8(2) { // one key of each curve
		for _, kind := range []string{"block", "vote", "set"} {
			d := newOnDisk(t)
			if err := d.start(); err != nil {
				t.Fatal(err)
			}
			if err := d.service.Seen(t.Context(), SeenRequest{}); err != nil {
				t.Fatal(err)
			}
			e := d.voting()
			a := map[string]*asked{
				"block": d.askBlock(d.block(testSlot, index, 1)),
				"vote":  d.askVote(e.ballot(e.at(0, 0), testSlot, index, 1)),
				"set":   d.askSet(d.successor(1, index, 0)),
			}[kind]
			for name, spoil := range spoilt(d.keys[index], d.keys[index+2], a.digest) {
				d.token.after = spoil
				r, err := a.ask(d.service)
				if !errors.Is(err, ErrInternal) || len(r.Signature) > 0 || !strings.Contains(err.Error(), "halted") {
					t.Fatalf("%s, %s: %x, %v", kind, name, r.Signature, err)
				}
				d.token.after = nil
				if _, err := a.ask(d.service); !errors.Is(err, RuleHalted) {
					t.Fatalf("%s, %s: not halted: %v", kind, name, err)
				}
				d.resume(t)
				n++
			}
			if r, err := a.ask(d.service); err != nil || r.Repeated || a.key.Verify(a.digest, [64]byte(r.Signature)) != nil {
				t.Fatalf("%s: %+v, %v", kind, r, err)
			}
			halts := 0
			for r, err := range audit.NewReader(diskAudit, d.options).Records(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if r.Entry.Event == audit.EventHalted {
					halts++
				}
			}
			if want := len(spoilt(d.keys[0], d.keys[2], a.digest)); halts != want {
				t.Fatalf("%s: %d halts in the audit log, want %d", kind, halts, want)
			}
		}
	}
	if n < 70 {
		t.Fatalf("only %d cases", n)
	}
}

// TestClockSteps sets the clock a year forth and back, at random and between two
// steps of one request, while everything is asked for. Nothing that was signed is
// rivalled, what was is repeated whatever the clock says, and what is refused is
// refused by a rule.
func TestClockSteps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	c := newCampaigner(t, 11)
	step := func() {
		by := []time.Duration{0, year, -year, 40 * year, -53 * year, time.Second, -time.Second, time.Hour, -time.Hour}
		c.now = time.Unix(parentTime+100, 0).Add(by[c.rng.IntN(len(by))])
	}
	// The token takes its time: the clock is another when it has signed.
	c.token.before = func() error { step(); return nil }
	if err := c.resumeLife(); err != nil {
		t.Fatal(err)
	}
	answers := make(map[string]int)
	for i := range 3000 {
		if i%7 == 0 {
			step()
		}
		if i%500 == 499 { // and over a restart
			c.stop()
			if err := c.resumeLife(); err != nil {
				t.Fatal(err)
			}
		}
		a := c.draw()
		known := a.sig != nil
		r, err := a.ask(c.service)
		var refusal *Refusal
		switch {
		case err == nil:
			answers["signed"]++
			if err := c.released(a, r); err != nil {
				t.Fatal(err)
			}
		case !errors.As(err, &refusal):
			t.Fatalf("no rule refuses: %v", err)
		case known:
			t.Fatalf("signed before, and now %v", err)
		default:
			answers[string(refusal.Rule)]++
		}
		if h := c.service.brake.state(); h != nil {
			t.Fatalf("halted: %+v", h)
		}
	}
	c.now = time.Unix(parentTime+100, 0)
	if err := c.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v", answers)
	for _, want := range []Rule{RuleFuture, RuleStale, "signed"} {
		if answers[string(want)] == 0 {
			t.Errorf("no answer %s among %v", want, answers)
		}
	}
}
