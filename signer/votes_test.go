package signer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// linkOf makes a link between blocks that salts tell apart.
func linkOf(source uint32, sourceSalt byte, target uint32, targetSalt byte) consensus.Link {
	at := func(height uint32, salt byte) consensus.Checkpoint {
		if height == 0 {
			salt = 0
		}
		return consensus.Checkpoint{Height: height, ID: types.Hash{salt, byte(height), byte(height >> 8)}}
	}
	return consensus.Link{Source: at(source, sourceSalt), Target: at(target, targetSalt)}
}

func mustVote(tb testing.TB, j *Journal, key softKey, l consensus.Link) *[64]byte {
	tb.Helper()
	seal, err := j.ClaimVote(key.public, l)
	if err != nil {
		tb.Fatal(err)
	}
	return seal
}

func TestSealVoteRules(t *testing.T) {
	keys := testKeys()
	_, j := memJournal(t, keys, 0)
	key, l := keys[0].public, linkOf(0, 0, 10, 1)
	none := func(key types.PublicKey, l consensus.Link) {
		t.Helper()
		if _, err := j.SealVote(key, l, [64]byte{1}); !errors.Is(err, ErrInternal) {
			t.Fatalf("sealed without a vote: %v", err)
		}
	}
	none(key, l)
	mustVote(t, j, keys[0], l)
	none(key, linkOf(0, 0, 10, 2))
	none(keys[1].public, l)
	none(newSoftKey(types.P256, 99).public, l)
	if seal := mustVote(t, j, keys[0], l); seal != nil {
		t.Fatalf("an open vote has the seal %x", seal[:1])
	}
	if _, ok, err := j.SealedVote(key, l); ok || err != nil {
		t.Fatalf("an open vote is sealed: %v, %v", ok, err)
	}
	first, err := j.SealVote(key, l, [64]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	second, err := j.SealVote(key, l, [64]byte{3})
	if err != nil || second != first {
		t.Fatalf("second seal %x, %v", second[:1], err)
	}
	if seal := mustVote(t, j, keys[0], l); seal == nil || *seal != first {
		t.Fatal("the claim of a sealed vote does not return the seal")
	}
	_, err = j.ClaimVote(newSoftKey(types.P256, 99).public, l)
	wantRule(t, err, RuleKeyNotHeld)
	if _, ok, err := j.SealedVote(newSoftKey(types.P256, 99).public, l); ok || err != nil {
		t.Fatalf("a stranger's vote: %v, %v", ok, err)
	}
	if block, vote := j.Last(newSoftKey(types.P256, 99).public); block != 0 || vote != 0 {
		t.Fatalf("a stranger's last: %d, %d", block, vote)
	}
}

// TestVoteFloor: a new journal knows no source of before. What it lets a key
// vote for conflicts with nothing the key can have voted for up to the floor.
func TestVoteFloor(t *testing.T) {
	const floor = 30
	links := allLinks(10, 20, 30, 40, 50)
	allowed := 0
	for _, l := range links {
		_, j := memJournal(t, testKeys(), floor)
		_, err := j.ClaimVote(testKeys()[0].public, l)
		if err != nil {
			wantRule(t, err, RuleFloor)
			continue
		}
		allowed++
		for _, before := range links {
			if before.Target.Height <= floor && consensus.Conflict(before, l) != nil {
				t.Fatalf("%+v after %+v: %v", l, before, consensus.Conflict(before, l))
			}
		}
	}
	if allowed != 2*2*2+2*2 { // from 30 to 40 and 50, from 40 to 50, all twins
		t.Fatalf("%d links allowed", allowed)
	}
}

// allLinks returns the links between two blocks at each height, and genesis.
func allLinks(heights ...uint32) (list []consensus.Link) {
	heights = append([]uint32{0}, heights...)
	for i, source := range heights {
		for _, target := range heights[i+1:] {
			for twins := range byte(4) {
				if source > 0 || twins < 2 {
					list = append(list, linkOf(source, twins/2, target, twins%2))
				}
			}
		}
	}
	return list
}

// TestJournalForgetsVotes makes more votes than memory keeps: old seals are
// still answered, byte for byte, and nothing old is voted for anew.
func TestJournalForgetsVotes(t *testing.T) {
	keys := testKeys()
	disk, j := memJournal(t, keys, 0)
	const slots = keptSlots + 20
	for h := uint32(1); h <= slots; h++ {
		for i, key := range keys[:2] {
			if i == 1 && h > 10 { // the other key has a few, at the same heights
				continue
			}
			l := linkOf(h-1, 1, h, 1)
			mustVote(t, j, key, l)
			if h == 2 { // never sealed
				continue
			}
			if _, err := j.SealVote(key.public, l, [64]byte{byte(h), byte(h >> 8), byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	key := keys[0].public
	check := func(j *Journal) {
		t.Helper()
		if n := len(j.mem.keys[key].votes); n != keptSlots {
			t.Fatalf("%d votes in memory", n)
		}
		for _, h := range []uint32{5, slots - keptSlots, slots - keptSlots + 1, slots} {
			sig, ok, err := j.SealedVote(key, linkOf(h-1, 1, h, 1))
			if err != nil || !ok || sig != [64]byte{byte(h), byte(h >> 8)} {
				t.Fatalf("old seal %x, %v, %v", sig[:3], ok, err)
			}
		}
		for _, l := range []consensus.Link{linkOf(4, 1, 5, 2), linkOf(3, 1, 5, 1), linkOf(1, 1, 2, 1)} {
			if _, ok, err := j.SealedVote(key, l); ok || err != nil {
				t.Fatalf("%+v is sealed: %v, %v", l, ok, err)
			}
			_, err := j.ClaimVote(key, l)
			wantRule(t, err, Rule(consensus.RuleVoteTarget))
		}
	}
	check(j)
	again, err := openJournal(on(disk.Kill()), "j", testNet, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	check(again)
}

// votesModel is the rules about votes in the words of docs/votes.md: all votes
// of each key are kept, and a new one is held against every one of them.
type votesModel struct {
	floor uint32
	votes []consensus.Link
	seals map[consensus.Link][64]byte
}

func (m *votesModel) allows(l consensus.Link) bool {
	for _, v := range m.votes {
		sourceFollows := l.Source == v.Source || l.Source.Height > v.Source.Height
		if l.Target.Height <= v.Target.Height || !sourceFollows {
			return false
		}
	}
	return l.Target.Height > m.floor && (m.floor == 0 || l.Source.Height >= m.floor)
}

// TestVotesModel makes random votes, blocks and floors, on a journal that is
// opened again and again: each answer is the model's, and blocks change nothing.
func TestVotesModel(t *testing.T) {
	keys := testKeys()[:2]
	links := allLinks(1, 2, 3, 4, 5, 6)
	allowed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		disk := durabletest.New()
		floor := uint32(rapid.IntRange(0, 2).Draw(t, "first floor"))
		if err := createJournal(on(disk), "j", testNet, publics(keys), floor); err != nil {
			t.Fatal(err)
		}
		j := reopen(t, disk, keys)
		models := []*votesModel{{floor: floor, seals: make(map[consensus.Link][64]byte)}, {floor: floor, seals: make(map[consensus.Link][64]byte)}}
		for step := range rapid.IntRange(1, 30).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "key")
			key, m := keys[i], models[i]
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				disk = disk.Kill()
				j = reopen(t, disk, keys)
			case 1:
				h := uint32(rapid.IntRange(0, 3).Draw(t, "floor"))
				if err := j.RaiseFloor(key.public, h); err != nil {
					t.Fatal(err)
				}
				m.floor = max(m.floor, h)
			case 2:
				_, _ = j.Claim(claimOf(key, uint32(rapid.IntRange(1, 6).Draw(t, "height")), 1))
			default:
				l := rapid.SampledFrom(links).Draw(t, "link")
				known := slices.Contains(m.votes, l)
				_, sealed := m.seals[l]
				// What is still open ends when the floor reaches it.
				want := known && (sealed || l.Target.Height > m.floor && (m.floor == 0 || l.Source.Height >= m.floor)) || !known && m.allows(l)
				seal, err := j.ClaimVote(key.public, l)
				var refusal *Refusal
				if (err == nil) != want || (err != nil && !errors.As(err, &refusal)) {
					t.Fatalf("key %d, %+v after %+v, floor %d: %v", i, l, m.votes, m.floor, err)
				}
				if err != nil {
					refused++
					continue
				}
				allowed++
				if !known {
					m.votes = append(m.votes, l)
				}
				if sig, sealed := m.seals[l]; sealed != (seal != nil) || (sealed && *seal != sig) {
					t.Fatalf("key %d, %+v: seal %v, want %v", i, l, seal, sig)
				}
				if seal == nil && rapid.Bool().Draw(t, "token works") {
					sig := [64]byte{byte(step), 1}
					if _, err := j.SealVote(key.public, l, sig); err != nil {
						t.Fatal(err)
					}
					m.seals[l] = sig
				}
			}
		}
		for i, m := range models {
			for _, l := range links {
				sig, ok, err := j.SealedVote(keys[i].public, l)
				want, sealed := m.seals[l]
				if err != nil || ok != sealed || sig != want {
					t.Fatalf("key %d, %+v: %v, %v, %v", i, l, sig, ok, err)
				}
			}
		}
	})
	t.Logf("%d votes allowed, %d refused", allowed, refused)
	if allowed < 5 || refused < 5 {
		t.Fatalf("%d votes allowed and %d refused: the test saw too little", allowed, refused)
	}
}

func reopen(t *rapid.T, disk *durabletest.FS, keys []softKey) *Journal {
	j, err := openJournal(on(disk), "j", testNet, publics(keys))
	if err != nil {
		t.Fatalf("reopening: %v", err)
	}
	return j
}

// TestRecordFormat lays every kind of record out by hand: files written long
// ago must stay readable.
func TestRecordFormat(t *testing.T) {
	key := testKeys()[1].public
	link := linkOf(256, 3, 513, 4)
	link.Set = types.Hash{5}
	header := types.Header{Version: 1, Time: 2, Bits: 3, Nonce: 4}
	height := func(kind byte, h uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{kind}, h) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	digest, sig := types.Hash{6}, [64]byte{7, 63: 8}
	var zero [16]byte
	source := join([]byte{0, 1, 0, 0}, []byte{3, 0, 1}, make([]byte, 29))
	target := join([]byte{1, 2, 0, 0}, []byte{4, 1, 2}, make([]byte, 29))
	for _, c := range []struct {
		name   string
		record record
		bytes  []byte
	}{
		{"meta", record{kind: recordMeta, height: 9, network: digest, keys: []types.PublicKey{key}}, join(height(1, 9), digest[:], zero[:], []byte{1}, key.Bytes())},
		{"claim", record{kind: recordClaim, height: 10, key: key, digest: digest, header: header, coinOnline: []byte{1, 2}}, join(height(2, 10), key.Bytes(), digest[:], header.Bytes(), []byte{2, 1, 2})},
		{"seal", record{kind: recordSeal, height: 10, key: key, signature: sig}, join(height(3, 10), key.Bytes(), sig[:])},
		{"abandon", record{kind: recordAbandon, height: 10, key: key}, join(height(4, 10), key.Bytes())},
		{"floor", record{kind: recordFloor, height: 10, key: key}, join(height(5, 10), key.Bytes())},
		{"vote", record{kind: recordVote, height: 513, key: key, digest: digest, link: link}, join(height(6, 513), key.Bytes(), digest[:], link.Set[:], source, target)},
		{"keys", record{kind: recordKeys, height: 9, keys: []types.PublicKey{key}}, join(height(8, 9), []byte{1}, key.Bytes())},
		{"place", record{kind: recordPlace, digest: digest}, join(height(9, 0), digest[:])},
		{"import", record{kind: recordImport, part: 1, left: 2, data: []byte{4, 5}}, join(height(10, 0), []byte{1, 0, 0, 0, 2, 0, 0, 0, 2, 4, 5})},
		{"set", record{kind: recordSet, height: 3, key: key, digest: digest}, join(height(11, 3), key.Bytes(), digest[:])},
		{"set seal", record{kind: recordSetSeal, height: 3, key: key, signature: sig}, join(height(12, 3), key.Bytes(), sig[:])},
		{"vote seal", record{kind: recordVoteSeal, height: 513, key: key, signature: sig}, join(height(7, 513), key.Bytes(), sig[:])},
	} {
		if got := c.record.encode(); !bytes.Equal(got, c.bytes) {
			t.Errorf("%s is written as\n%x, want\n%x", c.name, got, c.bytes)
		}
		back, err := decodeRecord(c.bytes)
		if d := cmp.Diff(c.record, back, cmp.AllowUnexported(record{})); err != nil || d != "" {
			t.Errorf("%s is read with %v as\n%s", c.name, err, d)
		}
	}
	bad := record{kind: recordVote, height: 514, key: key, link: link}
	if _, err := decodeRecord(bad.encode()); err == nil {
		t.Error("a vote at another height than its target's is read")
	}
}
