package chaingen_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// networks are the two variants every generator test runs over.
var networks = map[string]func() consensus.Params{"secp256k1": chaingen.Params, "P-256": chaingen.P256Params}

func TestEveryKindOfBlockIsValid(t *testing.T) {
	for name, params := range networks {
		t.Run(name, func(t *testing.T) {
			g := chaingen.New(t, params())
			g.Next("a1")
			first := g.Next("hash", chaingen.PayMinerTo(chaingen.PayToHash(1)))
			second := g.Next("key", chaingen.PayMinerTo(chaingen.PayToKey(1)))
			third := g.Next("multi", chaingen.PayMinerTo(chaingen.PayToMultisig()))
			g.Fill("b", 12) // over a signed slot, to maturity
			coins := []consensus.UTXO{first.Reward(), second.Reward(), third.Reward()}
			spend := g.Spend(coins, chaingen.Pay(149*types.Coin, chaingen.PayToHash(2)))
			inside := g.Spend([]consensus.UTXO{g.Tip().Output(spend, 0)}, chaingen.Pay(148*types.Coin, chaingen.PayToKey(3)))
			g.Next("spends", g.Include(spend, inside))
			g.Fill("c", 2)
			for !g.Tip().State.ChildIsSlot() {
				g.Next(fmt.Sprintf("e%d", g.Tip().State.Height))
			}
			before := g.Tip().Name
			g.NextFallback("fallback")
			g.SetTip(before)
			fee := g.Spend([]consensus.UTXO{g.Node("spends").Output(inside, 0)}, chaingen.Pay(147*types.Coin, chaingen.PayToHash(0)))
			g.NextSigned("late", g.Tip().State.ValidatorOfRank(3), g.Include(fee))
			reward := g.Node("late").Reward()
			if reward.Coin.Output.Value != 1*types.Coin {
				t.Errorf("the signer got %d base units, want the fee of one coin", reward.Coin.Output.Value)
			}
			g.Fill("f", 10)
			g.Next("validator spends", g.Include(g.Spend([]consensus.UTXO{reward}, chaingen.Pay(types.Coin, chaingen.PayToHash(0)))))
			check(t, g, "fallback")
			check(t, g, "validator spends")
		})
	}
}

// check connects a branch from genesis, block after block, with a plain map of
// coins, and compares with what the generator recorded.
func check(t *testing.T, g *chaingen.Generator, name string) {
	t.Helper()
	state := g.Network().GenesisState()
	coins := make(consensus.Coins)
	for _, b := range g.Path(name) {
		next, diff, err := consensus.Connect(&state, b, coins)
		if err != nil {
			t.Fatalf("height %d: %v", state.ChildHeight(), err)
		}
		for _, u := range diff.Spent {
			delete(coins, u.OutPoint)
		}
		for _, u := range diff.Created {
			coins[u.OutPoint] = u.Coin
		}
		state = next
	}
	made := g.Node(name).State
	if !bytes.Equal(made.Proven().Bytes(), state.Proven().Bytes()) {
		t.Errorf("generator's authority %+v, consensus's %+v", made.Proven(), state.Proven())
	}
	made.Authority, state.Authority = nil, nil
	if diff := cmp.Diff(made, state, cmp.Comparer(func(a, b *consensus.Network) bool { return a == b })); diff != "" {
		t.Errorf("generator's state (-) and consensus's (+) differ:\n%s", diff)
	}
	if err := g.Node(name).Err; err != nil {
		t.Errorf("generator says %v", err)
	}
}

func TestForksHaveNamesAndDiffer(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	g.Next("a1")
	a2 := g.Next("a2")
	g.SetTip("a1")
	b2 := g.Next("b2")
	if a2.State.ID == b2.State.ID {
		t.Error("two blocks on one parent have the same id")
	}
	if a2.Parent != b2.Parent || b2.Block.PrevBlock != g.Node("a1").State.ID {
		t.Error("the fork does not start at a1")
	}
	if path := g.Path("b2"); len(path) != 2 || path[1] != b2.Block {
		t.Errorf("path of b2 has %d blocks", len(path))
	}
}

func TestMungersAreNotRepaired(t *testing.T) {
	cases := []struct {
		name  string
		want  consensus.Rule
		munge chaingen.Munger
	}{
		{"merkle root", consensus.RuleMerkleRoot, func(b *types.Block) { b.MerkleRoot[0] = 1 }},
		{"signature", consensus.RuleBlockSig, func(b *types.Block) { b.VchBlockSig[1] = 1 }},
		{"time", consensus.RuleSlotLate, func(b *types.Block) { b.Time += 601 }},
	}
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 9)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g.SetTip("a9")
			if rule, _ := consensus.RuleOf(g.Next(c.name, c.munge).Err); rule != c.want {
				t.Errorf("rule %q, want %q", rule, c.want)
			}
			// The child of an invalid block exists and is invalid for the same reason.
			if rule, _ := consensus.RuleOf(g.Next("child of " + c.name).Err); rule != c.want {
				t.Errorf("child: rule %q, want %q", rule, c.want)
			}
		})
	}
}

func TestKeysSignDeterministically(t *testing.T) {
	for _, a := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		t.Run(a.String(), func(t *testing.T) {
			for i := range 64 {
				key := chaingen.ValidatorKey(a, i)
				digest := types.DoubleHash([]byte{byte(i)})
				sig := key.Sign(digest)
				if again := key.Sign(digest); sig != again {
					t.Fatalf("key %d: two signatures for one digest", i)
				}
				if err := key.Public().Verify(digest, sig); err != nil {
					t.Fatalf("key %d: %v", i, err)
				}
			}
		})
	}
}

func TestCloneIsDeep(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	b := g.Next("a1").Block
	before := b.Bytes()
	c := chaingen.Clone(b)
	if !slices.Equal(c.Bytes(), before) {
		t.Fatal("the copy differs")
	}
	c.Transactions[0].Outputs[0].PkScript[0]++
	c.Transactions[0].Inputs[0].SignatureScript[0]++
	c.Transactions[0].Outputs[0].Value++
	if !slices.Equal(b.Bytes(), before) {
		t.Error("changing the copy changed the original")
	}
}
