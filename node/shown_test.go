package node

import (
	"context"
	"errors"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// madeChain is the branch below the generator's tip.
type madeChain struct {
	g            *chaingen.Generator
	certificates []consensus.Certificate
}

func (c *madeChain) find(match func(*chaingen.Node) bool) *chaingen.Node {
	for n := c.g.Tip(); n != nil; n = n.Parent {
		if match(n) {
			return n
		}
	}
	return nil
}

func (c *madeChain) Tip() consensus.State { return c.g.Tip().State }

func (c *madeChain) BestID(height uint32) (types.Hash, bool, error) {
	n := c.find(func(n *chaingen.Node) bool { return n.State.Height == height })
	if n == nil {
		return types.Hash{}, false, nil
	}
	return n.State.ID, true, nil
}

func (c *madeChain) Header(id types.Hash) (types.SignedHeader, bool, error) {
	n := c.find(func(n *chaingen.Node) bool { return n.State.ID == id })
	if n == nil {
		return types.SignedHeader{}, false, nil
	}
	return n.Block.SignedHeader, true, nil
}

func (c *madeChain) State(id types.Hash) (consensus.State, bool, error) {
	n := c.find(func(n *chaingen.Node) bool { return n.State.ID == id })
	if n == nil {
		return consensus.State{}, false, nil
	}
	return n.State, true, nil
}

func (c *madeChain) Certificates() []consensus.Certificate { return c.certificates }

// TestShown: of each key the highest block and the highest vote, whatever other
// keys, mined slots and certificates of other branches there are.
func TestShown(t *testing.T) {
	p := chaingen.Params()
	p.N = 2
	g := chaingen.New(t, p)
	c := &madeChain{g: g}
	keys := g.Network().Validators
	want := func(what string, wanted ...Shown) {
		t.Helper()
		var ask []types.PublicKey
		for _, w := range wanted {
			ask = append(ask, w.Key)
		}
		tip, got, err := shown(c, ask)
		if err != nil || tip != g.Tip().State.Height || !slices.Equal(got, wanted) {
			t.Errorf("%s: %v at %d, %v", what, got, tip, err)
		}
	}
	want("genesis", Shown{Key: keys[0]})
	g.Next("a1")
	g.NextSigned("s2", 1)
	g.Next("a3")
	g.NextSigned("s4", 0)
	g.Next("a5")
	g.NextSigned("s6", 1)
	g.Next("a7")
	g.NextFallback("f8")
	g.Next("a9")
	if err := g.Tip().Err; err != nil {
		t.Fatal(err)
	}
	want("blocks", Shown{keys[1], 6, 0}, Shown{keys[0], 4, 0}, Shown{keys[2], 0, 0})
	c.certificates = []consensus.Certificate{
		*g.Certificate("genesis", "s2", 0, 1, 4), *g.Certificate("s2", "s6", 1, 2, 4),
		{Link: consensus.Link{Target: consensus.Checkpoint{Height: 900, ID: types.Hash{9}}}, Signers: 31},
	}
	stranger := chaingen.PublicKeys(types.Secp256k1, 40)[0]
	want("votes", Shown{keys[0], 4, 2}, Shown{keys[1], 6, 6}, Shown{keys[2], 0, 6}, Shown{keys[3], 0, 0}, Shown{stranger, 0, 0})
}

// forgetful is a signer that has to be told.
type forgetful struct {
	keys    []types.PublicKey
	told    int
	knows   bool
	shown   []Shown
	tellErr error
	asked   int
}

func (s *forgetful) Keys(context.Context) ([]types.PublicKey, error) { return s.keys, nil }

func (s *forgetful) Anchor(context.Context, types.PublicKey) (*consensus.AuditAnchor, error) {
	return nil, nil
}

func (s *forgetful) Tell(_ context.Context, _ uint32, list []Shown) error {
	s.told++
	if s.tellErr != nil {
		return s.tellErr
	}
	s.knows, s.shown = true, list
	return nil
}

func (s *forgetful) SignSlot(context.Context, *consensus.Proposal) ([64]byte, error) {
	s.asked++
	if !s.knows {
		return [64]byte{}, ErrUntold
	}
	return [64]byte{1}, nil
}

func (s *forgetful) Attest(ctx context.Context, _ *consensus.Ballot) ([64]byte, error) {
	return s.SignSlot(ctx, nil)
}

// TestTeller: a signer is told before it is first asked, and again whenever it
// has forgotten, and what it was asked for is asked again.
func TestTeller(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	s := &forgetful{keys: g.Network().Validators[:2]}
	teller := &teller{Signer: s, chain: &madeChain{g: g}}
	for range 3 {
		if _, err := teller.Keys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := teller.SignSlot(t.Context(), nil); err != nil || s.told != 1 || s.asked != 1 || len(s.shown) != 2 {
		t.Fatalf("%v, told %d times, asked %d times", err, s.told, s.asked)
	}
	s.knows = false // restarted
	if sig, err := teller.Attest(t.Context(), nil); err != nil || sig != [64]byte{1} || s.told != 2 || s.asked != 3 {
		t.Fatalf("%v, told %d times, asked %d times", err, s.told, s.asked)
	}
	s.knows, s.tellErr = false, errors.New("journal is behind")
	if _, err := teller.SignSlot(t.Context(), nil); !errors.Is(err, s.tellErr) || s.asked != 4 {
		t.Fatalf("%v, asked %d times", err, s.asked)
	}
}
