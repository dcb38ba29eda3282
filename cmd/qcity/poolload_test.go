package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/stratum/load"
)

// TestPoolLoad: without an address the program measures its own server, in a
// process of its own, and says so in JSON.
func TestPoolLoad(t *testing.T) {
	out, stderr, code := qcity(t, "pool", "load", "-n", "60", "--duration", "1s", "--tip-every", "100ms", "--stalled", "10%", "--shares", "200", "--json")
	var r load.Result
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || stderr != "" {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	if !r.Complete || r.Storm.Holding != 60 || r.Storm.Failed != 0 || r.Setup.Connections != 60 {
		t.Errorf("storm %+v", r.Storm)
	}
	if r.Broadcasts.Count == 0 || r.Broadcasts.TipToFirst == nil || r.Broadcasts.List[0].Expected != 54 {
		t.Errorf("broadcasts %+v", r.Broadcasts)
	}
	if r.Shares == nil || r.Shares.Accepted == 0 || r.Stalled == nil || r.Stalled.Connections != 6 {
		t.Errorf("shares %+v, stalled %+v", r.Shares, r.Stalled)
	}
	if r.Pool == nil || len(r.Pool.PIDs) != 1 || alive(r.Pool.PIDs[0]) {
		t.Errorf("the server %+v has not ended", r.Pool)
	}
}

func TestPoolLoadTLS(t *testing.T) {
	out, stderr, code := qcity(t, "pool", "load", "-n", "20", "--tls", "--storm-only", "--json")
	var r load.Result
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || stderr != "" {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	if r.Storm.Holding != 20 || !r.Setup.TLS || r.Setup.Engine != "goroutines" || r.Setup.Clock != "tool" {
		t.Errorf("%+v, %+v", r.Storm, r.Setup)
	}
}

// TestPoolLoadServe: the two halves by hand, with tip changes from a command, and
// in text.
func TestPoolLoadServe(t *testing.T) {
	serve := &process{t: t, args: []string{"pool", "load", "serve", "--tip-every", "200ms"}}
	serve.start()
	defer serve.kill()
	var hello poolLine
	until(t, "the server says where it listens", func() bool {
		first, _, whole := strings.Cut(serve.tail(), "\n")
		return whole && json.Unmarshal([]byte(first), &hello) == nil
	})
	out, stderr, code := qcity(t, "pool", "load", "stratum+tcp://"+hello.Listening, "-n", "20", "--duration", "1s",
		"--tip-command", "while sleep 0.1; do echo tip; done", "--compare-stalled", "--stalled", "5%", "--rounds", "1")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d\n%s%s", code, out, stderr)
	}
	for _, want := range []string{"run 1, nobody stalls: " + hello.Listening, "run 2, 5 % stall: ", "20 hold a job", "first to each notify", "tip to first notify", "1 stopped reading", "ratio "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestPoolLoadInterrupted: Ctrl-C gives the figures until then and takes the
// server along.
func TestPoolLoadInterrupted(t *testing.T) {
	p := &process{t: t, args: []string{"pool", "load", "-n", "20", "--duration", "1h", "--json"}}
	p.start()
	var server []int
	until(t, "the server is there", func() bool { server = family(p.pid()); return len(server) == 1 })
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if code := p.cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if alive(server[0]) {
		t.Error("its server is still there")
	}
	if text := p.tail(); !strings.Contains(text, `"complete": false`) {
		t.Errorf("no figures:\n%s", text)
	}
}

func TestPoolLoadRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--stalled 100%", "--stalled: "},
		{"--shares lots", "--shares: "},
		{"-n 0", "must not be 0"},
		{"-n -5", "-5 connections"},
		{"-n 60000", "give 1 to 50000"},
		{"--duration 10ms", "--duration is 10ms"},
		{"--compare-stalled", "needs --stalled"},
		{"--compare-stalled --stalled 1% --rounds 0", "--rounds is 0"},
		{"--compare-stalled --stalled 1% --storm-only", "--storm-only"},
		{"--tip-every 1ms", "--tip-every is 1ms"},
		{"--job-every 1ms", "--job-every is 1ms"},
		{"--branches 33", "--branches is 33"},
		{"--difficulty 0", "--difficulty is 0"},
		{"--pid 1", "give its ADDRESS"},
		{"127.0.0.1:3333 --tip-every 1s", "--tip-every concerns the server"},
		{"localhost", "the pool's address"},
		{"127.0.0.1:3333 --pid 999999999", "999999999"},
		{"127.0.0.1:3333 --window 65", "65 unanswered shares"},
		{"127.0.0.1:3333 extra", "accepts at most 1 arg"},
	} {
		root := newRoot()
		root.SetArgs(append([]string{"pool", "load"}, strings.Fields(c.args)...))
		root.SetOut(&strings.Builder{})
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}

// TestLoadText: what a person reads, with everything that can be in it.
func TestLoadText(t *testing.T) {
	b, err := os.ReadFile("../../stratum/load/testdata/result.json")
	if err != nil {
		t.Fatal(err)
	}
	var r load.Result
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	r.Complete = false
	const want = `127.0.0.1:3333, 1000 connections, 2026-11-28T09:00:00Z
interrupted: this is what was measured until then
             milliseconds   p50   p90   p99   max
     connect to first job  1.00  2.00  3.00  4.00
      tip to first notify  1.00  2.00  3.00  4.00
     first to each notify  1.00  2.00  3.00  4.00
         submit to answer  1.00  2.00  3.00  4.00
     stalled until closed  1.00  2.00  3.00  4.00
  read by this tool after  1.00  2.00  3.00  4.00

storm       999 hold a job after 5 ms, 1 failed
            1 no job within 1m0s
broadcasts  1, 1 jobs missing; p99 of each: 3.00 to 3.00 ms, median 3.00
stalled     10 stopped reading, 2 of them were closed
            2 reset by the pool
            1 KB wait for one in the pool's socket (median of 8; 2 KB at most)
shares      11 answered in 20.0 s: 1 a second, 61000 for each CPU second of the pool; 10 accepted
            1 rejected: 21 stale
lost        connections that had a job
            1 closed by the pool
odd         1 lines that are no Stratum, 2 answers to nothing, 3 requests to reconnect
memory      0.0 MB before, 0.0 MB after the storm, 0.0 MB at the end: 0.0 KB for each connection
CPU         pool 5 ms in the storm, then 0.50 cores: 12.5 µs for each job on a new tip
this tool   1 ms in the storm, then 0.10 cores; epoll, kernel's clock
note: a note
`
	if diff := cmp.Diff(want, loadText(&r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestServeDies: a server that cannot start is one error, not a hang.
func TestServeDies(t *testing.T) {
	err := (&testPool{listen: "256.0.0.1:1", difficulty: 1}).run(context.Background(), &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("%v", err)
	}
}
