package miner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

var discard = slog.New(slog.DiscardHandler)

// fakeRate is the speed of the tests' kernels in hashes per second of their
// clock: so slow that calls are of minCall hashes and a minute has not too many.
const fakeRate = 100_000

// fakeCall is how long one of their calls takes.
const fakeCall = minCall * time.Second / fakeRate

// scanned is one call of an engine.
type scanned struct {
	at       time.Time
	kernel   string
	header   work.Header // version and nonce zero
	versions []uint32
	first    uint32
	n        int
}

// recorder makes kernels that hash correctly, take a known time for each hash,
// and write down what they were asked. Scans of self tests and measurements,
// recognised by the header, are left out.
type recorder struct {
	mu    sync.Mutex
	scans []scanned
	// each is called after every recorded scan; may be nil.
	each func(scanned)
	// forget: keep no scans, in tests over hours.
	forget bool
}

// marker in a job's parent tells the tests' jobs from the self test's headers.
const marker = "test job"

// fault is what a bad kernel does in place of a scan, while mining or being
// tested and measured.
type fault func(e sha256d.Engine, mining bool, first uint32, n int, hits []sha256d.Hit) []sha256d.Hit

// fake is a kernel's speed and what is wrong with it; tests change it on the way.
type fake struct {
	mu    sync.Mutex
	rate  float64
	fault fault // nil: nothing
}

func (f *fake) get() (float64, fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rate, f.fault
}

func (f *fake) setFault(how fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = how
}

func (f *fake) setRate(rate float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = rate
}

func (r *recorder) kernel(lanes int) sha256d.Kernel {
	return r.faked("recorder", lanes, &fake{rate: fakeRate})
}

func (r *recorder) faked(name string, lanes int, f *fake) sha256d.Kernel {
	return sha256d.Kernel{Name: name, Lanes: lanes, New: func() sha256d.Engine {
		return &recordingEngine{r: r, name: name, fake: f, Engine: reference.New()}
	}}
}

// reference is the kernel that is the standard library's code.
var reference = func() sha256d.Kernel {
	all := sha256d.Kernels()
	return all[slices.IndexFunc(all, func(k sha256d.Kernel) bool { return k.Name == "stdlib" })]
}()

type recordingEngine struct {
	sha256d.Engine
	r    *recorder
	name string
	fake *fake
	w    sha256d.Work
}

func (e *recordingEngine) Prepare(w *sha256d.Work) {
	e.w = *w
	e.w.Versions = slices.Clone(w.Versions)
	clear(e.w.Header[0:4])
	clear(e.w.Header[76:])
	e.Engine.Prepare(w)
}

func (e *recordingEngine) Scan(first uint32, n int, hits []sha256d.Hit) []sha256d.Hit {
	mining := bytes.Contains(e.w.Header[4:36], []byte(marker))
	rate, fault := e.fake.get()
	// Measurements search for nothing on Bitcoin's first header, which has no parent.
	measuring := [32]byte(e.w.Header[4:36]) == [32]byte{} && e.w.Target == work.Target{}
	if mining || measuring { // in the bubble's clock: what makes rates exact
		time.Sleep(time.Duration(float64(n*len(e.w.Versions)) / rate * float64(time.Second)))
	}
	if mining {
		s := scanned{time.Now(), e.name, e.w.Header, e.w.Versions, first, n}
		if !e.r.forget {
			e.r.mu.Lock()
			e.r.scans = append(e.r.scans, s)
			e.r.mu.Unlock()
		}
		if e.r.each != nil {
			e.r.each(s)
		}
	}
	switch {
	case fault != nil:
		return fault(e.Engine, mining, first, n, hits)
	case e.w.Target == work.Target{}: // nothing to find, so nothing to compute
		return hits
	case e.w.Target == work.MaxTarget && mining: // all are right; one will do
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
	logs *logBook
}

// start runs a miner with the one kernel, which it need not choose.
func start(t *testing.T, workers int, k sha256d.Kernel, sub work.Submitter) *running {
	t.Helper()
	return startWith(t, Config{Workers: workers, Kernel: k.Name}, sub, k)
}

func startWith(t *testing.T, cfg Config, sub work.Submitter, kernels ...sha256d.Kernel) *running {
	t.Helper()
	r := prepared(t, cfg, sub, kernels...)
	r.begin(t)
	return r
}

// prepared makes a miner that does not run yet.
func prepared(t *testing.T, cfg Config, sub work.Submitter, kernels ...sha256d.Kernel) *running {
	t.Helper()
	feed, logs := work.NewFeed(), new(logBook)
	m, err := New(cfg, kernels, feed, sub, slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return &running{Miner: m, feed: feed, done: make(chan error, 1), logs: logs}
}

func (r *running) begin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.done <- r.Run(ctx) }()
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// logBook keeps log lines.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines returns the log's lines that hold a text.
func (b *logBook) lines(part string) (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// wantOneLine fails unless exactly one log line holds a text.
func (b *logBook) wantOneLine(t *testing.T, part string) {
	t.Helper()
	if got := b.lines(part); len(got) != 1 {
		t.Errorf("%d log lines with %q, want one: %q", len(got), part, got)
	}
}

// checkDisjoint fails when two scans share a header, all 80 bytes of it.
func checkDisjoint(t interface{ Fatalf(string, ...any) }, scans []scanned) {
	byHeader := map[work.Header][]piece{}
	for _, s := range scans {
		for _, v := range s.versions {
			byHeader[s.header] = append(byHeader[s.header], piece{version: v, first: uint64(s.first), end: uint64(s.first) + uint64(s.n)})
		}
	}
	for h, pieces := range byHeader {
		if twice := overlaps(pieces); twice != nil {
			t.Fatalf("header %x was hashed twice: %s", h, fmt.Sprintf("%+v", twice))
		}
	}
}
