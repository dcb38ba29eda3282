package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// bench is a ready session without a connection, for single requests.
type bench struct {
	ses *session
	c   *client
}

func newBench(t testing.TB, blockTarget work.Target) *bench {
	r := &rig{t: t, ln: newPipeListener(), feed: work.NewFeed(), chain: &chain{jobs: map[uint64]*work.Job{}}}
	cfg := easyConfig()
	cfg.Difficulty.Max = startDifficulty
	cfg.FloodBurst = 1 << 30
	srv, err := New(cfg, pool.New(time.Now(), pool.Config{}), r.ln, r.feed, r.chain, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv.blockCtx = t.Context()
	job := r.publish(1, blockTarget)
	job.MerkleBranch = make([][32]byte, 8)
	srv.follow(time.Now(), job.PrevBlock)
	srv.current.Store(newTemplate(job))
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close(); _ = there.Close() })
	b := &bench{ses: newSession(srv, there, time.Now()), c: &client{t: t}}
	b.request(`{"id":1,"method":"mining.subscribe","params":["bench"]}`)
	b.request(`{"id":2,"method":"mining.authorize","params":["w"]}`)
	b.ses.mu.Lock()
	defer b.ses.mu.Unlock()
	b.c.e1, b.c.size2 = fmt.Sprintf("%x", b.ses.extranonce1), 8
	b.ses.compose(time.Now())
	for line := range strings.Lines(string(*b.ses.out)) {
		var m message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m.Method != "" {
			b.c.take(m)
		}
	}
	*b.ses.out = (*b.ses.out)[:0]
	return b
}

// second is another session of the same server, which has said nothing yet.
func (b *bench) second(t testing.TB) *session {
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close(); _ = there.Close() })
	return newSession(b.ses.srv, there, time.Now())
}

// request handles one line and returns everything the session answers.
func (b *bench) request(line string) error { return b.ses.line([]byte(line)) }

func (b *bench) output() string {
	b.ses.mu.Lock()
	defer b.ses.mu.Unlock()
	out := string(*b.ses.out)
	*b.ses.out = (*b.ses.out)[:0]
	return out
}

// FuzzSubmit sends arbitrary parameters: every submission gets exactly one
// line of JSON, and nothing is accepted that does not meet its target.
func FuzzSubmit(f *testing.F) {
	b := newBench(f, hard)
	s := b.c.valid(b.c.job)
	f.Add(s.params())
	f.Add(strings.Replace(s.params(), s.e2, s.e2+"00", 1))
	f.Add(`["w","` + s.job + `","","",""]`)
	f.Add(`["w","` + s.job + `","00","` + s.ntime + `","0",null]`)
	f.Add(`["w",null,{},[],1.5,"1fffffff"]`)
	f.Add(`"w"`)
	f.Fuzz(func(t *testing.T, params string) {
		if strings.ContainsAny(params, "\n") || !json.Valid([]byte(params)) {
			t.Skip()
		}
		before := b.ses.srv.Stats().Total
		b.ses.ladder = ladder{} // it is one session for all the inputs
		if err := b.request(`{"id":"f","method":"mining.submit","params":` + params + `}`); err != nil {
			t.Skip() // too deeply nested, and often enough to be closed
		}
		out := b.output()
		if out == "" && b.ses.junk > 0 {
			t.Skip()
		}
		var m message
		if err := json.Unmarshal([]byte(out), &m); err != nil || string(m.ID) != `"f"` || strings.Count(out, "\n") != 1 {
			t.Fatalf("%s is answered by %q, %v", params, out, err)
		}
		after := b.ses.srv.Stats().Total
		if accepted := string(m.Result) == "true"; accepted != (after.Accepted == before.Accepted+1) || accepted == (m.code() != 0) {
			t.Fatalf("%s: answer %q, accounts %+v", params, out, after)
		}
		if after.Best > 0 && after.Best < startDifficulty {
			t.Fatalf("%s: accepted at %v", params, after.Best)
		}
	})
}

func TestSolutionHashIsTheJobsHeader(t *testing.T) {
	for _, size := range []int{0, 50, 600} { // the last is beyond the stack buffer
		job := &work.Job{CoinbasePrefix: make([]byte, size), CoinbaseSuffix: make([]byte, 30), MerkleBranch: [][32]byte{{1}, {2}}}
		sol := &work.Solution{Extranonce: [12]byte{5}, Version: 6, Time: 7, Nonce: 8}
		if header := job.Header(*sol); solutionHash(job, sol) != header.Hash() {
			t.Errorf("prefix of %d bytes: hashes differ", size)
		}
	}
}

// submissions makes n different valid shares.
func submissions(b *bench, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = `{"id":4,"method":"mining.submit","params":` + b.c.valid(b.c.job).params() + `}`
	}
	return lines
}

func TestSubmitAllocatesNothing(t *testing.T) {
	b := newBench(t, hard)
	lines := submissions(b, 40)
	raw := make([][]byte, len(lines))
	for i := range lines {
		raw[i] = []byte(lines[i])
		b.ses.srv.books.Accept(time.Now(), nil, pool.Share{Hash: [32]byte{byte(i), 1}}) // the table has its size
	}
	i := 0
	allocs := testing.AllocsPerRun(len(raw)-1, func() {
		_ = b.ses.line(raw[i])
		*b.ses.out = (*b.ses.out)[:0]
		i++
	})
	if st := b.ses.srv.Stats().Total; st.Accepted != 2*uint64(len(raw)) {
		t.Fatalf("accounts %+v", st)
	}
	if allocs >= 1 { // the table of seen shares grows now and then
		t.Errorf("%v allocations a share", allocs)
	}
}

// BenchmarkSubmit is one valid share from its line to its queued answer, with
// a Merkle branch of 8.
func BenchmarkSubmit(b *testing.B) {
	f := newBench(b, hard)
	lines := submissions(f, 4096)
	raw := make([][]byte, len(lines))
	for i := range lines {
		raw[i] = []byte(lines[i])
	}
	i, parent := 0, byte(1) // as the rig's
	b.ReportAllocs()
	for b.Loop() {
		if i == len(raw) { // the same shares count again on another parent
			for range 2 { // those of the one before are remembered, too
				parent++
				f.ses.srv.books.NewParent([32]byte{parent})
			}
			i = 0
		}
		if err := f.ses.line(raw[i]); err != nil {
			b.Fatal(err)
		}
		i++
		*f.ses.out = (*f.ses.out)[:0]
	}
	if st := f.ses.srv.Stats().Total; st.Accepted != uint64(b.N) {
		b.Fatalf("%d of %d accepted", st.Accepted, b.N)
	}
}

// BenchmarkReject is the same for a share below its target.
func BenchmarkReject(b *testing.B) {
	f := newBench(b, hard)
	raw := []byte(`{"id":4,"method":"mining.submit","params":` + f.c.solve(f.c.job, 0, between(0, startDifficulty/2)).params() + `}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := f.ses.line(raw); err != nil {
			b.Fatal(err)
		}
		*f.ses.out = (*f.ses.out)[:0]
	}
}

// BenchmarkParse is the scanner alone.
func BenchmarkParse(b *testing.B) {
	line := []byte(`{"id":4,"method":"mining.submit","params":["worker.1","6f00ba12","00000000000000aa","6553f100","a1b2c3d4","00abc000"]}`)
	b.ReportAllocs()
	for b.Loop() {
		var q stratum.Request
		var few [8]stratum.Raw
		if err := stratum.ParseRequest(line, &q); err != nil {
			b.Fatal(err)
		}
		if p, ok := q.Params.Elements(few[:0]); !ok || len(p) != 6 {
			b.Fatal(len(p))
		}
	}
}
