package work_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"qcitycoin.org/qcity/miner/work"
)

// job is Bitcoin's block 0, cut open as a Job: the last 12 bytes of its famous
// coinbase text stand where searchers put their extranonce.
func job(t *testing.T) (*work.Job, work.Solution) {
	t.Helper()
	raw, err := hex.DecodeString("01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000")
	if err != nil {
		t.Fatal(err)
	}
	const cut = 36 + 1 + 4 + 1 + 77 - work.ExtranonceSize
	j := &work.Job{
		Version:        1,
		CoinbasePrefix: raw[:cut],
		CoinbaseSuffix: raw[cut+work.ExtranonceSize:],
		Bits:           0x1d00ffff,
	}
	return j, work.Solution{
		Extranonce: [work.ExtranonceSize]byte(raw[cut : cut+work.ExtranonceSize]),
		Version:    1, Time: 1231006505, Nonce: 2083236893,
	}
}

func TestHeaderOfBitcoinsFirstBlock(t *testing.T) {
	j, s := job(t)
	if text := string(s.Extranonce[:]); text != "ut for banks" {
		t.Fatalf("the job is cut at the wrong place: %q", text)
	}
	h := j.Header(s)
	id := h.Hash()
	const want = "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"
	if got := hex.EncodeToString(id[:]); got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	target := work.TargetFromDifficulty(1)
	if !target.Met(id) {
		t.Error("it does not meet difficulty 1")
	}
	if d := work.DifficultyOfHash(id); d < 2500 || d > 2600 {
		t.Errorf("its hash has difficulty %f, known to be about 2536", d)
	}
	s.Extranonce[0]++
	if other := j.Header(s); other == h {
		t.Error("the extranonce does not reach the header")
	}
}

func TestMerkleRootFolds(t *testing.T) {
	j, s := job(t)
	j.MerkleBranch = [][32]byte{{1}, {2}, {3}}
	double := func(b []byte) [32]byte {
		first := sha256.Sum256(b)
		return sha256.Sum256(first[:])
	}
	want := double(j.Coinbase(s.Extranonce))
	for _, sibling := range j.MerkleBranch {
		want = double(append(want[:], sibling[:]...))
	}
	if got := j.MerkleRoot(s.Extranonce); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	if h := j.Header(s); [32]byte(h[36:68]) != want {
		t.Error("the header holds another root")
	}
}

func TestCheckVersion(t *testing.T) {
	j := &work.Job{Version: 0x20000000}
	for version, ok := range map[uint32]bool{
		0x20000000: true, 0x3fffffe0: true, 0x20000020: true, 0x30000000: true,
		0x20000001: false, 0x20000010: false, 0x00000000: false, 0x60000000: false, 0xa0000000: false,
	} {
		if err := j.CheckVersion(version); (err == nil) != ok {
			t.Errorf("%08x: %v", version, err)
		}
	}
	if work.VersionMask != 0x1fffffe0 {
		t.Errorf("mask %08x is not bits 5 to 28", work.VersionMask)
	}
}

func TestFeed(t *testing.T) {
	f := work.NewFeed()
	j, first := f.Latest()
	if j != nil {
		t.Fatal("a new feed holds a job")
	}
	a, b := &work.Job{ID: 1}, &work.Job{ID: 2}
	f.Publish(a)
	<-first // closed: readers wake
	got, second := f.Latest()
	if got != a {
		t.Fatalf("got job %v", got)
	}
	select {
	case <-second:
		t.Fatal("woken without a newer job")
	default:
	}
	f.Publish(b)
	<-second
	if got, _ := f.Latest(); got != b {
		t.Fatalf("got job %v", got)
	}
}

func TestOutcomeNames(t *testing.T) {
	for o, want := range map[work.Outcome]string{work.Accepted: "accepted", work.Held: "held", work.Stale: "stale", work.Rejected: "rejected"} {
		if o.String() != want {
			t.Errorf("%d is %q", int(o), o)
		}
	}
}
