package store

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// certificate returns one that only a store takes: nobody asks it for signatures.
func certificate(height uint32, signers uint32) consensus.Certificate {
	c := consensus.Certificate{
		Link: consensus.Link{
			Source: consensus.Checkpoint{Height: height - 10, ID: types.Hash{1, byte(height)}},
			Target: consensus.Checkpoint{Height: height, ID: types.Hash{2, byte(height)}},
		},
		Signers: signers,
	}
	for i := range 32 {
		if signers>>i&1 == 1 {
			c.Signatures = append(c.Signatures, [64]byte{byte(i)})
		}
	}
	return c
}

// TestVotes: certificates and the final slot come back, also from a new start;
// one of the same link takes the place of the former, and forgotten ones are gone.
func TestVotes(t *testing.T) {
	net, dir := testNetwork(t, "one"), t.TempDir()
	s := mustOpen(t, dir, net)
	want := func(final consensus.Checkpoint, list ...consensus.Certificate) {
		t.Helper()
		for range 2 {
			got, err := s.Certificates()
			slices.SortFunc(got, func(a, b consensus.Certificate) int { return int(a.Target.Height) - int(b.Target.Height) })
			if err != nil || !slices.EqualFunc(got, list, func(a, b consensus.Certificate) bool {
				return bytes.Equal(a.AppendTo(nil), b.AppendTo(nil))
			}) {
				t.Errorf("certificates %v, %v; want %v", got, err, list)
			}
			if got, err := s.Final(); err != nil || got != final {
				t.Errorf("final %v, %v; want %v", got, err, final)
			}
			mustClose(t, s)
			s = mustOpen(t, dir, net)
		}
	}
	commit := func(b Batch) {
		t.Helper()
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	none := consensus.Checkpoint{}
	want(none)
	commit(Batch{Certificates: []consensus.Certificate{certificate(20, 7), certificate(10, 7)}})
	want(none, certificate(10, 7), certificate(20, 7))
	final := consensus.Checkpoint{Height: 10, ID: types.Hash{3}}
	commit(Batch{Certificates: []consensus.Certificate{certificate(20, 15)}, Final: final})
	want(final, certificate(10, 7), certificate(20, 15))
	commit(Batch{Forget: []consensus.Link{certificate(10, 7).Link, certificate(30, 7).Link}})
	want(final, certificate(20, 15))
	// What a batch says nothing of stays.
	_, batch := blockAt(net, 0, 0)
	commit(batch)
	want(final, certificate(20, 15))
	mustClose(t, s)
}

// TestVotesAreAtomic: of a Commit that the database refuses no certificate is
// kept, no final slot, and no validator.
func TestVotesAreAtomic(t *testing.T) {
	net := testNetwork(t, "one")
	s := mustOpen(t, t.TempDir(), net)
	defer mustClose(t, s)
	_, genesis := blockAt(net, 0, 0)
	if err := s.Commit(genesis); err != nil {
		t.Fatal(err)
	}
	_, batch := blockAt(net, 1, 0)
	batch.Entries[0].State.Authority = someAuthority(net, 1)
	batch.Final = consensus.Checkpoint{Height: 10}
	for i := range uint32(3000) {
		c := certificate(10, 7)
		c.Set = types.Hash{byte(i), byte(i >> 8)}
		batch.Certificates = append(batch.Certificates, c)
	}
	s.db.MaxSize = 1 << 16
	if err := s.Commit(batch); err == nil {
		t.Fatal("a full database took the batch")
	}
	s.db.MaxSize = 0
	list, err := s.Certificates()
	final, finalErr := s.Final()
	if err := errors.Join(err, finalErr); err != nil || len(list) != 0 || final != (consensus.Checkpoint{}) {
		t.Errorf("%d certificates, final %v, %v", len(list), final, err)
	}
	if n := count(t, s, bucketAuthority); n != 0 {
		t.Errorf("%d authorities", n)
	}
	if err := s.Commit(batch); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, bucketAuthority); n != 1 {
		t.Errorf("%d authorities", n)
	}
}

// someAuthority returns authority number n of a network.
func someAuthority(net *consensus.Network, n uint32) *consensus.Authority {
	state := net.GenesisState()
	state.Height, state.ID = 10*n-1, types.Hash{byte(n), byte(n >> 8)}
	child := state.Child(&types.SignedHeader{VchBlockSig: []byte{0}}, new(types.Transaction))
	return child.Authority
}

func count(t *testing.T, s *Store, bucket []byte) (n int) {
	t.Helper()
	if err := s.view(func(tx *bolt.Tx) error {
		n = tx.Bucket(bucket).Stats().KeyN
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAuthorities: the state of every block comes back with the very authority it
// was stored with, however many there are; equal ones are stored once.
func TestAuthorities(t *testing.T) {
	net, dir := testNetwork(t, "one"), t.TempDir()
	s := mustOpen(t, dir, net)
	const blocks = 2*maxAuthorities + 10
	var ids []types.Hash
	var batch Batch
	for n := range uint32(blocks) {
		e := Entry{State: net.GenesisState()}
		e.State.ID = types.Hash{7, byte(n), byte(n >> 8)}
		if n%3 > 0 {
			e.State.Authority = someAuthority(net, 1+n/3)
		}
		batch.Entries = append(batch.Entries, e)
		ids = append(ids, e.State.ID)
	}
	if err := s.Commit(batch); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for n, id := range ids {
			e, ok, err := s.Entry(id)
			if err != nil || !ok || !e.State.Equal(&batch.Entries[n].State) || (e.State.Authority == nil) != (n%3 == 0) {
				t.Fatalf("block %d: %v, %v, authority %v", n, ok, err, e.State.Authority)
			}
		}
		if n := len(s.authorities.known); n > maxAuthorities {
			t.Errorf("%d authorities in memory", n)
		}
		mustClose(t, s)
		s = mustOpen(t, dir, net)
	}
	if got, want := count(t, s, bucketAuthority), (blocks+2)/3; got != want {
		t.Errorf("%d authorities stored, want %d", got, want)
	}
	mustClose(t, s)
}

// TestDamagedVotes: whatever of the votes and the validator index does not read
// back as it was written is an error that names the file.
func TestDamagedVotes(t *testing.T) {
	net := testNetwork(t, "one")
	authority := someAuthority(net, 1)
	id, link := authority.ID(), certificate(10, 7).Link
	good := certificate(10, 7)
	for name, c := range map[string]struct {
		bucket, key, value []byte
	}{
		"certificate":            {bucketVotes, link.AppendTo(nil), []byte("bad")},
		"certificate cut short":  {bucketVotes, link.AppendTo(nil), good.AppendTo(nil)[:200]},
		"certificate and more":   {bucketVotes, link.AppendTo(nil), append(good.AppendTo(nil), 0)},
		"another's certificate":  {bucketVotes, link.AppendTo(nil), ptr(certificate(20, 7)).AppendTo(nil)},
		"final slot":             {bucketMeta, keyFinal, []byte("bad")},
		"final slot and more":    {bucketMeta, keyFinal, make([]byte, 37)},
		"authority":              {bucketAuthority, id[:], []byte("bad")},
		"authority is missing":   {bucketAuthority, id[:], nil},
		"another's authority":    {bucketAuthority, id[:], someAuthority(net, 2).Bytes()},
		"authority and no block": {bucketAuthority, id[:], append(authority.Bytes(), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustOpen(t, t.TempDir(), net)
			defer mustClose(t, s)
			_, batch := blockAt(net, 1, 0)
			block := batch.Entries[0].State.ID
			batch.Entries[0].State.Authority = authority
			batch.Certificates, batch.Final = []consensus.Certificate{good}, consensus.Checkpoint{Height: 10}
			if err := s.Commit(batch); err != nil {
				t.Fatal(err)
			}
			read := func() error {
				_, err := s.Certificates()
				_, finalErr := s.Final()
				_, _, entryErr := s.Entry(block)
				return errors.Join(err, finalErr, entryErr)
			}
			if err := read(); err != nil {
				t.Fatal(err)
			}
			if err := s.db.Update(func(tx *bolt.Tx) error {
				if c.value == nil {
					return tx.Bucket(c.bucket).Delete(c.key)
				}
				return tx.Bucket(c.bucket).Put(c.key, c.value)
			}); err != nil {
				t.Fatal(err)
			}
			s.authorities = authorities{} // as after a restart
			if err := read(); err == nil || !strings.Contains(err.Error(), filepath.Join(s.dir, indexName)) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }
