package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/port"
	"qcitycoin.org/qcity/stratum/server"
)

// testPool is what the flags of qcity pool load serve ask for.
type testPool struct {
	listen      string
	connections int
	tipEvery    time.Duration
	jobEvery    time.Duration
	branches    int
	difficulty  float64
	orphan      bool // end with standard input
}

// The easiest difficulty a target can stand for: nearly every hash is a share,
// so that making them costs the tool next to nothing.
const easiestDifficulty = 1.0 / (1 << 32)

func newPoolLoadServe() *cobra.Command {
	var p testPool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run our Stratum server alone, with made-up work, to be measured",
		Long: `Run this program's Stratum server in a process of its own, without a chain: with
work that is made up and that nobody can turn into a block, and a new tip every
while. It speaks plain Stratum and TLS on one port. Standard output gets JSON lines: first where it listens, then each change
of the tip with its time.

qcity pool load without an address starts this by itself.`,
		Example: `  qcity pool load serve --listen 127.0.0.1:3399
  qcity pool load 127.0.0.1:3399 --pid $(pgrep -f "pool load serve")`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			if p.orphan {
				ctx = untilOrphaned(ctx)
			}
			return p.run(ctx, cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&p.listen, "listen", "127.0.0.1:0", "address to listen on; port 0: a free one")
	f.IntVar(&p.connections, "connections", 50_000, "most connections at a time")
	p.flags(c)
	f.BoolVar(&p.orphan, "orphan", false, "end when standard input does")
	must(f.MarkHidden("orphan"))
	return c
}

// flags adds those that qcity pool load passes on.
func (p *testPool) flags(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&p.tipEvery, "tip-every", 2*time.Second, "time between two tips; 0: one tip for ever")
	f.DurationVar(&p.jobEvery, "job-every", 0, "time between two jobs on the same tip; 0: none but the server's own")
	f.IntVar(&p.branches, "branches", 8, "hashes in the Merkle branch: 8 stand for 128 to 255 transactions")
	f.Float64Var(&p.difficulty, "difficulty", easiestDifficulty, "difficulty of every share; the default is met by nearly every hash")
}

func (p *testPool) check() error {
	switch {
	case p.tipEvery < 0 || p.tipEvery > 0 && p.tipEvery < 10*time.Millisecond:
		return fmt.Errorf("--tip-every is %v: give 10ms or more, or 0 for one tip only", p.tipEvery)
	case p.jobEvery < 0 || p.jobEvery > 0 && p.jobEvery < 10*time.Millisecond:
		return fmt.Errorf("--job-every is %v: give 10ms or more, or 0 for none", p.jobEvery)
	case p.branches < 0 || p.branches > 32:
		return fmt.Errorf("--branches is %d: give 0 to 32", p.branches)
	case !(p.difficulty >= easiestDifficulty && p.difficulty <= 1<<32):
		return fmt.Errorf("--difficulty is %v: give a number from %v to %d", p.difficulty, easiestDifficulty, int64(1<<32))
	}
	return nil
}

// slow says that jobs come a second or more apart.
func (p *testPool) slow() bool {
	return (p.tipEvery == 0 || p.tipEvery >= time.Second) && (p.jobEvery == 0 || p.jobEvery >= time.Second)
}

// poolLine is one line of the pool's standard output.
type poolLine struct {
	Listening string `json:"listening,omitempty"`
	PID       int    `json:"pid,omitempty"`
	Prev      string `json:"prev,omitempty"` // the new tip as mining.notify writes it
	UnixNano  int64  `json:"unixNano,omitempty"`
}

func (p *testPool) run(ctx context.Context, out io.Writer) error {
	ln, err := net.Listen("tcp", p.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	feed := work.NewFeed()
	certificate, err := throwawayTLS()
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := server.Config{
		MaxSessions: p.connections + 16,
		TLS:         certificate,
		// All three alike: there is nothing to steer.
		Difficulty: stratum.VardiffConfig{Start: p.difficulty, Min: p.difficulty, Max: p.difficulty},
	}
	books := pool.New(time.Now(), pool.Config{MaxWorkers: p.connections + 16})
	srv, err := server.New(cfg, books, ln, feed, noChain{}, log)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	lines := json.NewEncoder(out)
	job := p.job()
	feed.Publish(job)
	if err := lines.Encode(poolLine{Listening: ln.Addr().String(), PID: os.Getpid()}); err != nil {
		return errors.Join(err, ln.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.change(ctx, feed, job, lines) }()
	err = srv.Run(ctx)
	cancel()
	return errors.Join(err, <-done)
}

// throwawayTLS makes a certificate that nobody trusts and nobody keeps.
func throwawayTLS() (*tls.Config, error) {
	dir, err := os.MkdirTemp("", "qcity-load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, err := port.SelfSigned(dir)
	if err != nil {
		return nil, err
	}
	c, err := port.LoadCertificate(file, file, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return c.TLS(), nil
}

// change makes new tips and jobs until ctx ends.
func (p *testPool) change(ctx context.Context, feed *work.Feed, job *work.Job, lines *json.Encoder) error {
	every := func(d time.Duration) (<-chan time.Time, func()) {
		if d == 0 {
			return nil, func() {}
		}
		t := time.NewTicker(d)
		return t.C, t.Stop
	}
	tips, stopTips := every(p.tipEvery)
	defer stopTips()
	jobs, stopJobs := every(p.jobEvery)
	defer stopJobs()
	for {
		next := *job
		next.ID++
		tip := false
		select {
		case <-ctx.Done():
			return nil
		case <-jobs:
			next.MerkleBranch = randomHashes(p.branches)
		case <-tips:
			fresh := p.job()
			fresh.ID, fresh.Height = next.ID, next.Height+1
			next, tip = *fresh, true
		}
		job = &next
		// The time is taken before anything is done for the new job.
		at := time.Now().UnixNano()
		feed.Publish(job)
		if tip {
			if err := lines.Encode(poolLine{Prev: wirePrev(job.PrevBlock), UnixNano: at}); err != nil {
				return err
			}
		}
	}
}

// job makes up work on a new tip: the coinbase has the size of an ordinary one
// (one output beside a commitment), the target is one that no hash meets.
func (p *testPool) job() *work.Job {
	now := uint32(time.Now().Unix())
	job := &work.Job{
		ID: 1, Height: 840_000, Version: 0x20000000, PrevBlock: randomHashes(1)[0],
		MerkleBranch: randomHashes(p.branches),
		Time:         now, MinTime: now - 3600, Bits: 0x03000001, Target: work.Target{31: 1},
	}
	prefix := []byte{2, 0, 0, 0, 1}
	prefix = append(prefix, make([]byte, 32)...)
	prefix = append(prefix, 0xff, 0xff, 0xff, 0xff, 4+work.ExtranonceSize+16, 3)
	job.CoinbasePrefix = append(prefix, 0x40, 0xd1, 0x0c)
	suffix := append([]byte("/made-up work/\x00\x00"), 0xff, 0xff, 0xff, 0xff, 2)
	suffix = binary.LittleEndian.AppendUint64(suffix, 50_0000_0000)
	suffix = append(suffix, append([]byte{25, 0x76, 0xa9, 20}, make([]byte, 20)...)...)
	suffix = append(suffix, 0x88, 0xac)
	suffix = binary.LittleEndian.AppendUint64(suffix, 0)
	suffix = append(suffix, append([]byte{38, 0x6a, 36}, make([]byte, 36)...)...)
	job.CoinbaseSuffix = append(suffix, 0, 0, 0, 0)
	return job
}

func randomHashes(n int) [][32]byte {
	all := make([][32]byte, n)
	for i := range all {
		_, _ = rand.Read(all[i][:]) // never fails
	}
	return all
}

// wirePrev writes a block's hash as mining.notify does: each word reversed.
func wirePrev(h [32]byte) string {
	for i := 0; i < len(h); i += 4 {
		binary.BigEndian.PutUint32(h[i:], binary.LittleEndian.Uint32(h[i:]))
	}
	return hex.EncodeToString(h[:])
}

// noChain takes no blocks: no hash meets the target of the made-up work.
type noChain struct{}

func (noChain) SubmitSolution(context.Context, work.Solution) (work.Outcome, [32]byte, error) {
	return work.Rejected, [32]byte{}, errors.New("made-up work makes no block")
}
