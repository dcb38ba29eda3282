package signer

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

func mustExport(tb testing.TB, j *Journal, minimal bool) *interchange.Document {
	tb.Helper()
	doc, err := j.Export(minimal)
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

func mustImport(tb testing.TB, j *Journal, doc *interchange.Document) *Import {
	tb.Helper()
	in, err := j.Import(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// signedJournal has something of everything, with real signatures.
func signedJournal(tb testing.TB) (*durabletest.FS, *Journal, []softKey) {
	tb.Helper()
	keys := testKeys()[:3]
	disk, j := memJournal(tb, keys, 5)
	for h := uint32(10); h <= 40; h += 10 {
		for i, key := range keys[:2] {
			if c := claimOf(key, h, byte(i+1)); i == 0 || h == 40 {
				must(tb, j, c)
				if h != 40 {
					if _, err := j.Seal(h, key.public, key.sign(c.Digest)); err != nil {
						tb.Fatal(err)
					}
				}
			}
			l := linkOf(h-10, 1, h, 1)
			if h > 10 {
				mustVote(tb, j, key, l)
				if h != 40 {
					if _, err := j.SealVote(key.public, l, key.sign(l.Digest(testNet))); err != nil {
						tb.Fatal(err)
					}
				}
			}
		}
	}
	digest := types.Hash{7}
	if _, err := j.ClaimSetChange(keys[0].public, 2, digest); err != nil {
		tb.Fatal(err)
	}
	if _, err := j.SealSetChange(keys[0].public, 2, keys[0].sign(digest)); err != nil {
		tb.Fatal(err)
	}
	if err := j.RaiseFloor(keys[2].public, 25); err != nil {
		tb.Fatal(err)
	}
	return disk, j, keys
}

// TestMove takes a journal's history to a new one, which answers repeats with
// the same bytes and refuses everything else.
func TestMove(t *testing.T) {
	_, old, keys := signedJournal(t)
	doc := mustExport(t, old, false)
	parsed, err := interchange.Parse(doc.Encode(), testNet, 10)
	if err != nil {
		t.Fatal(err)
	}
	disk, j := memJournal(t, keys, 0)
	in := mustImport(t, j, parsed)
	if !in.Changed || len(in.Ignored) != 0 || slices.Equal(in.Before, in.After) {
		t.Fatalf("import did %+v", in)
	}
	check := func(j *Journal) {
		t.Helper()
		for h := uint32(10); h <= 30; h += 10 {
			c := claimOf(keys[0], h, 1)
			want, ok, err := old.Sealed(h, c.Key, c.Digest)
			if err != nil || !ok {
				t.Fatal(err)
			}
			if seal, err := j.Claim(c); err != nil || seal == nil || *seal != want {
				t.Fatalf("height %d: %v, %v", h, seal, err)
			}
			if sig, ok, err := j.Sealed(h, c.Key, c.Digest); err != nil || !ok || sig != want {
				t.Fatalf("height %d: %x, %v, %v", h, sig, ok, err)
			}
			if _, ok, err := j.Slot(h); ok || err != nil {
				t.Fatalf("height %d: a block nobody has here is returned: %v", h, err)
			}
			_, err = j.Claim(claimOf(keys[0], h, 9))
			wantRule(t, err, RuleDoubleSign)
			_, err = j.Claim(claimOf(keys[2], h+10, 9))
			wantRule(t, err, map[bool]Rule{true: RuleOnePerSlot, false: RuleFloor}[h+10 > 25])
		}
		for i, want := range []Rule{RuleElsewhere, RuleElsewhere, RuleOnePerSlot} {
			_, err := j.Claim(claimOf(keys[i], 40, byte(i+1)))
			wantRule(t, err, want)
		}
		if _, err := j.Seal(40, keys[1].public, [64]byte{1}); !errors.Is(err, RuleElsewhere) {
			t.Fatalf("sealed what another signer claimed: %v", err)
		}
		l := linkOf(20, 1, 30, 1)
		want, ok, err := old.SealedVote(keys[1].public, l)
		if err != nil || !ok {
			t.Fatal(err)
		}
		if seal := mustVote(t, j, keys[1], l); seal == nil || *seal != want {
			t.Fatalf("vote: %v", seal)
		}
		_, err = j.ClaimVote(keys[1].public, linkOf(30, 1, 40, 1))
		wantRule(t, err, RuleElsewhere)
		if _, err = j.SealVote(keys[1].public, linkOf(30, 1, 40, 1), [64]byte{1}); !errors.Is(err, RuleElsewhere) {
			t.Fatalf("sealed a vote that another signer claimed: %v", err)
		}
		if seal, err := j.ClaimSetChange(keys[0].public, 2, types.Hash{7}); err != nil || seal == nil {
			t.Fatalf("set change: %v, %v", seal, err)
		}
		if !slices.Equal(j.Marks(), in.After) {
			t.Fatalf("marks %+v, want %+v", j.Marks(), in.After)
		}
	}
	check(j)
	again, err := openJournal(on(disk.Kill()), "j", testNet, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	check(again)
	back := mustExport(t, again, false)
	back.Journal = doc.Journal
	if got, want := string(back.Encode()), string(doc.Encode()); got != want {
		t.Fatalf("exported again:\n%s\nwant\n%s", got, want)
	}
	if in := mustImport(t, again, doc); in.Changed {
		t.Fatalf("the second import of a document changed %+v to %+v", in.Before, in.After)
	}
	if in := mustImport(t, old, doc); in.Changed {
		t.Fatalf("a journal's own document changed it from %+v to %+v", in.Before, in.After)
	}
	must(t, old, claimOf(keys[1], 40, 2)) // is still its own open claim
}

// TestMoveService: the service over a journal that took the history in releases
// the very bytes that the one before did, and nothing that contradicts them.
func TestMoveService(t *testing.T) {
	for _, minimal := range []bool{false, true} {
		old, now := newBench(t), newBench(t)
		p := old.proposal(testSlot, 0, 1)
		block := old.mustSign(t, p)
		e := old.voting()
		v := e.ballot(e.at(0, 0), testSlot, 0, 1)
		vote, err := old.service.Attest(t.Context(), NewVoteRequest(v))
		if err != nil {
			t.Fatal(err)
		}
		mustImport(t, now.journal, mustExport(t, old.journal, minimal))
		now.open(t, publics(now.keys))
		if again := now.mustSign(t, p); !again.Repeated || string(again.Signature) != string(block.Signature) {
			t.Fatalf("minimal %v: block %+v, before %+v", minimal, again, block)
		}
		if again, err := now.service.Attest(t.Context(), NewVoteRequest(v)); err != nil || !again.Repeated || string(again.Signature) != string(vote.Signature) {
			t.Fatalf("minimal %v: vote %+v, %v, before %+v", minimal, again, err, vote)
		}
		now.wantRefused(t, RuleDoubleSign, func() (Response, error) { return now.sign(now.proposal(testSlot, 0, 2)) })
		now.wantRefused(t, Rule(consensus.RuleVoteTarget), func() (Response, error) {
			return now.service.Attest(t.Context(), NewVoteRequest(e.ballot(e.at(0, 0), testSlot, 0, 2)))
		})
		now.mustSign(t, now.proposal(2*testSlot, 0, 1))
	}
}

func TestImportRefuses(t *testing.T) {
	_, old, keys := signedJournal(t)
	good := mustExport(t, old, false)
	edit := func(f func(*interchange.Document)) *interchange.Document {
		doc, err := interchange.Parse(good.Encode(), testNet, 10)
		if err != nil {
			t.Fatal(err)
		}
		f(doc)
		return doc
	}
	block := func(d *interchange.Document) *interchange.Block { return &d.Find(keys[0].public).Blocks[0] }
	for name, c := range map[string]struct {
		doc  *interchange.Document
		want string
	}{
		"another network": {edit(func(d *interchange.Document) { d.Network = types.Hash{0xbb} }), "of network"},
		"other keys": {edit(func(d *interchange.Document) {
			d.Keys = []interchange.Key{{PublicKey: newSoftKey(types.P256, 77).public}}
		}), "none of the journal's keys"},
		"a block's signature": {edit(func(d *interchange.Document) { block(d).Signature[5] ^= 1 }), "on block 10"},
		"a block's digest":    {edit(func(d *interchange.Document) { block(d).Digest[5] ^= 1 }), "on block 10"},
		"a vote's signature":  {edit(func(d *interchange.Document) { d.Find(keys[1].public).Votes[0].Signature[5] ^= 1 }), "on vote 20"},
		"a height twice": {edit(func(d *interchange.Document) {
			k := d.Find(keys[0].public)
			k.Blocks = append(k.Blocks, k.Blocks[0])
		}), "listed twice"},
		"a set's signature": {edit(func(d *interchange.Document) { d.Find(keys[0].public).SetChanges[0].Signature[5] ^= 1 }), "on set change 2"},
	} {
		disk, j := memJournal(t, keys, 0)
		before := disk.Content("j")
		if _, err := j.Import(c.doc); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if string(disk.Content("j")) != string(before) {
			t.Errorf("%s: the journal changed", name)
		}
	}
}

// TestMoveForgotten moves more heights than memory keeps. What the oldest of them
// forbade to every key is still forbidden.
func TestMoveForgotten(t *testing.T) {
	keys := testKeys()[:2]
	_, old := memJournal(t, keys, 0)
	const last = 2 * (keptSlots + 20)
	for h := uint32(2); h <= last; h += 2 {
		must(t, old, claimOf(keys[0], h, 1))
	}
	for _, minimal := range []bool{false, true} {
		disk, j := memJournal(t, keys, 0)
		mustImport(t, j, mustExport(t, old, minimal))
		again, err := openJournal(on(disk.Kill()), "j", testNet, publics(keys))
		if err != nil {
			t.Fatal(err)
		}
		for h := uint32(1); h <= old.mem.forgotten; h++ {
			for _, key := range keys {
				c := claimOf(key, h, 3)
				if _, err := old.Claim(c); err == nil {
					t.Fatalf("height %d of %s is free before the move", h, key.public)
				}
				if _, err := again.Claim(c); err == nil {
					t.Fatalf("minimal %v: height %d of %s is free", minimal, h, key.public)
				}
			}
		}
		for i, key := range keys {
			must(t, again, claimOf(key, last+1+uint32(i), 3))
		}
	}
}

// TestImportIsAtomic fails every call of an import of many parts, and then kills
// the signer or cuts the power: all of it counts, or nothing.
func TestImportIsAtomic(t *testing.T) {
	_, old, keys := signedJournal(t)
	doc := mustExport(t, old, false)
	ends := make(map[bool]int)
	for at, hit := 0, true; hit; at++ {
		hit = false
		for _, fault := range []durabletest.Fault{{Err: syscall.EIO, Short: 60}, {Err: syscall.EIO, After: true}, {Err: syscall.ENOSPC}} {
			disk, j := memJournal(t, keys, 0)
			j.partSize = 700
			before, n := j.Marks(), 0
			disk.Fault = func(durabletest.Op, string) *durabletest.Fault {
				if n++; n == at+1 {
					hit = true
					return &fault
				}
				return nil
			}
			_, failure := j.Import(doc)
			disk.Fault = nil
			states := []*durabletest.FS{disk.Kill()}
			for seed := range uint64(3) {
				states = append(states, disk.Crash(rand.New(rand.NewPCG(seed, uint64(at)))))
			}
			for _, state := range states {
				again, err := openJournal(on(state), "j", testNet, publics(keys))
				if err != nil {
					t.Fatalf("call %d: %v", at, err)
				}
				marks := again.Marks()
				whole := slices.Equal(marks, j.mem.marks()) && failure == nil || !slices.Equal(marks, before)
				ends[whole]++
				if failure == nil && !whole {
					t.Fatalf("call %d: an import that was acknowledged is gone", at)
				}
				if in := mustImport(t, again, doc); in.Changed == whole {
					t.Fatalf("call %d: the import was %v whole, and importing again changed something: %v", at, whole, in.Changed)
				}
				back := mustExport(t, again, false)
				back.Journal = doc.Journal
				if string(back.Encode()) != string(doc.Encode()) {
					t.Fatalf("call %d: after a second import something is missing", at)
				}
			}
		}
	}
	if ends[true] < 10 || ends[false] < 10 {
		t.Fatalf("%d imports were whole and %d were nothing: the test saw too little", ends[true], ends[false])
	}
}

func TestAddKeys(t *testing.T) {
	keys := testKeys()
	disk, j := memJournal(t, keys[:2], 5)
	must(t, j, claimOf(keys[0], 10, 1))
	_, err := j.Claim(claimOf(keys[3], 20, 1))
	wantRule(t, err, RuleKeyNotHeld)
	bad := keys[2].public
	bad.Point[0] = 9
	for _, list := range [][]types.PublicKey{nil, {keys[1].public}, {keys[2].public, keys[2].public}, {keys[3].public, bad}} {
		if err := j.AddKeys(list, 0); err == nil {
			t.Errorf("added %v", list)
		}
	}
	if err := j.AddKeys(publics(keys[2:4]), 15); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(on(disk.Kill()), "j", testNet, publics(keys)); !IsTerminal(err) || !strings.Contains(err.Error(), "init --add") {
		t.Fatalf("opened for a fifth key: %v", err)
	}
	again, err := openJournal(on(disk.Kill()), "j", testNet, publics(keys[:4]))
	if err != nil {
		t.Fatal(err)
	}
	_, err = again.Claim(claimOf(keys[3], 15, 1))
	wantRule(t, err, RuleFloor)
	must(t, again, claimOf(keys[3], 16, 1))
	must(t, again, claimOf(keys[0], 20, 1))
	if m := again.Marks(); len(m) != 4 || !slices.ContainsFunc(m, func(m KeyMarks) bool {
		return m.Key == keys[3].public && m.Floor == 15 && m.FloorSource == FloorAdded && m.Block == 16
	}) {
		t.Fatalf("marks %+v", m)
	}
}

// TestFloorClosesOpenClaims: once a floor says that something may have been
// signed elsewhere, an open claim below it is not finished here.
func TestFloorClosesOpenClaims(t *testing.T) {
	keys := testKeys()
	_, j := memJournal(t, keys, 0)
	c, l := claimOf(keys[0], 20, 1), linkOf(10, 1, 20, 1)
	must(t, j, c)
	mustVote(t, j, keys[0], l)
	if err := j.RaiseFloor(keys[0].public, 10); err != nil {
		t.Fatal(err)
	}
	must(t, j, c)
	mustVote(t, j, keys[0], l)
	if err := j.RaiseFloor(keys[0].public, 20); err != nil {
		t.Fatal(err)
	}
	_, err := j.Claim(c)
	wantRule(t, err, RuleFloor)
	_, err = j.ClaimVote(keys[0].public, l)
	wantRule(t, err, RuleFloor)
}
