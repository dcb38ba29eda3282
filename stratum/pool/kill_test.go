package pool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// childEnv names the directory in which the re-executed test binary keeps books.
const childEnv = "POOL_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, bookForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func onDisk(dir string) Config {
	return Config{
		Dir: dir, Rules: reward.Rules{Mode: reward.PPLNS, Fee: 50}, SegmentBytes: 200 << 10,
		Payable: func(a string) bool { return a != "" && a[0] == 'q' },
	}
}

// bookForever accepts shares and prints, every ten milliseconds, how many there
// are, how many had been accepted when the journal was last known to be on
// disk, and how long ago that is at most; a block is found now and then.
func bookForever(dir string) error {
	b, err := Open(time.Now(), onDisk(dir))
	if err != nil {
		return err
	}
	go func() { _ = b.Run(context.Background()) }()
	total, _ := b.Stats(time.Now())
	n, blocks := int(total.Accepted), len(b.Report().Blocks)
	workers := []*Worker{b.Open(time.Now(), "qa.1"), b.Open(time.Now(), "qb.1"), b.Open(time.Now(), "c")}
	b.Network(work.TargetFromDifficulty(5000))
	type mark struct {
		at time.Time
		n  int
	}
	var marks []mark
	var lag time.Duration
	durable := n
	for round := 1; ; round++ {
		for range 100 {
			if !b.Accept(time.Now(), workers[n%3], shareOfNumber(n)) {
				return fmt.Errorf("share %d was there already", n)
			}
			n++
		}
		marks = append(marks, mark{time.Now(), n})
		since := b.Journal().Durable
		for len(marks) > 0 && marks[0].at.Before(since) {
			durable, marks = marks[0].n, marks[1:]
		}
		lag = max(lag, time.Since(since))
		if round%40 == 0 {
			_, note := b.Plan(uint32(blocks), 1000, 2)
			f := Found{ID: [32]byte{byte(blocks), byte(blocks >> 8)}, Height: uint32(blocks), Time: time.Now(), Reward: 1000, Finder: "qa.1", Note: note}
			if err := b.Found(f); err != nil {
				return err
			}
			blocks++
		}
		if _, err := fmt.Println(time.Now().UnixMilli(), n, durable, blocks, lag.Milliseconds()); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestKill kills a process in the middle of its shares again and again. What it
// had accepted a second before is there, and so are all blocks that it had
// booked; no share is there twice or counts again.
func TestKill(t *testing.T) {
	rounds := 3
	if text := os.Getenv("QCITY_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	dir := t.TempDir()
	for round := range rounds {
		need, most, blocks := killBooks(t, dir, 1200+time.Duration(round*137%500))
		got := 0
		seen := map[[32]byte]bool{}
		if err := Shares(t.Context(), dir, time.Time{}, nil, func(s *ShareRecord) error {
			if seen[s.Hash] || s.Hash != hashOf(got) {
				return fmt.Errorf("share %x at place %d", s.Hash[:8], got)
			}
			seen[s.Hash] = true
			got++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		b, err := Open(time.Now(), onDisk(dir))
		if err != nil {
			t.Fatal(err)
		}
		total, _ := b.Stats(time.Now())
		t.Logf("round %d: %d shares, %d of them needed, at most %d; %d blocks", round, got, need, most, blocks)
		if int(total.Accepted) != got || got < need || got > most+100 {
			t.Errorf("%d shares count, %d are in the journal, %d to %d were accepted", total.Accepted, got, need, most)
		}
		r := b.Report()
		if n := len(r.Blocks); n < blocks || n > blocks+1 || r.Check() != nil || b.state.ledger.Check() != nil {
			t.Errorf("%d blocks of %d, %v", n, blocks, r.Check())
		}
		for n := range got {
			if b.Accept(time.Now(), nil, shareOfNumber(n)) {
				t.Fatalf("share %d of %d counts again", n, got)
			}
		}
		if err := b.Shut(); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := segments(osFS{durable.OS()}, dir); err != nil || len(list) < 2 {
		t.Errorf("only %v: no kill was near a new segment, %v", list, err)
	}
}

// killBooks lets a process book for a while, kills it, and returns how many
// shares must be there, how many may, and how many blocks must.
func killBooks(t *testing.T, dir string, ms time.Duration) (need, most, blocks int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var killed time.Time
	var lines [][5]int
	in := bufio.NewReader(out)
	began := time.Time{}
	for {
		var l [5]int
		if _, err := fmt.Fscanln(in, &l[0], &l[1], &l[2], &l[3], &l[4]); err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF && killed.IsZero() {
				t.Fatal(err)
			}
			break
		}
		lines = append(lines, l)
		if began.IsZero() {
			began = time.Now()
		}
		if killed.IsZero() && time.Since(began) > ms*time.Millisecond {
			killed = time.Now()
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if len(lines) == 0 || killed.IsZero() {
		t.Fatal("the process ended by itself")
	}
	last := lines[len(lines)-1]
	// A second, or what the disk of a loaded machine took.
	second := max(1000, last[4])
	for _, l := range lines {
		if int64(l[0]) < killed.UnixMilli()-int64(second) {
			need = l[1]
		}
	}
	return max(need, last[2]), last[1], last[3]
}
