package chain_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
)

var _ chain.Store = (*store.Store)(nil)

func openDisk(tb testing.TB, dir string, net *consensus.Network, o store.Options) *store.Store {
	tb.Helper()
	s, err := store.Open(dir, net, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func closeDisk(tb testing.TB, s *store.Store) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

// TestDisk runs the whole history on the real store and opens it anew after
// every block.
func TestDisk(t *testing.T) {
	net, dir := testNetwork(t, nil), t.TempDir()
	s := openDisk(t, dir, net, store.Options{})
	n := newNode(t, net, s)
	for _, b := range history(net) {
		_, err := n.m.AddBlock(b)
		if _, rule := consensus.RuleOf(err); err != nil && !rule {
			t.Fatal(err)
		}
		closeDisk(t, s)
		s = openDisk(t, dir, net, store.Options{})
		n.store = s
		before := n.m.Tip()
		n.m = open(t, net, s)
		if after := n.m.Tip(); after.ID != before.ID {
			t.Fatalf("tip was %s, is %s after a restart", before.ID, after.ID)
		}
		n.check()
	}
	want := verify(t, net, s)
	closeDisk(t, s)
	s = openDisk(t, dir, net, store.Options{ReadOnly: true})
	defer closeDisk(t, s)
	var seen []uint32
	got, err := chain.Verify(t.Context(), net, s, func(height, of uint32) { seen = append(seen, height) })
	if err != nil || !cmp.Equal(got, want, cmp.Comparer(func(a, b consensus.State) bool { return a.Equal(&b) })) || got.Blocks != 9 || len(seen) != 9 {
		t.Errorf("read-only: %+v, %v, want %+v; progress %v", got, err, want, seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := chain.Verify(ctx, net, s, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestTornTail: bytes behind the last commit are what a crash leaves.
func TestTornTail(t *testing.T) {
	net, dir := testNetwork(t, nil), t.TempDir()
	s := openDisk(t, dir, net, store.Options{})
	n := newNode(t, net, s)
	blocks, _ := branch(net.GenesisState(), 6, 0)
	n.add(chain.Connected, blocks[:5]...)
	closeDisk(t, s)
	path := filepath.Join(dir, "blocks-00000.seg")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "blocks-00001.seg")
	for _, tail := range []string{"x", strings.Repeat("torn", 1000), strings.Repeat("\x00", 5000), string(content[8:])} {
		if err := os.WriteFile(path, append(content[:len(content):len(content)], tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(next, []byte(tail), 0o600); err != nil {
			t.Fatal(err)
		}
		s = openDisk(t, dir, net, store.Options{ReadOnly: true})
		verify(t, net, s)
		closeDisk(t, s)
		s = openDisk(t, dir, net, store.Options{})
		verify(t, net, s)
		if info, err := os.Stat(path); err != nil || info.Size() != int64(len(content)) {
			t.Fatalf("after opening: %v, %v; want %d bytes", info.Size(), err, len(content))
		}
		if _, err := os.Stat(next); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("segment that was never committed: %v", err)
		}
		closeDisk(t, s)
	}
	s = openDisk(t, dir, net, store.Options{})
	n.store, n.m = s, open(t, net, s)
	n.add(chain.Connected, blocks[5])
	verify(t, net, s)
	closeDisk(t, s)
	if err := os.Truncate(path, int64(len(content)-1)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir, net, store.Options{}); err == nil || !strings.Contains(err.Error(), "blocks-00000.seg") {
		t.Errorf("segment shorter than the index says: %v", err)
	}
}

// TestFlippedByte: Verify names height and file of every byte of the segment
// that changes, be it in a block or in an undo record.
func TestFlippedByte(t *testing.T) {
	net, dir := testNetwork(t, nil), t.TempDir()
	s := openDisk(t, dir, net, store.Options{})
	n := newNode(t, net, s)
	for _, b := range history(net) {
		_, _ = n.m.AddBlock(b)
	}
	closeDisk(t, s)
	path := filepath.Join(dir, "blocks-00000.seg")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := int(durable.FirstOffset); at < len(content); at += 37 {
		damaged := append([]byte(nil), content...)
		damaged[at] ^= 0x10
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s := openDisk(t, dir, net, store.Options{ReadOnly: true})
		_, err := chain.Verify(t.Context(), net, s, nil)
		closeDisk(t, s)
		if err == nil || !strings.Contains(err.Error(), "height ") || !strings.Contains(err.Error(), "blocks-00000.seg at offset") {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}

// TestVerifyFinds: what the records' checksums cannot show.
func TestVerifyFinds(t *testing.T) {
	coin := consensus.Coin{Output: types.TxOut{Value: 1, PkScript: payeeScript}, Height: 1}
	for _, c := range []struct {
		name, want string
		batch      func(blocks []*types.Block, n *node) chain.Batch
	}{
		{"a coin too many", "does not follow", func([]*types.Block, *node) chain.Batch {
			return chain.Batch{Coins: map[types.OutPoint]*consensus.Coin{{Index: 7}: &coin}}
		}},
		{"a coin too few", "is not stored", func(b []*types.Block, _ *node) chain.Batch {
			return chain.Batch{Coins: map[types.OutPoint]*consensus.Coin{output(b[2], 0, 0): nil}}
		}},
		{"another coin", "differs", func(b []*types.Block, _ *node) chain.Batch {
			return chain.Batch{Coins: map[types.OutPoint]*consensus.Coin{output(b[2], 0, 0): &coin}}
		}},
		{"a gap", "gap", func([]*types.Block, *node) chain.Batch { return chain.Batch{Best: map[uint32]types.Hash{2: {}}} }},
		{"beyond the tip", "goes on", func(b []*types.Block, _ *node) chain.Batch {
			return chain.Batch{Best: map[uint32]types.Hash{7: b[0].Header.ID()}}
		}},
		{"wrong undo record", "undo record", func(b []*types.Block, _ *node) chain.Batch {
			return chain.Batch{Spent: map[types.Hash][]consensus.UTXO{b[1].Header.ID(): {{Coin: coin}}}}
		}},
		{"wrong tip", "tip is block", func(b []*types.Block, n *node) chain.Batch {
			state := n.net.GenesisState()
			for _, x := range b[:5] {
				state = state.Child(&x.SignedHeader, x.Transactions[0])
			}
			side, _ := recipe{tag: 77}.make(state)
			e := chain.Entry{Header: side.SignedHeader, State: state.Child(&side.SignedHeader, side.Transactions[0])}
			return chain.Batch{Entries: []chain.Entry{e}, Blocks: []*types.Block{side}, Tip: e.State.ID}
		}},
		{"wrong index", "index entry", func(b []*types.Block, n *node) chain.Batch {
			e, _, _ := n.store.Entry(b[3].Header.ID())
			e.State.SignedSlots++
			return chain.Batch{Entries: []chain.Entry{e}}
		}},
		{"marked invalid", "marked invalid", func(b []*types.Block, n *node) chain.Batch {
			e, _, _ := n.store.Entry(b[3].Header.ID())
			e.Invalid, e.InvalidBlock = consensus.RuleTxValue, e.State.ID
			return chain.Batch{Entries: []chain.Entry{e}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			net := testNetwork(t, nil)
			s := openDisk(t, t.TempDir(), net, store.Options{})
			defer closeDisk(t, s)
			n := newNode(t, net, s)
			blocks, _ := branch(net.GenesisState(), 6, 0)
			n.add(chain.Connected, blocks...)
			if err := s.Commit(c.batch(blocks, n)); err != nil {
				t.Fatal(err)
			}
			if _, err := chain.Verify(t.Context(), net, s, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	net := testNetwork(t, nil)
	s := openDisk(t, t.TempDir(), net, store.Options{})
	defer closeDisk(t, s)
	if _, err := chain.Verify(t.Context(), net, s, nil); err == nil || !strings.Contains(err.Error(), "no chain here") {
		t.Errorf("empty store: %v", err)
	}
}

// BenchmarkConnect200 adds blocks of 200 payments at the tip, each synced.
func BenchmarkConnect200(b *testing.B) {
	net := testNetwork(b, nil)
	s := openDisk(b, b.TempDir(), net, store.Options{})
	defer closeDisk(b, s)
	m := open(b, net, s)
	base, _ := branch(net.GenesisState(), 3, 0)
	fund := pay([]types.OutPoint{output(base[0], 0, 0)}, testSubsidy, 400)
	state := net.GenesisState()
	var coins []types.OutPoint
	add := func(txs []*types.Transaction) {
		r := recipe{txs: txs, signed: state.ChildIsSlot()}
		if r.signed {
			r.index = state.ValidatorOfRank(0)
		}
		var block *types.Block
		block, state = r.make(state)
		b.StartTimer()
		_, err := m.AddBlock(block)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	for range 3 {
		add(nil)
	}
	add([]*types.Transaction{fund})
	for i := range fund.Outputs {
		coins = append(coins, types.OutPoint{TxID: fund.ID(), Index: uint32(i)})
	}
	value := fund.Outputs[0].Value
	b.ResetTimer()
	for range b.N {
		var txs []*types.Transaction
		var next []types.OutPoint
		for i := 0; i < len(coins); i += 2 {
			tx := pay(coins[i:i+2], 2*value, 2)
			txs = append(txs, tx)
			next = append(next, types.OutPoint{TxID: tx.ID()}, types.OutPoint{TxID: tx.ID(), Index: 1})
		}
		coins = next
		add(txs)
	}
}
