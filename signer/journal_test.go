package signer

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

var testNet = types.Hash{0xaa}

// claimOf makes a claim whose digest stands for its block.
func claimOf(key softKey, height uint32, block byte) *Claim {
	return &Claim{
		Height: height, Key: key.public, Digest: types.Hash{block, byte(height)},
		Header: types.Header{Nonce: uint32(block)}, CoinOnline: []byte{block},
	}
}

// on is a disk on one and the same machine, whatever happens to it.
func on(fs *durabletest.FS) disk {
	return at(fs, types.Hash{1, 16: 1})
}

func at(fs *durabletest.FS, place types.Hash) disk {
	return disk{fs: fs, place: func(string) (types.Hash, error) { return place, nil }}
}

func memJournal(tb testing.TB, keys []softKey, floor uint32) (*durabletest.FS, *Journal) {
	tb.Helper()
	disk := durabletest.New()
	if err := createJournal(on(disk), "j", testNet, publics(keys), floor); err != nil {
		tb.Fatal(err)
	}
	j, err := openJournal(on(disk), "j", testNet, publics(keys))
	if err != nil {
		tb.Fatal(err)
	}
	return disk, j
}

func TestJournalRefusesToStart(t *testing.T) {
	keys := testKeys()
	dir := t.TempDir()
	good := dir + "/good"
	if err := CreateJournal(good, testNet, publics(keys[:2]), 0); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		t.Helper()
		if err := os.WriteFile(dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	flipped := append([]byte(nil), content...)
	flipped[40] ^= 1
	for _, c := range []struct {
		name, path string
		network    types.Hash
		key        softKey
		want       string
	}{
		{"missing", dir + "/none", testNet, keys[0], "is missing"},
		{"empty", write("empty", nil), testNet, keys[0], "keep the file"},
		{"no record", write("cut", content[:8]), testNet, keys[0], "create it again"},
		{"another file", write("text", []byte("this is no journal at all")), testNet, keys[0], "keep the file"},
		{"flipped bit", write("flipped", flipped), testNet, keys[0], "damaged"},
		{"another network", good, types.Hash{0xbb}, keys[0], "belongs to network"},
		{"another key", good, testNet, keys[2], "was not made for key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, err := OpenJournal(c.path, c.network, []types.PublicKey{c.key.public})
			if err == nil {
				j.Close()
				t.Fatal("it opened")
			}
			if !IsTerminal(err) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("terminal %v: %v; want %q", IsTerminal(err), err, c.want)
			}
		})
	}
	if _, err := os.Stat(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("opening a missing journal made one")
	}
}

func TestJournalIsOpenOnce(t *testing.T) {
	keys := testKeys()
	path := t.TempDir() + "/j"
	if err := CreateJournal(path, testNet, publics(keys), 0); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(path, testNet, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := OpenJournal(path, testNet, publics(keys)); !errors.Is(err, durable.ErrInUse) {
		t.Fatalf("got %v", err)
	}
}

func TestCreateJournal(t *testing.T) {
	keys := testKeys()
	path := t.TempDir() + "/j"
	if err := CreateJournal(path, testNet, nil, 0); err == nil {
		t.Fatal("a journal without keys was made")
	}
	if err := CreateJournal(path, testNet, publics(keys), 7); err != nil {
		t.Fatal(err)
	}
	if err := CreateJournal(path, testNet, publics(keys), 0); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("made twice: %v", err)
	}
	j, err := OpenJournal(path, testNet, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	_, err = j.Claim(claimOf(keys[0], 7, 1))
	wantRule(t, err, RuleFloor)
	if _, err := j.Claim(claimOf(keys[0], 8, 1)); err != nil {
		t.Fatal(err)
	}
	if st := j.Status(); len(st.FileID) != 32 || st.Highest != 8 || st.Records != 3 || len(j.Keys()) != 5 {
		t.Fatalf("status %+v", st)
	}
}

// TestCreateJournalInterrupted cuts power at every operation of the creation:
// what is left is finished by creating again, or is a whole journal.
func TestCreateJournalInterrupted(t *testing.T) {
	keys := testKeys()
	for op := range 24 {
		for seed := range uint64(4) {
			disk := durabletest.New()
			n := 0
			disk.Fault = func(durabletest.Op, string) *durabletest.Fault {
				if n++; n > op {
					return &durabletest.Fault{Err: errors.New("power"), Short: 5}
				}
				return nil
			}
			err := createJournal(on(disk), "j", testNet, publics(keys), 3)
			disk.Fault = nil
			after := disk.Crash(rand.New(rand.NewPCG(seed, uint64(op))))
			if err == nil {
				continue // fewer operations than op
			}
			if err := createJournal(on(after), "j", testNet, publics(keys), 3); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatalf("operation %d: %v", op, err)
			}
			j, err := openJournal(on(after), "j", testNet, publics(keys))
			if err != nil {
				t.Fatalf("operation %d: %v", op, err)
			}
			_, err = j.Claim(claimOf(keys[0], 3, 1))
			wantRule(t, err, RuleFloor)
		}
	}
}

func TestSealRules(t *testing.T) {
	keys := testKeys()
	_, j := memJournal(t, keys, 0)
	if _, err := j.Seal(10, keys[0].public, [64]byte{1}); !errors.Is(err, ErrInternal) {
		t.Fatalf("seal without claim: %v", err)
	}
	must(t, j, claimOf(keys[0], 10, 1))
	must(t, j, claimOf(keys[1], 10, 2)) // gives up the first
	_, err := j.Seal(10, keys[0].public, [64]byte{1})
	wantRule(t, err, RuleAbandoned)
	first, err := j.Seal(10, keys[1].public, [64]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	second, err := j.Seal(10, keys[1].public, [64]byte{3})
	if err != nil || second != first {
		t.Fatalf("second seal %x, %v", second[:1], err)
	}
	if _, err := j.Claim(&Claim{Height: 20, Key: newSoftKey(types.P256, 99).public}); err == nil {
		t.Fatal("claim by a key the journal was not made for")
	}
	wantRule(t, j.RaiseFloor(newSoftKey(types.P256, 99).public, 1), RuleKeyNotHeld)
}

func must(tb testing.TB, j *Journal, c *Claim) *[64]byte {
	tb.Helper()
	seal, err := j.Claim(c)
	if err != nil {
		tb.Fatal(err)
	}
	return seal
}

// TestJournalForgets fills more slots than memory keeps: old seals are still
// answered, byte for byte, and old heights are closed for every key.
func TestJournalForgets(t *testing.T) {
	keys := testKeys()
	disk, j := memJournal(t, keys, 0)
	const slots = keptSlots + 20
	for h := uint32(1); h <= slots; h++ {
		must(t, j, claimOf(keys[0], h, 1))
		if h == 2 { // never sealed
			continue
		}
		if _, err := j.Seal(h, keys[0].public, [64]byte{byte(h), byte(h >> 8), 9}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(j *Journal) {
		t.Helper()
		if n := len(j.mem.slots); n != keptSlots || len(j.mem.heights) != n {
			t.Fatalf("%d slots and %d heights in memory", n, len(j.mem.heights))
		}
		sig, ok, err := j.Sealed(5, keys[0].public, types.Hash{1, 5})
		if err != nil || !ok || sig != [64]byte{5, 0, 9} {
			t.Fatalf("old seal %x, %v, %v", sig[:3], ok, err)
		}
		if _, ok, _ := j.Sealed(5, keys[0].public, types.Hash{2, 5}); ok {
			t.Fatal("the seal of one block was returned for another")
		}
		if r, ok, err := j.Slot(2); err != nil || !ok || r.State != Claimed {
			t.Fatalf("old claim %+v, %v, %v", r, ok, err)
		}
		_, err = j.Claim(claimOf(keys[1], 5, 2))
		wantRule(t, err, RuleFloor)
		_, err = j.Claim(claimOf(keys[0], 2, 1))
		wantRule(t, err, RuleWatermark)
	}
	check(j)
	again, err := openJournal(on(disk.Kill()), "j", testNet, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	check(again)
}

// TestRecordsAgainstTheRules writes files no journal of ours would, record by
// record: none is believed.
func TestRecordsAgainstTheRules(t *testing.T) {
	keys := testKeys()
	claim := func(k softKey, h uint32, block byte) record {
		c := claimOf(k, h, block)
		return record{kind: recordClaim, height: h, key: k.public, digest: c.Digest, header: c.Header}
	}
	seal := record{kind: recordSeal, height: 10, key: keys[0].public}
	abandon := record{kind: recordAbandon, height: 10, key: keys[0].public}
	meta := record{kind: recordMeta, network: testNet, keys: publics(keys), height: 5}
	vote := func(k softKey, l consensus.Link) record {
		return record{kind: recordVote, height: l.Target.Height, key: k.public, digest: l.Digest(testNet), link: l}
	}
	voteSeal := record{kind: recordVoteSeal, height: 20, key: keys[0].public}
	otherDigest := vote(keys[0], linkOf(10, 1, 20, 1))
	otherDigest.digest[0] ^= 1
	set := func(number uint32, digest byte) record {
		return record{kind: recordSet, height: number, key: keys[0].public, digest: types.Hash{digest}}
	}
	setSeal := record{kind: recordSetSeal, height: 2, key: keys[0].public}
	doc := (&interchange.Document{Network: testNet, Strategy: interchange.Minimal}).Encode()
	part := func(part, left uint32, data []byte) record {
		return record{kind: recordImport, part: part, left: left, data: data}
	}
	knownKeys := record{kind: recordKeys, keys: publics(keys[:1])}
	for name, list := range map[string][]record{
		"no first record":        {claim(keys[0], 10, 1)},
		"two first records":      {meta, meta},
		"seal without claim":     {meta, seal},
		"abandon without claim":  {meta, abandon},
		"two seals":              {meta, claim(keys[0], 10, 1), seal, seal},
		"seal after abandon":     {meta, claim(keys[0], 10, 1), abandon, seal},
		"two claims of one key":  {meta, claim(keys[0], 10, 1), claim(keys[0], 10, 2)},
		"two claims of one slot": {meta, claim(keys[0], 10, 1), claim(keys[1], 10, 1)},
		"claim at a lower slot":  {meta, claim(keys[0], 20, 1), claim(keys[0], 10, 1)},
		"claim at the floor":     {meta, claim(keys[0], 5, 1)},
		"unknown key":            {meta, claim(newSoftKey(types.P256, 77), 10, 1)},
		"unknown kind":           {meta, {kind: 99}},
		"vote seal without vote": {meta, voteSeal},
		"block's seal of a vote": {meta, vote(keys[0], linkOf(10, 1, 20, 1)), {kind: recordSeal, height: 20, key: keys[0].public}},
		"vote's seal of a block": {meta, claim(keys[0], 20, 1), voteSeal},
		"two vote seals":         {meta, vote(keys[0], linkOf(10, 1, 20, 1)), voteSeal, voteSeal},
		"vote seal of another":   {meta, vote(keys[1], linkOf(10, 1, 20, 1)), voteSeal},
		"two votes":              {meta, vote(keys[0], linkOf(10, 1, 20, 1)), vote(keys[0], linkOf(10, 1, 20, 2))},
		"the same vote twice":    {meta, vote(keys[0], linkOf(10, 1, 20, 1)), vote(keys[0], linkOf(10, 1, 20, 1))},
		"vote for a lower slot":  {meta, vote(keys[0], linkOf(10, 1, 30, 1)), vote(keys[0], linkOf(10, 1, 20, 1))},
		"vote from a lower slot": {meta, vote(keys[0], linkOf(20, 1, 30, 1)), vote(keys[0], linkOf(10, 1, 40, 1))},
		"vote from a twin":       {meta, vote(keys[0], linkOf(20, 1, 30, 1)), vote(keys[0], linkOf(20, 2, 40, 1))},
		"vote from no source":    {meta, vote(keys[0], linkOf(20, 1, 20, 2))},
		"vote from below floor":  {meta, vote(keys[0], linkOf(4, 1, 20, 1))},
		"vote's digest":          {meta, otherDigest},
		"set twice":              {meta, set(2, 1), set(2, 2)},
		"set of a lower number":  {meta, set(2, 1), set(1, 1)},
		"set of number 0":        {meta, set(0, 1)},
		"set seal without claim": {meta, set(1, 1), setSeal},
		"two set seals":          {meta, set(2, 1), setSeal, setSeal},
		"import begins late":     {meta, part(1, 0, doc)},
		"import with a hole":     {meta, part(0, 2, doc[:9]), part(2, 0, doc[9:])},
		"import's rest":          {meta, part(0, 1, doc[:9]), set(2, 1), part(1, 0, doc[9:])},
		"import of no document":  {meta, part(0, 0, doc[9:])},
		"import of too many":     {meta, part(0, 1, doc[:9]), part(1, 1, doc[9:])},
		"key added twice":        {meta, knownKeys},
		"keys first":             {knownKeys},
		"vote of a stranger":     {meta, vote(newSoftKey(types.P256, 77), linkOf(10, 1, 20, 1))},
	} {
		disk := durabletest.New()
		log, err := durable.CreateLog("j", journalOptions(disk))
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if err := log.Append(list[i].encode()); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := openJournal(on(disk), "j", testNet, publics(keys)); !IsTerminal(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDiskFullIsNotTheEnd(t *testing.T) {
	keys := testKeys()
	disk, j := memJournal(t, keys, 0)
	disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		if op == durabletest.Write {
			return &durabletest.Fault{Err: syscall.ENOSPC, Short: 7}
		}
		return nil
	}
	if _, err := j.Claim(claimOf(keys[0], 10, 1)); !errors.Is(err, ErrInternal) || !errors.Is(err, durable.ErrDiskFull) {
		t.Fatalf("got %v", err)
	}
	disk.Fault = nil
	select {
	case <-j.Failed():
		t.Fatal("a full disk ended the journal")
	default:
	}
	must(t, j, claimOf(keys[0], 10, 2))
}

func TestBrokenDiskEndsTheJournal(t *testing.T) {
	keys := testKeys()
	disk, j := memJournal(t, keys, 0)
	must(t, j, claimOf(keys[0], 10, 1))
	disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		return &durabletest.Fault{Err: syscall.EIO}
	}
	if _, err := j.Seal(10, keys[0].public, [64]byte{1}); !errors.Is(err, ErrInternal) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	<-j.Failed()
	disk.Fault = nil
	if _, err := j.Seal(10, keys[0].public, [64]byte{1}); !errors.Is(err, ErrInternal) {
		t.Fatalf("a broken journal went on: %v", err)
	}
	if _, ok, _ := j.Sealed(10, keys[0].public, types.Hash{1, 10}); ok {
		t.Fatal("a seal that failed is in memory")
	}
}
