package chain_test

import (
	"bytes"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/chain/chaintest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
)

// sameIndex gives a fresh node the best chain of a store, block by block, and
// asserts that it derives the very same index of validators, for every block.
func sameIndex(tb testing.TB, net *consensus.Network, s chain.BlockSource) (signed int) {
	tb.Helper()
	fresh := chaintest.NewStore()
	m := open(tb, net, fresh)
	for h := uint32(1); ; h++ {
		id, ok, err := s.BestID(h)
		if err != nil {
			tb.Fatal(err)
		}
		if !ok {
			return signed
		}
		b, _, err := s.Block(id)
		if err != nil {
			tb.Fatal(err)
		}
		if got, err := m.AddBlock(b); got != chain.Connected {
			tb.Fatalf("height %d: %v, %v", h, got, err)
		}
		if got, want := indexOf(tb, fresh, id), indexOf(tb, s, id); !bytes.Equal(got, want) {
			tb.Fatalf("height %d: index of validators\n%x, in a fresh node\n%x", h, want, got)
		}
		if b.IsSigned() {
			signed++
		}
	}
}

// indexOf returns what a store holds of a block's state and its validators.
func indexOf(tb testing.TB, s chain.BlockSource, id types.Hash) []byte {
	tb.Helper()
	e, ok, err := s.Entry(id)
	if err != nil || !ok {
		tb.Fatalf("entry of %s: %v, %v", id, ok, err)
	}
	return append(e.State.AppendTo(nil), e.State.Proven().Bytes()...)
}

// TestIndexRebuilt: the index of validators of a node that saw forks, a set that
// took over and lost it again, evidence and restarts is, for every block of the
// best chain, to the byte that of a fresh node which saw that chain only.
func TestIndexRebuilt(t *testing.T) {
	for name, params := range algorithms {
		t.Run(name, func(t *testing.T) {
			p := params()
			s := openDisk(t, t.TempDir(), rigGenerator(t, p).Network(), store.Options{})
			defer closeDisk(t, s)
			r := newRig(t, p, s)
			r.changeSet(t)
			// Evidence, first on a branch that loses, then on one that wins.
			guilty := r.g.Tip().State
			r.grow(chain.Connected, "s28", "g", testN)
			r.g.SetTip("g3")
			r.g.NextSigned("twin", r.g.Tip().State.ValidatorOfRank(0))
			r.feed(chain.SideChain, "twin")
			r.grow(chain.Connected, "g4", "h", testN-1)
			r.carryAll("lost")
			r.feed(chain.Connected, "lost")
			r.g.SetTip("h3")
			r.g.NextSigned("other", r.g.Tip().State.ValidatorOfRank(2))
			r.g.Fill("i", testN-1)
			r.carryAll("won")
			r.feedAny("other", "i1", "i2", "i3", "won")
			r.tip(r.g.Node("won").State)
			if got := r.g.Tip().State.Proven().Disabled; len(got) != 1 || len(guilty.Proven().Disabled) != 0 {
				t.Fatalf("disabled keys: %v", got)
			}
			r.restart()
			if signed := sameIndex(t, r.net, s); signed < 9 {
				t.Errorf("only %d signed blocks", signed)
			}
			verify(t, r.net, s)
		})
	}
}

// TestVerifyVotes: Verify finds what is wrong with certificates, with the final
// slot, and with the index of validators, also of side chains.
func TestVerifyVotes(t *testing.T) {
	spoil := func(change func(c *consensus.Certificate)) func(r *rig) chain.Batch {
		return func(r *rig) chain.Batch {
			c := *r.g.Certificate("a4", "a8", 0, 1, 2, 3)
			change(&c)
			return chain.Batch{Certificates: []consensus.Certificate{c}}
		}
	}
	entry := func(name string, change func(e *chain.Entry)) func(r *rig) chain.Batch {
		return func(r *rig) chain.Batch {
			e := r.entry(r.g.Node(name).State.ID)
			change(&e)
			return chain.Batch{Entries: []chain.Entry{e}}
		}
	}
	final := func(name string) func(r *rig) chain.Batch {
		return func(r *rig) chain.Batch { return chain.Batch{Final: r.g.Node(name).State.Checkpoint()} }
	}
	for name, c := range map[string]struct {
		want  string
		spoil func(r *rig) chain.Batch
	}{
		"signature":     {"attest-signature", spoil(func(c *consensus.Certificate) { c.Signatures[0][5]++ })},
		"quorum":        {"certificate-quorum", spoil(func(c *consensus.Certificate) { c.Signers, c.Signatures = 3, c.Signatures[:2] })},
		"unknown block": {"index entry is missing", spoil(func(c *consensus.Certificate) { c.Target.ID[0]++ })},
		"mined block": {"not a signed block", func(r *rig) chain.Batch {
			return chain.Batch{Certificates: []consensus.Certificate{*r.g.Certificate("a4", "mined", 0, 1, 2)}}
		}},
		"source elsewhere": {"no signed block below", func(r *rig) chain.Batch {
			return chain.Batch{Certificates: []consensus.Certificate{*r.g.Certificate("b1", "a8", 0, 1, 2)}}
		}},
		"final not proven":  {"prove it", final("a8")},
		"final elsewhere":   {"not on the best chain", final("b1")},
		"final mined":       {"not a signed block", final("a5")},
		"proof is gone":     {"prove it", func(r *rig) chain.Batch { return chain.Batch{Forget: []consensus.Link{r.g.Link("a4", "a8")}} }},
		"validator index":   {"index entry does not fit", entry("a8", func(e *chain.Entry) { e.State.Authority = nil })},
		"index of a branch": {"index entry does not fit", entry("b1", func(e *chain.Entry) { e.State.Authority = nil })},
		"height of a side":  {"index entry does not fit", entry("b2", func(e *chain.Entry) { e.State.SignedSlots = 7 })},
	} {
		t.Run(name, func(t *testing.T) {
			p := chaingen.Params()
			s := openDisk(t, t.TempDir(), rigGenerator(t, p).Network(), store.Options{})
			defer closeDisk(t, s)
			r := newRig(t, p, s)
			r.grow(chain.Connected, "genesis", "a", 2*testN+1)
			r.g.SetTip("a3")
			r.g.Fill("b", 2)
			r.g.SetTip("a7")
			r.g.NextFallback("mined")
			r.feed(chain.SideChain, "b1", "b2", "mined")
			r.certify("genesis", "a4", 0, 1, 2)
			r.certify("a4", "a8", 0, 1, 2, 3)
			if rep := verify(t, r.net, s); rep.FinalBy != chain.ProofVotes || rep.Certificates != 2 {
				t.Fatalf("before anything is spoilt: %+v", rep)
			}
			if err := s.Commit(c.spoil(r)); err != nil {
				t.Fatal(err)
			}
			_, err := chain.Verify(t.Context(), r.net, s, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
