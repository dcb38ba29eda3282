package miner

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

// scanTime is what one call costs in the tests' clock.
const scanTime = time.Millisecond

// scanned is one call of an engine.
type scanned struct {
	at       time.Time
	header   work.Header // version and nonce zero
	versions []uint32
	first    uint32
	n        int
}

// recorder makes a kernel that hashes correctly, takes scanTime for each call,
// and writes down what it was asked. Scans of the self test, recognised by the
// header, are left out.
type recorder struct {
	mu    sync.Mutex
	scans []scanned
	// each is called after every recorded scan; may be nil.
	each func(scanned)
	// dry: pretend that nothing meets the target, and take no time.
	dry bool
}

// marker in a job's parent tells the tests' jobs from the self test's headers.
const marker = "test job"

func (r *recorder) kernel(lanes int) sha256d.Kernel {
	return sha256d.Kernel{Name: "recorder", Lanes: lanes, New: func() sha256d.Engine {
		return &recordingEngine{r: r, Engine: sha256d.Kernels()[0].New()}
	}}
}

type recordingEngine struct {
	sha256d.Engine
	r *recorder
	w sha256d.Work
}

func (e *recordingEngine) Prepare(w *sha256d.Work) {
	e.w = *w
	e.w.Versions = append([]uint32(nil), w.Versions...)
	clear(e.w.Header[0:4])
	clear(e.w.Header[76:])
	e.Engine.Prepare(w)
}

func (e *recordingEngine) Scan(first uint32, n int, hits []sha256d.Hit) []sha256d.Hit {
	if !bytes.Contains(e.w.Header[4:36], []byte(marker)) {
		return e.Engine.Scan(first, n, hits)
	}
	s := scanned{time.Now(), e.w.Header, e.w.Versions, first, n}
	e.r.mu.Lock()
	e.r.scans = append(e.r.scans, s)
	e.r.mu.Unlock()
	if e.r.each != nil {
		e.r.each(s)
	}
	if e.r.dry {
		return hits
	}
	time.Sleep(scanTime) // in the bubble's clock: what makes rates exact
	switch e.w.Target {
	case work.Target{}: // nothing to find, so nothing to compute
		return hits
	case work.MaxTarget: // all are right; one will do
		n = 1
	}
	return e.Engine.Scan(first, n, hits)
}

// submitter answers every solution with a function.
type submitter func(context.Context, work.Solution) (work.Outcome, error)

func (f submitter) SubmitSolution(ctx context.Context, s work.Solution) (work.Outcome, [32]byte, error) {
	o, err := f(ctx, s)
	return o, [32]byte{}, err
}

func noSolutions(t *testing.T) submitter {
	return func(_ context.Context, s work.Solution) (work.Outcome, error) {
		t.Errorf("solution %+v of a job without any", s)
		return work.Rejected, errors.New("impossible")
	}
}

// newJob returns a job on the parent that a letter stands for.
func newJob(id uint64, parent byte, target work.Target) *work.Job {
	j := &work.Job{
		ID: id, Height: uint32(id), Version: 0x20000000, Target: target, Bits: 0x207fffff,
		CoinbasePrefix: []byte("coinbase of nobody "), CoinbaseSuffix: []byte(" end"),
		MerkleBranch: [][32]byte{{1}, {2}},
		Time:         uint32(time.Now().Unix()),
	}
	copy(j.PrevBlock[:], marker)
	j.PrevBlock[31] = parent
	return j
}

// running is a Miner on its way, inside a synctest bubble.
type running struct {
	*Miner
	feed *work.Feed
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, workers int, k sha256d.Kernel, sub work.Submitter) *running {
	t.Helper()
	feed := work.NewFeed()
	m, err := New(Config{Workers: workers, Kernel: k.Name}, []sha256d.Kernel{k}, feed, sub, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{m, feed, cancel, make(chan error, 1)}
	go func() { r.done <- m.Run(ctx) }()
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestNeverTheSameHeaderTwice publishes the very same template again and again,
// while nothing but the jobs' numbers changes and the clock stands still.
func TestNeverTheSameHeaderTwice(t *testing.T) {
	for _, lanes := range []int{1, 5, 16} {
		synctest.Test(t, func(t *testing.T) {
			enough := make(chan struct{})
			count := 0
			r := &recorder{dry: true}
			m := start(t, 3, r.kernel(lanes), noSolutions(t))
			r.each = func(scanned) {
				r.mu.Lock()
				defer r.mu.Unlock()
				count++
				if count%50 == 0 && count <= 1000 {
					m.feed.Publish(newJob(uint64(count), 'P', work.Target{}))
				}
				if count == 2000 {
					close(enough)
				}
			}
			m.feed.Publish(newJob(1, 'P', work.Target{}))
			<-enough
			m.end(t)
			checkDisjoint(t, r.scans)
		})
	}
}

// checkDisjoint fails when two scans share a header, version and nonce.
func checkDisjoint(t *testing.T, scans []scanned) {
	t.Helper()
	type key struct {
		header  work.Header
		version uint32
		chunk   uint32
	}
	seen := map[key]int{}
	for _, s := range scans {
		chunk := uint32(callHashes / len(s.versions))
		if s.first%chunk != 0 || s.n > int(chunk) {
			t.Fatalf("scan of %d nonces from %d is not within one chunk of %d", s.n, s.first, chunk)
		}
		for _, v := range s.versions {
			seen[key{s.header, v, s.first / chunk}]++
		}
	}
	for k, n := range seen {
		if n > 1 {
			t.Fatalf("version %08x, chunk %d of one header was hashed %d times", k.version, k.chunk, n)
		}
	}
}

// TestWholeNonceSpace: every nonce once, then the next versions, same root.
func TestWholeNonceSpace(t *testing.T) {
	const lanes = 1 // the fewest calls
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{dry: true}
		over := make(chan scanned, 1)
		var versions []uint32
		next := uint64(0)
		r.each = func(s scanned) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.scans = nil // too many to keep
			switch {
			case versions == nil:
				versions = s.versions
			case s.versions[0] != versions[0]:
				select {
				case over <- s:
				default:
				}
				return
			}
			if uint64(s.first) != next {
				t.Errorf("scan from %d, want %d", s.first, next)
			}
			next = uint64(s.first) + uint64(s.n)
		}
		m := start(t, 1, r.kernel(lanes), noSolutions(t))
		job := newJob(1, 'P', work.Target{})
		m.feed.Publish(job)
		s := <-over
		m.end(t)
		if next != sha256d.NonceSpace {
			t.Errorf("the search of the first versions ended at nonce %d", next)
		}
		if s.versions[0] != versions[lanes-1]+1<<versionShift || s.first != 0 {
			t.Errorf("after versions %08x came %08x from nonce %d", versions, s.versions, s.first)
		}
	})
}

// TestChunks: no gap, no overlap, nothing past the end.
func TestChunks(t *testing.T) {
	for _, versions := range []int{1, 15, sha256d.MaxVersions} {
		next := uint64(0)
		for first, n := range chunks(versions) {
			if uint64(first) != next || n < 1 || n*versions > callHashes {
				t.Fatalf("%d versions: %d nonces from %d, want them from %d", versions, n, first, next)
			}
			next += uint64(n)
		}
		if next != sha256d.NonceSpace {
			t.Errorf("%d versions: ended at nonce %d", versions, next)
		}
	}
}

func TestSolutionIsValid(t *testing.T) {
	easy := work.MaxTarget
	easy[0] = 0 // one hash in 256
	for _, lanes := range []int{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			job := newJob(1, 'P', easy)
			job.MinTime = job.Time + 5 // the chain's limit beats the clock
			got := make(chan work.Solution, 1)
			m := start(t, 2, new(recorder).kernel(lanes), submitter(func(_ context.Context, s work.Solution) (work.Outcome, error) {
				got <- s
				return work.Accepted, nil
			}))
			m.feed.Publish(job)
			s := <-got
			m.end(t)
			h := job.Header(s)
			if !job.Target.Met(h.Hash()) {
				t.Errorf("%+v does not meet the target", s)
			}
			if err := job.CheckVersion(s.Version); err != nil {
				t.Error(err)
			}
			if s.JobID != job.ID || s.Time != job.MinTime || !bytes.HasPrefix(s.Extranonce[:], work.LocalPrefix[:]) {
				t.Errorf("solution %+v", s)
			}
		})
	}
}

// TestJobSwitch: no call on the old job begins after the new one is published.
func TestJobSwitch(t *testing.T) {
	for _, c := range []struct {
		name   string
		parent byte
	}{{"new parent", 'Q'}, {"same parent", 'P'}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{}
				m := start(t, 2, r.kernel(1), noSolutions(t))
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(10*scanTime + scanTime/2) // in the middle of a call
				second := newJob(2, c.parent, work.Target{})
				second.Bits = 0x1d00ffff // tells it from the first
				m.feed.Publish(second)
				published := time.Now()
				time.Sleep(10 * scanTime)
				m.end(t)
				old, new := 0, 0
				for _, s := range r.scans {
					isNew := binary.LittleEndian.Uint32(s.header[72:]) == second.Bits
					switch {
					case isNew:
						new++
					case s.at.After(published):
						t.Fatal("the old job was hashed after the switch")
					default:
						old++
					}
				}
				if old == 0 || new == 0 {
					t.Fatalf("%d calls on the old job, %d on the new", old, new)
				}
			})
		})
	}
}

func TestStatsAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		m := start(t, 2, r.kernel(16), noSolutions(t))
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(2*time.Minute + scanTime/2)
		s := m.Stats()
		want := uint64(2*time.Minute/scanTime) * callHashes
		for i, w := range s.Workers {
			if w.Hashes != want {
				t.Errorf("worker %d counts %d hashes, want %d", i, w.Hashes, want)
			}
			checkRates(t, w.Rates, callHashes/scanTime.Seconds())
		}
		checkRates(t, s.Total.Rates, 2*callHashes/scanTime.Seconds())
		if s.Total.Hashes != 2*want || s.Kernel != "recorder" || s.Active != 2 || s.Blocks != (BlockStats{}) {
			t.Errorf("stats %+v", s)
		}
		m.end(t)
		var hashed uint64
		for _, s := range r.scans {
			hashed += uint64(s.n * len(s.versions))
		}
		if got := m.Stats().Total.Hashes; got != hashed {
			t.Errorf("%d hashes counted, %d done", got, hashed)
		}
	})
}

// checkRates: one call more or less at a window's edge is in the nature of it.
func checkRates(t *testing.T, r Rates, want float64) {
	t.Helper()
	for _, got := range []float64{r.Seconds5, r.Minute1, r.Minutes15} {
		if got < want*0.999 || got > want*1.001 {
			t.Errorf("rates %+v, want %v", r, want)
			return
		}
	}
}

func TestRefusesConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no workers", Config{}, "0 mining workers: choose 1"},
		{"too many workers", Config{Workers: maxWorkers + 1}, "mining workers"},
		{"nice", Config{Workers: 1, Nice: 20}, "nice level 20: choose -20 to 19"},
		{"CPU", Config{Workers: 1, CPUs: []int{0, -1}}, "CPU -1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.cfg, nil, nil, nil, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestRunRefusesUnknownKernel(t *testing.T) {
	m, err := New(Config{Workers: 1, Kernel: "quantum"}, sha256d.Kernels(), work.NewFeed(), noSolutions(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `no kernel named "quantum"`) {
		t.Fatalf("error %v", err)
	}
}

func TestHeaderTime(t *testing.T) {
	for _, c := range []struct {
		name string
		job  work.Job
		want uint32
	}{
		{"the clock has moved on", work.Job{Time: 900, MinTime: 800}, 1000},
		{"the job is ahead of the clock", work.Job{Time: 1100, MinTime: 800}, 1100},
		{"the chain's minimum is ahead of both", work.Job{Time: 900, MinTime: 1200}, 1200},
		{"fallback: as it is", work.Job{Time: 900, MinTime: 800, Fallback: true}, 900},
		{"fallback: never below the minimum", work.Job{Time: 900, MinTime: 950, Fallback: true}, 950},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := headerTime(&c.job, time.Unix(1000, 5)); got != c.want {
				t.Fatalf("%d, want %d", got, c.want)
			}
		})
	}
}
