package main

import (
	"path/filepath"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/cluster"
)

// TestClusterPast: a box that joins brings all its journal knows, floors and set
// changes too, and the signatures that it released.
func TestClusterPast(t *testing.T) {
	w := newWatermarks(t, 2)
	path := filepath.Join(w.dir, "journal")
	used, unused := w.keys[0], w.keys[1]
	if err := signer.CreateJournal(path, w.net.ID, w.keys[:2], 25); err != nil {
		t.Fatal(err)
	}
	j, err := signer.OpenJournal(path, w.net.ID, w.keys[:2])
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	link := consensus.Link{Source: consensus.Checkpoint{Height: 30, ID: types.Hash{3}}, Target: consensus.Checkpoint{Height: 40, ID: types.Hash{4}}}
	block := cluster.Claim{Kind: cluster.Block, Key: used, Height: 50, Digest: types.Hash{5}}
	vote := cluster.Claim{Kind: cluster.Vote, Key: used, Height: 40, Source: link.Source, Digest: link.Digest(w.net.ID)}
	set := cluster.Claim{Kind: cluster.SetChange, Key: used, Height: 2, Digest: types.Hash{6}}
	open := cluster.Claim{Kind: cluster.Block, Key: used, Height: 60, Digest: types.Hash{7}}
	sig := map[cluster.Claim][64]byte{block: {1}, vote: {2}, set: {3}}
	for _, c := range []cluster.Claim{block, open} {
		if _, err := j.Claim(&signer.Claim{Height: c.Height, Key: c.Key, Digest: c.Digest}); err != nil {
			t.Fatal(err)
		}
		if c == block {
			_, err = j.Seal(c.Height, used, sig[c])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.ClaimVote(used, link); err != nil {
		t.Fatal(err)
	}
	if _, err := j.SealVote(used, link, sig[vote]); err != nil {
		t.Fatal(err)
	}
	if _, err := j.ClaimSetChange(used, set.Height, set.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := j.SealSetChange(used, set.Height, sig[set]); err != nil {
		t.Fatal(err)
	}

	p, err := clusterPast(j, 7)
	if err != nil {
		t.Fatal(err)
	}
	got := [...]uint32{p.Floor, p.Blocks[used], p.Votes[used], p.SetChanges[used], p.Blocks[unused], p.Votes[unused], p.SetChanges[unused]}
	if want := [...]uint32{7, 60, 40, 2, 25, 25, 0}; got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for c, want := range sig {
		if s := p.Seal(c); s == nil || *s != want {
			t.Errorf("the seal of a %s: %v", c.Kind, s)
		}
		other := c
		other.Digest[31]++
		if s := p.Seal(other); s != nil {
			t.Errorf("the seal of another %s: %v", c.Kind, s)
		}
		other = c
		other.Key = unused
		if s := p.Seal(other); s != nil {
			t.Errorf("the seal of another key's %s: %v", c.Kind, s)
		}
	}
	if s := p.Seal(open); s != nil {
		t.Errorf("a seal of what was not sealed: %v", s)
	}
}
