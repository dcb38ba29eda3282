package pool

import (
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/stratum/pool/canon"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// TestSegmentGolden pins the format of the journal down, byte by byte.
func TestSegmentGolden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins on 2000-01-01
		fsys := durabletest.New()
		b := mustOpen(t, memory(fsys))
		now := time.Now()
		w := b.Open(now, "qa.1")
		b.NewParent([32]byte{1, 2})
		b.Network([32]byte{4: 0xff})
		b.Accept(now.Add(5*time.Millisecond), w, shareOfNumber(3))
		b.Reject(now, w, StaleShare)
		b.Reject(now, w, StaleShare)
		b.Issued([4]byte{7, 7, 7, 7}, []string{"qa.1"}, 0.25)
		b.Returned([4]byte{7, 7, 7, 7})
		_, note := b.Plan(7, 1000, 1)
		if err := b.Found(Found{ID: [32]byte{5}, Height: 7, Time: now, Reward: 1000, Finder: "qa.1", Note: note}); err != nil {
			t.Fatal(err)
		}
		if err := b.Settle([32]byte{5}, Accepted); err != nil {
			t.Fatal(err)
		}
		hash := func(first string) string { return first + strings.Repeat("0", 64-len(first)) }
		want := strings.Join([]string{
			"7163504f4f4c0100", // "qcPOOL", version 1

			"a2000000ec423ee5", "5303", // 'S', first and last part
			"81d8bed6c61b", "00", "00", hash(""), hash(""), // time, events, workers, parent, target
			"00", "09000000000000000000", strings.Repeat("0", 32), "00", "00", // total: accepted, refused, difficulty, best, blocks, last
			"81d8bed6c61b", "81d8bed6c61b", strings.Repeat("0", 48), // hash rate
			"00", "00", // workers, prefixes
			"02", "64", "d00f", "00", "00", "00", "00", // rules, network, work since, turned
			"0000000000000000", "00", // past, accounts
			"01", "00", "00", "00", // window, blocks, seen

			"e200000078516c9c", "42", "01", "80b0fdac8d37", // 'B', first event, time
			"0600", "01", "0471612e31", "027161", // worker: number, name, payee
			"0800", "07070707", "bfa003", "01", "0471612e31", // issued: extranonce1, difficulty, workers
			"0900", "07070707", // returned
			"0400", hash("0102"), // parent
			"0500", hash("00000000ff"), // target
			"010a", "01", "c020", hash("0300000000000000000000000000000000000000000000000000000100"), // share: worker, difficulty, hash
			"0a00", hash("05"), "07", "80b0fdac8d37", "e807", "0471612e31", // found: id, height, time, reward, finder
			"1b", "010207e8070a02", "000000", "027161de07050400040004", "01027161de07", // its note
			"0300", "01", "04", "02", // refused: worker, reason, count

			"2b000000ff7f0500", "42", "09", "80b0fdac8d37",
			"0b00", hash("05"), "01", // settled: accepted
		}, "")
		if got := hex.EncodeToString(fsys.Content(segmentPath(dir, 1))); got != want {
			t.Errorf("the format changed:\n%s, want\n%s", got, want)
		}
	})
}

// fuzzSeed is a batch with an event of every kind.
func fuzzSeed() (record, snapshot []byte) {
	fsys := durabletest.New()
	cfg := memory(fsys)
	cfg.MaxWorkers = 4
	b, err := Open(time.Now(), cfg)
	if err != nil {
		panic(err)
	}
	bookSome(b, 1)
	if err := foundBlock(b, 1); err != nil {
		panic(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.evict(time.Now())
	b.record(0, evMissing).num(5)
	snapshot = b.snapshot()
	b.seal()
	return b.sealed[0].b[1:], snapshot
}

// FuzzBatch: whatever a file holds is read or refused, and what is read can
// happen to books without upsetting them.
func FuzzBatch(f *testing.F) {
	record, _ := fuzzSeed()
	f.Add(record)
	f.Fuzz(func(t *testing.T, record []byte) {
		ledger, err := reward.New(reward.Rules{Factor: 1}, reward.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		l := loader{state: newState(ledger), seen: NewSeen(100), complete: true}
		_ = readBatch(record, func(e *event) error {
			l.state.seq = e.seq - 1
			return l.event(e)
		})
		if err := l.state.ledger.Check(); err != nil {
			t.Fatal(err)
		}
		l.state.stats(time.Now())
	})
}

// FuzzSnapshot: whatever is read as a state is written again as the same bytes.
func FuzzSnapshot(f *testing.F) {
	_, snapshot := fuzzSeed()
	f.Add(snapshot)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := canon.NewReader(b)
		s, err := readState(r, reward.Limits{})
		if err != nil {
			return
		}
		again := s.appendState(nil)
		if s2, err := readState(canon.NewReader(again), reward.Limits{}); err != nil || string(s2.appendState(nil)) != string(again) {
			t.Fatalf("another state: %v", err)
		}
	})
}
