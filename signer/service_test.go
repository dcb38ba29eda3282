package signer

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/interchange"
)

func TestSignSlot(t *testing.T) {
	b := newBench(t)
	for i := range b.keys {
		p := b.proposal(uint32(i+1)*testSlot, uint8(i), 1)
		first := b.mustSign(t, p)
		second := b.mustSign(t, p)
		if first.Repeated || !second.Repeated || !bytes.Equal(first.Signature, second.Signature) {
			t.Fatalf("first %+v, second %+v", first, second)
		}
	}
	if b.token.signed != len(b.keys) {
		t.Fatalf("the token made %d signatures, want %d", b.token.signed, len(b.keys))
	}
	st := b.service.Status(context.Background())
	if st.Signed != 5 || st.Journal.LastSigned != 50 || st.Journal.Highest != 50 || len(st.Keys) != 5 || st.Keys[4].Index != 4 || !st.Keys[4].Ready {
		t.Fatalf("status %+v", st)
	}
}

// remade applies a change to a valid proposal and repairs whatever the change
// is not about, so that one rule only stands against it.
func remade(p *consensus.Proposal, change func(*consensus.Proposal)) *consensus.Proposal {
	change(p)
	work(&p.Parent)
	p.Header.PrevBlock = p.Parent.ID()
	p.Header.MerkleRoot = types.FoldBranch(p.CoinOnline.ID(), p.Branch)
	return p
}

// policyCase is a request for a block that one rule refuses, and which is signed
// once that one thing is put right: so no other rule stands against it.
type policyCase struct {
	name string
	rule Rule
	policySet
}

type policySet struct {
	bad   func(*testing.T, *bench) Request
	good  func(*testing.T, *bench) Request // nil: a valid one
	reset func(*testing.T, *bench)
}

func validRequest(_ *testing.T, b *bench) Request { return NewRequest(b.proposal(testSlot, 0, 1)) }

// policyCases has a case for every rule about blocks.
func policyCases() []policyCase {
	valid, nextSlot := validRequest, func(_ *testing.T, b *bench) Request { return NewRequest(b.proposal(2*testSlot, 0, 1)) }
	change := func(f func(*consensus.Proposal)) func(*testing.T, *bench) Request {
		return func(_ *testing.T, b *bench) Request {
			return NewRequest(remade(b.proposal(testSlot, 0, 1), f))
		}
	}
	raw := func(f func(*Request)) func(*testing.T, *bench) Request {
		return func(t *testing.T, b *bench) Request {
			r := valid(t, b)
			f(&r)
			return r
		}
	}
	return []policyCase{
		{"parent too short", RuleFormat, policySet{bad: raw(func(r *Request) { r.Parent = r.Parent[:79] })}},
		{"parent too long", RuleFormat, policySet{bad: raw(func(r *Request) { r.Parent = append(r.Parent, 0) })}},
		{"header too short", RuleFormat, policySet{bad: raw(func(r *Request) { r.Header = nil })}},
		{"header too long", RuleFormat, policySet{bad: raw(func(r *Request) { r.Header = append(r.Header, 0) })}},
		{"CoinOnline with a byte behind it", RuleFormat, policySet{bad: raw(func(r *Request) { r.CoinOnline = append(r.CoinOnline, 0) })}},
		{"CoinOnline too large", RuleFormat, policySet{bad: raw(func(r *Request) { r.CoinOnline = make(Hex, maxCoinOnline+1) })}},
		{"branch too long", RuleFormat, policySet{bad: raw(func(r *Request) { r.Branch = make([]types.Hash, maxBranch+1) })}},

		{"set without keys", RuleFormat, policySet{bad: raw(func(r *Request) { r.Set = &Set{Number: 1} })}},
		{"first set spelt out", RuleFormat, policySet{bad: func(t *testing.T, b *bench) Request {
			r, first := valid(t, b), Set(firstSet(b.network))
			r.Set = &first
			return r
		}}},
		{"set of an even number of keys", Rule(consensus.RuleSetKeys), policySet{bad: func(_ *testing.T, b *bench) Request {
			return NewRequest(proposalUnder(b.network, consensus.ValidatorSet{Number: 1, Keys: publics(b.keys[:2])}, testSlot, 0, parentTime, 1))
		}}},

		{"height is no slot", Rule(consensus.RuleNotASlot), policySet{bad: raw(func(r *Request) { r.Height++ })}},
		{"parent without work", Rule(consensus.RuleWork), policySet{bad: func(_ *testing.T, b *bench) Request {
			p := b.proposal(testSlot, 0, 1)
			target, _ := types.CompactToTarget(p.Parent.Bits)
			for types.HashMeets(p.Parent.ID(), &target) {
				p.Parent.Nonce++
			}
			p.Header.PrevBlock = p.Parent.ID()
			return NewRequest(p)
		}}},
		{"parent's target is above the limit", Rule(consensus.RuleBits), policySet{bad: change(func(p *consensus.Proposal) { p.Parent.Bits = 0x2100ffff })}},
		{"header's bits are not the schedule's", Rule(consensus.RuleBits), policySet{bad: change(func(p *consensus.Proposal) { p.Header.Bits = 0x207ffffe })}},
		{"header names another parent", Rule(consensus.RulePrevBlock), policySet{bad: func(_ *testing.T, b *bench) Request {
			p := b.proposal(testSlot, 0, 1)
			p.Header.PrevBlock[0] ^= 1
			return NewRequest(p)
		}}},
		{"header is as old as its parent", Rule(consensus.RuleTimeOrder), policySet{bad: change(func(p *consensus.Proposal) { p.Header.Time = p.Parent.Time })}},
		{"index is outside the set", Rule(consensus.RuleValidator), policySet{bad: change(func(p *consensus.Proposal) { p.Index = 5 })}},
		{"nonce is not zero", Rule(consensus.RuleSlotNonce), policySet{bad: change(func(p *consensus.Proposal) { p.Header.Nonce = 1 })}},
		{"before the rank's turn", Rule(consensus.RuleSlotEarly), policySet{bad: change(func(p *consensus.Proposal) { p.Header.Time-- })}},
		{"after the slot closed", Rule(consensus.RuleSlotLate), policySet{bad: func(_ *testing.T, b *bench) Request {
			b.now = time.Unix(parentTime+testClose, 0)
			return NewRequest(remade(b.proposal(testSlot, 0, 1), func(p *consensus.Proposal) { p.Header.Time = parentTime + testClose + 1 }))
		}}},
		{"CoinOnline is not in the block", Rule(consensus.RuleMerkleRoot), policySet{bad: func(_ *testing.T, b *bench) Request {
			p := b.proposal(testSlot, 0, 1)
			p.Header.MerkleRoot[0] ^= 1
			return NewRequest(p)
		}}},
		{"CoinOnline spends something", Rule(consensus.RuleNoCoinbase), policySet{bad: change(func(p *consensus.Proposal) { p.CoinOnline.Inputs[0].Previous.Index = 0 })}},
		{"CoinOnline is of another height", Rule(consensus.RuleCoinbaseScript), policySet{bad: change(func(p *consensus.Proposal) { p.CoinOnline.Inputs[0].SignatureScript = types.HeightScript(2 * testSlot) })}},
		{"CoinOnline is not final", Rule(consensus.RuleTxLockTime), policySet{bad: change(func(p *consensus.Proposal) {
			p.CoinOnline.LockTime, p.CoinOnline.Inputs[0].Sequence = testSlot, 0
		})}},
		{"CoinOnline has no empty output", Rule(consensus.RuleCoinOnline), policySet{bad: change(func(p *consensus.Proposal) { p.CoinOnline.Outputs[0].Value = 1 })}},
		{"CoinOnline pays another key", Rule(consensus.RuleCoinOnlinePay), policySet{bad: change(func(p *consensus.Proposal) {
			p.CoinOnline.Outputs[1].PkScript = types.PubKeyHashScript([20]byte{1})
		})}},
		{"CoinOnline holds an unknown record", Rule(consensus.RuleRecords), policySet{bad: change(func(p *consensus.Proposal) {
			p.CoinOnline.Outputs[2].PkScript = types.NullDataScript([]byte{9})
		})}},

		{"validator's key is not ours", RuleKeyNotHeld, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.open(t, publics(b.keys[1:]))
				return valid(t, b)
			},
			reset: func(t *testing.T, b *bench) { b.open(t, publics(b.keys)) },
		}},
		{"header is ahead of the clock", RuleFuture, policySet{
			bad: func(t *testing.T, b *bench) Request {
				p := b.proposal(testSlot, 0, 1)
				b.now = time.Unix(int64(p.Header.Time)-testAhead-1, 0)
				return NewRequest(p)
			},
			reset: func(_ *testing.T, b *bench) { b.now = b.now.Add(time.Second) },
		}},
		{"the parent is of long ago", RuleStale, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.now = time.Unix(parentTime+12*testClose+1, 0)
				return valid(t, b)
			},
			reset: func(_ *testing.T, b *bench) { b.now = b.now.Add(-time.Second) },
		}},
		{"too many signatures", RuleRate, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.limit = RateLimit{PerSecond: 1, Burst: 1}
				b.open(t, publics(b.keys))
				b.mustSign(t, b.proposal(testSlot, 0, 1))
				return NewRequest(b.proposal(2*testSlot, 0, 1))
			},
			good:  nextSlot,
			reset: func(_ *testing.T, b *bench) { b.now = b.now.Add(time.Second) },
		}},
		{"another block at a signed height", RuleDoubleSign, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.mustSign(t, b.proposal(testSlot, 0, 1))
				return NewRequest(b.proposal(testSlot, 0, 2))
			},
		}},
		{"another block at a claimed height", RuleDoubleSign, policySet{
			bad: func(t *testing.T, b *bench) Request {
				claimOnly(t, b, b.proposal(testSlot, 0, 1))
				return NewRequest(b.proposal(testSlot, 0, 2))
			},
		}},
		{"height below the key's highest", RuleWatermark, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.mustSign(t, b.proposal(2*testSlot, 0, 1))
				return valid(t, b)
			},
			// Another key may: it has signed nothing yet.
			good: func(_ *testing.T, b *bench) Request { return NewRequest(b.proposal(testSlot, 1, 1)) },
		}},
		{"height at the floor", RuleFloor, policySet{
			bad: func(t *testing.T, b *bench) Request {
				if err := b.journal.RaiseFloor(b.keys[0].public, testSlot); err != nil {
					t.Fatal(err)
				}
				return valid(t, b)
			},
			good: nextSlot,
		}},
		{"another key signed the slot", RuleOnePerSlot, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.mustSign(t, b.proposal(testSlot, 1, 1))
				return valid(t, b)
			},
			good: nextSlot,
		}},
		{"claim was given up", RuleAbandoned, policySet{
			bad: func(t *testing.T, b *bench) Request {
				p := b.proposal(testSlot, 0, 1)
				claimOnly(t, b, p)
				b.mustSign(t, b.proposal(testSlot, 1, 1))
				return NewRequest(p)
			},
			good: nextSlot,
		}},
		{"signing is halted", RuleHalted, policySet{
			bad: func(t *testing.T, b *bench) Request {
				if err := b.service.Halt(t.Context(), "kim", "inspection"); err != nil {
					t.Fatal(err)
				}
				return valid(t, b)
			},
			reset: func(t *testing.T, b *bench) { b.resume(t) },
		}},
		{"no node has said what the chain shows", RuleUnseen, policySet{
			bad: func(t *testing.T, b *bench) Request {
				b.service.seen = false
				return valid(t, b)
			},
			reset: func(t *testing.T, b *bench) {
				if err := b.service.Seen(t.Context(), SeenRequest{}); err != nil {
					t.Fatal(err)
				}
			},
		}},
		{"CoinOnline carries no end of the audit log", RuleAnchor, policySet{bad: change(func(p *consensus.Proposal) { p.CoinOnline.Outputs = p.CoinOnline.Outputs[:2] })}},
		{"CoinOnline carries another end of the audit log", RuleAnchor, policySet{bad: change(func(p *consensus.Proposal) {
			p.CoinOnline.Outputs[2] = anchorOutput(audit.Head{Seq: testHead.Seq, Hash: types.Hash{1}})
		})}},
		{"another box claimed another block", RuleCluster, policySet{
			bad: func(t *testing.T, b *bench) Request {
				shared := newFakeClaims()
				_, err := shared.Claim(t.Context(), cluster.Claim{Kind: cluster.Block, Key: b.keys[0].public, Height: testSlot, Digest: types.Hash{1}})
				if err != nil {
					t.Fatal(err)
				}
				b.service.claims = shared
				return valid(t, b)
			},
			good: nextSlot,
		}},
		{"another signer claimed this block", RuleElsewhere, policySet{
			bad: func(t *testing.T, b *bench) Request {
				digest := b.network.Digest(b.proposal(testSlot, 0, 1))
				b.imports(t, interchange.Key{PublicKey: b.keys[0].public, Blocks: []interchange.Block{{Height: testSlot, Digest: &digest}}})
				return valid(t, b)
			},
			good: nextSlot,
		}},
	}
}

// imports takes over what another signer of a key did.
func (b *bench) imports(tb testing.TB, k interchange.Key) {
	tb.Helper()
	if _, err := b.journal.Import(&interchange.Document{Network: b.network.ID, Strategy: interchange.Complete, Keys: []interchange.Key{k}}); err != nil {
		tb.Fatal(err)
	}
}

// TestPolicy: each case is refused by its rule, which no other one would do.
func TestPolicy(t *testing.T) {
	for _, c := range policyCases() {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			req := c.bad(t, b)
			b.wantRefused(t, c.rule, func() (Response, error) { return b.service.SignSlot(context.Background(), req) })
			if c.reset != nil {
				c.reset(t, b)
			}
			good := c.good
			if good == nil {
				good = validRequest
			}
			if _, err := b.service.SignSlot(context.Background(), good(t, b)); err != nil {
				t.Fatalf("put right, and still: %v", err)
			}
		})
	}
}

// claimOnly leaves a claim without a seal, as a token that fails does.
func claimOnly(t *testing.T, b *bench, p *consensus.Proposal) {
	t.Helper()
	gone := errors.New("token is gone")
	b.token.before = func() error { return gone }
	if _, err := b.sign(p); !errors.Is(err, ErrUnavailable) || !errors.Is(err, gone) {
		t.Fatalf("got %v, want unavailable", err)
	}
	b.token.before = nil
}

func TestRepeatIgnoresClockAndRate(t *testing.T) {
	b := newBench(t)
	p := b.proposal(testSlot, 0, 1)
	first := b.mustSign(t, p)
	b.limit = RateLimit{}
	b.open(t, publics(b.keys))
	b.now = b.now.Add(1000 * time.Hour)
	if second := b.mustSign(t, p); !bytes.Equal(first.Signature, second.Signature) {
		t.Fatal("a repeat returned another signature")
	}
}

func TestTokenFailureThenRepeat(t *testing.T) {
	b := newBench(t)
	p := b.proposal(testSlot, 0, 1)
	claimOnly(t, b, p)
	if r, ok, err := b.service.SlotRecord(context.Background(), testSlot); err != nil || !ok || r.State != Claimed || r.Block != p.Header.ID() {
		t.Fatalf("record %+v, %v, %v", r, ok, err)
	}
	b.mustSign(t, p)
	r, ok, err := b.service.SlotRecord(context.Background(), testSlot)
	if err != nil || !ok || r.State != Sealed || len(r.Signature) != 64 || !bytes.Equal(r.Header, p.Header.Bytes()) || !bytes.Equal(r.CoinOnline, p.CoinOnline.Bytes()) {
		t.Fatalf("record %+v, %v, %v", r, ok, err)
	}
}

func TestUnreadyKeyClaimsNothing(t *testing.T) {
	b := newBench(t)
	b.token.ready = errors.New("token is absent")
	if _, err := b.sign(b.proposal(testSlot, 0, 1)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, b.token.ready) {
		t.Fatalf("got %v", err)
	}
	if _, ok, _ := b.service.SlotRecord(context.Background(), testSlot); ok {
		t.Fatal("a key that is not ready spent its claim")
	}
}

// TestConcurrentRivals lets many goroutines ask for different blocks of one
// slot: one block wins, and everyone who asked for it gets the same bytes.
func TestConcurrentRivals(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	released := make(map[string]int)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			r, err := b.sign(b.proposal(testSlot, uint8(i%5), byte(i%7)))
			var refusal *Refusal
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				released[string(r.Signature)]++
			} else if !errors.As(err, &refusal) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(released) != 1 {
		t.Fatalf("%d signatures were released for one slot", len(released))
	}
}

func TestWaitingRequestGivesUp(t *testing.T) {
	b := newBench(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	b.token.before = func() error { close(entered); <-leave; return nil }
	done := make(chan error)
	go func() {
		_, err := b.sign(b.proposal(testSlot, 0, 1))
		done <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.service.SignSlot(ctx, NewRequest(b.proposal(2*testSlot, 0, 1))); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestDeadlineDuringSign: the claim stands, the late signature is lost, and the
// same request later is signed.
func TestDeadlineDuringSign(t *testing.T) {
	b := newBench(t)
	p := b.proposal(testSlot, 0, 1)
	ctx, cancel := context.WithCancel(context.Background())
	b.token.before = func() error { cancel(); return nil }
	if _, err := b.service.SignSlot(ctx, NewRequest(p)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	b.token.before = nil
	b.mustSign(t, p)
}
