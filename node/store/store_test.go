package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func testNetwork(t *testing.T, name string) *consensus.Network {
	t.Helper()
	key := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32)).PubKey().SerializeCompressed()
	net, err := consensus.NewNetwork(consensus.Params{
		Name: name, GenesisTime: 1_600_000_000, GenesisBits: 0x207fffff, PowLimitBits: 0x207fffff,
		N: 10, IntervalSeconds: 60, HalfLifeSeconds: 7200, SlotOpenSeconds: 120, SlotCloseSeconds: 600,
		RankStepSeconds: 20, FutureLimitSeconds: 60, HalvingInterval: 1000,
		MaxBlockBytes: 1_000_000, MaxSigOps: 1, Addresses: types.AddressVersions{ScriptHash: 1},
		Validators: []types.PublicKey{{Algorithm: types.Secp256k1, Point: [33]byte(key)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return net
}

func mustOpen(t *testing.T, dir string, net *consensus.Network) *Store {
	t.Helper()
	s, err := Open(dir, net, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// blockAt is block number n of a chain whose rules do not matter here, with a
// body of about size bytes.
func blockAt(net *consensus.Network, n uint32, size int) (*types.Block, Batch) {
	state := net.GenesisState()
	b := net.Genesis()
	for i := range n {
		tx := &types.Transaction{LockTime: i, Outputs: []types.TxOut{{PkScript: make([]byte, size)}}}
		b = &types.Block{Transactions: []*types.Transaction{tx}}
		b.Header = types.Header{PrevBlock: state.ID, Time: state.Time + 60, Nonce: n}
		state = state.Child(&b.SignedHeader, b.Transactions[0])
	}
	coin := consensus.Coin{Output: types.TxOut{Value: int64(n), PkScript: []byte{1, 2, 3}}, Height: n, Coinbase: true}
	spent := consensus.UTXO{OutPoint: types.OutPoint{TxID: types.Hash{9}, Index: n}, Coin: coin}
	return b, Batch{
		Entries: []Entry{{Header: b.SignedHeader, State: state}},
		Blocks:  []*types.Block{b},
		Spent:   map[types.Hash][]consensus.UTXO{state.ID: {spent}},
		Best:    map[uint32]types.Hash{n: state.ID},
		Tip:     state.ID,
		Coins:   map[types.OutPoint]*consensus.Coin{{TxID: state.ID}: &coin},
	}
}

func TestRefusals(t *testing.T) {
	net, other := testNetwork(t, "one"), testNetwork(t, "two")
	dir := filepath.Join(t.TempDir(), "deep", "chain")
	if _, err := Open(dir, net, Options{ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "there is no chain in "+dir) {
		t.Errorf("read-only, nothing there: %v", err)
	}
	s := mustOpen(t, dir, net)
	for _, readOnly := range []bool{false, true} {
		if _, err := Open(dir, net, Options{ReadOnly: readOnly}); !errors.Is(err, durable.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("in use (read-only %v): %v", readOnly, err)
		}
	}
	mustClose(t, s)
	_, err := Open(dir, other, Options{})
	for _, want := range []string{`"one"`, `"two"`, net.ID.String(), other.ID.String(), "--data", dir} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wrong network: %v lacks %q", err, want)
		}
	}
	for version, want := range map[byte]string{schema + 1: "newer version", schema - 1: "older version"} {
		s = mustOpen(t, dir, net)
		if err := s.db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket(bucketMeta).Put(keySchema, []byte{version, 0, 0, 0})
		}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		if _, err := Open(dir, net, Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--data") {
			t.Errorf("version %d: %v", version, err)
		}
		restore(t, filepath.Join(dir, indexName))
	}
	if err := os.WriteFile(filepath.Join(dir, indexName), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, net, Options{}); err == nil || !strings.Contains(err.Error(), indexName) {
		t.Errorf("not a database: %v", err)
	}
}

// restore gives a database its schema version back.
func restore(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keySchema, []byte{schema, 0, 0, 0}) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRoundTrip: everything of a Batch comes back, also from a new start, and
// segments are begun as they fill.
func TestRoundTrip(t *testing.T) {
	net, dir := testNetwork(t, "one"), t.TempDir()
	s := mustOpen(t, dir, net)
	s.seg.limit = 5000
	for n := range uint32(10) {
		_, batch := blockAt(net, n, 2000)
		if err := s.Commit(batch); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for n := range uint32(10) {
			b, batch := blockAt(net, n, 2000)
			id := b.Header.ID()
			want := batch.Entries[0]
			want.Sequence, want.HasBlock, want.HasUndo = uint64(n)+1, true, true
			if got, ok, err := s.Entry(id); err != nil || !ok || !cmp.Equal(got, want, cmp.Comparer(sameNetwork), cmpopts.EquateEmpty()) {
				t.Errorf("entry %d: %+v, %v, %v; want %+v", n, got, ok, err, want)
			}
			if got, ok, err := s.Block(id); err != nil || !ok || !bytes.Equal(got.Bytes(), b.Bytes()) {
				t.Errorf("block %d: %v, %v", n, ok, err)
			}
			if got, ok, err := s.Spent(id); err != nil || !ok || !cmp.Equal(got, batch.Spent[id]) {
				t.Errorf("undo record %d: %v, %v, %v", n, got, ok, err)
			}
			if got, ok, err := s.BestID(n); err != nil || !ok || got != id {
				t.Errorf("best %d: %v, %v, %v", n, got, ok, err)
			}
		}
		files, err := filepath.Glob(filepath.Join(dir, "blocks-*.seg"))
		if err != nil || len(files) < 4 {
			t.Errorf("segments: %v, %v", files, err)
		}
		count := 0
		for u, err := range s.UTXOs() {
			if err != nil || u.OutPoint.TxID.IsZero() {
				t.Errorf("coin %v, %v", u, err)
			}
			count++
		}
		if count != 10 {
			t.Errorf("%d coins", count)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		mustClose(t, s)
		s = mustOpen(t, dir, net)
	}
	mustClose(t, s)
}

func sameNetwork(a, b *consensus.Network) bool { return a.ID == b.ID }

// TestManyItems crosses the borders of the chunks in which buckets are read.
func TestManyItems(t *testing.T) {
	for _, want := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2*chunk + 1} {
		net := testNetwork(t, "one")
		s := mustOpen(t, t.TempDir(), net)
		coins := make(map[types.OutPoint]*consensus.Coin)
		for i := range want {
			coins[types.OutPoint{Index: uint32(i)}] = &consensus.Coin{}
		}
		if err := s.Commit(Batch{Coins: coins}); err != nil {
			t.Fatal(err)
		}
		seen := make(map[types.OutPoint]bool)
		for u, err := range s.UTXOs() {
			if err != nil || seen[u.OutPoint] {
				t.Fatalf("coin %v again, or %v", u.OutPoint, err)
			}
			seen[u.OutPoint] = true
		}
		if len(seen) != want {
			t.Errorf("%d coins, want %d", len(seen), want)
		}
		mustClose(t, s)
	}
}

// TestIndexFull: a Commit that the database refuses changes nothing, leaves
// nothing in the segments, and the next one works.
func TestIndexFull(t *testing.T) {
	net, dir := testNetwork(t, "one"), t.TempDir()
	s := mustOpen(t, dir, net)
	s.seg.limit = 20_000
	_, genesis := blockAt(net, 0, 0)
	if err := s.Commit(genesis); err != nil {
		t.Fatal(err)
	}
	size := segmentSizes(t, dir)
	b, batch := blockAt(net, 1, 50_000)
	many := Batch{Entries: batch.Entries, Blocks: batch.Blocks, Spent: batch.Spent, Tip: batch.Tip, Coins: make(map[types.OutPoint]*consensus.Coin)}
	for i := range uint32(5000) {
		many.Coins[types.OutPoint{TxID: types.Hash{byte(i), byte(i >> 8)}}] = &consensus.Coin{}
	}
	s.db.MaxSize = 1 << 16
	for range 3 {
		if err := s.Commit(many); err == nil {
			t.Fatal("a full database took the batch")
		}
		if tip, _, err := s.Tip(); err != nil || tip != net.ID {
			t.Fatalf("tip after a failed commit: %v, %v", tip, err)
		}
		if got := segmentSizes(t, dir); got != size {
			t.Fatalf("segments after a failed commit: %s, want %s", got, size)
		}
		if _, ok, err := s.Entry(b.Header.ID()); ok || err != nil {
			t.Fatalf("entry after a failed commit: %v, %v", ok, err)
		}
	}
	s.db.MaxSize = 0
	if err := s.Commit(many); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, dir, net)
	if got, ok, err := s.Block(b.Header.ID()); err != nil || !ok || got.Header.ID() != b.Header.ID() {
		t.Errorf("block: %v, %v", ok, err)
	}
	mustClose(t, s)
}

func segmentSizes(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blocks-*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	var sizes string
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		sizes += fmt.Sprintf("%s=%d ", filepath.Base(f), info.Size())
	}
	return sizes
}

// TestBroken: once it is unknown what is durable, nothing more is written.
func TestBroken(t *testing.T) {
	net, dir := testNetwork(t, "one"), t.TempDir()
	s := mustOpen(t, dir, net)
	_, genesis := blockAt(net, 0, 0)
	if err := s.Commit(genesis); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("fsync failed")
	err := s.undo(tail{commits: 0}, cause) // the database is one commit further
	_, batch := blockAt(net, 1, 0)
	for _, err := range []error{err, s.Commit(batch), s.SaveProposal(10, []byte("x"))} {
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "restarted") {
			t.Errorf("got %v", err)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, dir, net)
	if err := s.Commit(batch); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
}

func TestExplain(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "index.db", Err: syscall.ENOSPC}
	if err := explain(full); !errors.Is(err, durable.ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
	if err := explain(os.ErrPermission); errors.Is(err, durable.ErrDiskFull) {
		t.Errorf("something else: %v", err)
	}
}

// TestInterruptedStart: a crash while the store was made leaves no obstacle.
func TestInterruptedStart(t *testing.T) {
	net := testNetwork(t, "one")
	for _, left := range []string{"", "qcBL", strings.Repeat("\x00", 8), "qcBLKS\x01\x00 and a record nobody refers to"} {
		dir := t.TempDir()
		mustClose(t, mustOpen(t, dir, net))
		if err := os.WriteFile(filepath.Join(dir, segmentName(0)), []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, dir, net)
		_, genesis := blockAt(net, 0, 0)
		if err := s.Commit(genesis); err != nil {
			t.Errorf("after %q: %v", left, err)
		}
		mustClose(t, s)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, indexName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, net))
}

func TestProposals(t *testing.T) {
	net, dir := testNetwork(t, "one"), t.TempDir()
	s := mustOpen(t, dir, net)
	for n := range uint32(13) {
		_, batch := blockAt(net, n, 0)
		if err := s.Commit(batch); err != nil {
			t.Fatal(err)
		}
		if n == 5 {
			if err := errors.Join(s.SaveProposal(10, []byte("first")), s.SaveProposal(10, []byte("ten")), s.SaveProposal(12, []byte("twelve"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(height uint32, block string) {
		t.Helper()
		if got, ok, err := s.Proposal(height); err != nil || ok != (block != "") || string(got) != block {
			t.Errorf("proposal %d: %q, %v, %v; want %q", height, got, ok, err, block)
		}
	}
	want(10, "ten")
	mustClose(t, s)
	s = mustOpen(t, dir, net)
	want(10, "ten")
	want(11, "")
	if err := s.SaveProposal(20, []byte("twenty")); err != nil {
		t.Fatal(err)
	}
	want(10, "")
	want(12, "twelve")
	want(20, "twenty")
	mustClose(t, s)
}

// TestDamagedValues: a value that cannot be read is an error that names the file.
func TestDamagedValues(t *testing.T) {
	net := testNetwork(t, "one")
	s := mustOpen(t, t.TempDir(), net)
	defer mustClose(t, s)
	o := types.OutPoint{TxID: types.Hash{1}}
	if err := s.db.Update(func(tx *bolt.Tx) error {
		return errors.Join(
			tx.Bucket(bucketIndex).Put(bytes.Repeat([]byte{1}, 32), []byte("bad")),
			tx.Bucket(bucketUTXO).Put(coinKey(o), []byte("bad")),
			tx.Bucket(bucketBest).Put(heightKey(1), []byte("bad")),
		)
	}); err != nil {
		t.Fatal(err)
	}
	_, _, entryErr := s.Entry(types.Hash(bytes.Repeat([]byte{1}, 32)))
	_, coinErr := s.Coins([]types.OutPoint{o})
	_, _, bestErr := s.BestID(1)
	var utxoErr, entriesErr error
	for _, utxoErr = range s.UTXOs() {
	}
	for _, entriesErr = range s.Entries() {
	}
	for name, err := range map[string]error{"entry": entryErr, "coin": coinErr, "best": bestErr, "coins": utxoErr, "entries": entriesErr} {
		if err == nil || !strings.Contains(err.Error(), indexName) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Commit(Batch{Blocks: []*types.Block{net.Genesis()}}); err == nil {
		t.Error("a body without an index entry was taken")
	}
}
