package literal_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// world is one victim, the honest miners and validators whose blocks it
// gets, and an attacker, in the virtual time of a synctest bubble.
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	gen  *chaingen.Generator // has the keys; its network and blocks are not used
	net  *consensus.Network
	make rules
	v    victim

	votes   bool          // validators vote for the slots they sign
	late    time.Duration // how long after its parent validators sign a slot
	made    uint32        // blocks so far: keeps equal blocks apart
	sent    []*types.Block
	deepest uint32 // reorganisation the victim went through
}

// onTime is how long signatures take.
const onTime = 2 * time.Second

// forSeeds runs a script in as many worlds, one after the other.
func forSeeds(t *testing.T, by rules, seeds int, script func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := chaingen.Params()
		gen := chaingen.New(t, p)
		for seed := range seeds {
			w := newWorld(t, by, gen, p, uint64(seed))
			script(w)
			w.v.stop()
		}
	})
}

func newWorld(t *testing.T, by rules, gen *chaingen.Generator, p consensus.Params, seed uint64) *world {
	p.GenesisTime = unixNow()
	net, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), gen: gen, net: net, make: by, v: by(t, net), late: onTime,
	}
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: "+format, append([]any{w.seed}, args...)...)
}

// sleep lets time pass and everything that falls due happen.
func (w *world) sleep(d time.Duration) {
	before := w.v.tip()
	time.Sleep(d)
	synctest.Wait()
	w.noteDepth(before)
}

// send hands the victim a block.
func (w *world) send(b *types.Block) (chain.Result, error) {
	w.sent = append(w.sent, b)
	before := w.v.tip()
	result, err := w.v.add(b)
	w.noteDepth(before)
	return result, err
}

// give sends a block that has to become the tip.
func (w *world) give(b *types.Block) consensus.State {
	w.t.Helper()
	if result, err := w.send(b); err != nil || result != chain.Connected {
		w.fatalf("honest block at height %d: %v, %v", w.v.tip().Height+1, result, err)
	}
	return w.v.tip()
}

// noteDepth measures how many blocks of the chain that ended in old are undone.
func (w *world) noteDepth(old consensus.State) {
	at, now := old, w.v.tip()
	for !w.isAncestor(at, now) {
		at, _ = w.v.state(w.v.block(at.ID).PrevBlock)
	}
	w.deepest = max(w.deepest, old.Height-at.Height)
}

func (w *world) isAncestor(s, of consensus.State) bool {
	for of.Height > s.Height {
		of, _ = w.v.state(w.v.block(of.ID).PrevBlock)
	}
	return of.ID == s.ID
}

// confirmed reports whether a block, nil for one never made, is on the victim's
// best chain.
func (w *world) confirmed(b *types.Block) bool {
	if b == nil {
		return false
	}
	s, ok := w.v.state(b.Header.ID())
	return ok && w.isAncestor(s, w.v.tip())
}

// draft makes a block but for its outputs, nonce and signature.
func (w *world) draft(parent consensus.State, at uint32, txs []*types.Transaction) *types.Block {
	w.made++
	script := append(types.HeightScript(parent.ChildHeight()), 4)
	first := &types.Transaction{Version: 1, Inputs: []types.TxIn{{
		Previous: types.NullOutPoint, Sequence: math.MaxUint32, SignatureScript: binary.LittleEndian.AppendUint32(script, w.made),
	}}}
	b := &types.Block{Transactions: append([]*types.Transaction{first}, txs...)}
	b.Header = types.Header{Version: 1, PrevBlock: parent.ID, Time: at, Bits: w.v.bits(parent)}
	return b
}

// mined makes a mined block. Transactions must leave no fee.
func (w *world) mined(parent consensus.State, at uint32, txs ...*types.Transaction) *types.Block {
	b := w.draft(parent, at, txs)
	b.Transactions[0].Outputs = []types.TxOut{{Value: parent.Subsidy(), PkScript: minerScript}}
	w.solve(b)
	return b
}

// solve commits the header to the transactions and finds a nonce.
func (w *world) solve(b *types.Block) {
	chaingen.FixMerkleRoot(b)
	target, err := types.CompactToTarget(b.Bits)
	if err != nil {
		w.fatalf("%v", err)
	}
	for b.Nonce = 0; !types.HashMeets(b.Header.ID(), &target); b.Nonce++ {
	}
}

// signed makes a block signed by a validator.
func (w *world) signed(parent consensus.State, index uint8, at uint32, txs ...*types.Transaction) *types.Block {
	b := w.draft(parent, at, txs)
	b.Transactions[0].Outputs = []types.TxOut{{}, {PkScript: types.KeyScript(w.net.Validators[index])}}
	chaingen.FixMerkleRoot(b)
	sig := w.gen.Secret(w.net.Validators[index]).Sign(w.v.digest(parent, b))
	b.VchBlockSig = types.BlockSig{Index: index, Signature: sig}.Bytes()
	return b
}

var minerScript = chaingen.PayToHash(0)

// pay spends what a mined block paid its miner to payment key "to".
func (w *world) pay(from *types.Block, height uint32, to int) *types.Transaction {
	first := from.Transactions[0]
	return w.gen.Spend([]consensus.UTXO{{
		OutPoint: types.OutPoint{TxID: first.ID()},
		Coin:     consensus.Coin{Output: first.Outputs[0], Height: height, Coinbase: true},
	}}, chaingen.Pay(first.Outputs[0].Value, chaingen.PayToHash(to)))
}

// slot lets the validator in turn sign on a parent, if its rules let it, and
// returns its block, nil if there is none. Votes follow at once.
func (w *world) slot(parent consensus.State, txs ...*types.Transaction) *types.Block {
	w.t.Helper()
	index := parent.ValidatorOfRank(0)
	at, ok := w.v.signTime(parent, index)
	if !ok {
		return nil
	}
	b := w.signed(parent, index, at, txs...)
	if _, err := w.send(b); err != nil {
		w.fatalf("slot %d: %v", parent.ChildHeight(), err)
	}
	if w.votes && w.confirmed(b) {
		w.v.vote(w, w.v.tip())
	}
	return b
}

// extend adds an honest block to the tip: one just mined or, at a slot, a
// signed one as late as signatures are.
func (w *world) extend(txs ...*types.Transaction) *types.Block {
	w.t.Helper()
	tip := w.v.tip()
	if !tip.ChildIsSlot() {
		b := w.mined(tip, max(unixNow(), w.v.minTime(tip)), txs...)
		w.give(b)
		return b
	}
	w.sleep(w.late)
	b := w.slot(tip, txs...)
	if !w.confirmed(b) {
		w.fatalf("slot %d is not signed", tip.ChildHeight())
	}
	return b
}

// grow extends the chain to a height with honest blocks, about a minute apart.
func (w *world) grow(height uint32) consensus.State {
	w.t.Helper()
	for w.v.tip().Height < height {
		if tip := w.v.tip(); !tip.ChildIsSlot() {
			w.sleep(w.interval())
		}
		w.extend()
	}
	return w.v.tip()
}

// interval is the time to the next mined block where chance must not decide.
func (w *world) interval() time.Duration {
	return 40*time.Second + time.Duration(w.rng.Int64N(int64(40*time.Second)))
}

// chance is the time to the next of blocks with this mean distance.
func (w *world) chance(mean time.Duration) time.Duration {
	return time.Duration(w.rng.ExpFloat64() * float64(mean))
}
