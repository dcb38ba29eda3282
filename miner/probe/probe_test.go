//go:build unix

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// childEnv makes this test's program a child, and says what kind of one.
const childEnv = "QCITY_TEST_PROBE_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(childEnv); kind != "" {
		if err := childKinds[kind](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var childKinds = map[string]func(names []string) error{
	"honest": func(names []string) error { return Serve(os.Stdout, fakes(), names) },
	"tests one, and ends": func(names []string) error {
		return Serve(os.Stdout, fakes(), names[:1])
	},
	"tests one, then fails at something else": func(names []string) error {
		return errors.Join(Serve(os.Stdout, fakes(), names[:1]), errors.New("never mind"))
	},
	"says nothing":             func([]string) error { return nil },
	"is another program":       func([]string) error { fmt.Println("usage: other [file]"); return nil },
	"knows no such kernel":     func([]string) error { return Serve(os.Stdout, nil, []string{"good"}) },
	"praises without a test":   func(names []string) error { fmt.Println(sayOK + names[0]); return nil },
	"praises what was not due": func([]string) error { fmt.Println(sayTesting + "good\n" + sayOK + "other"); return nil },
	"never ends its line": func([]string) error {
		for {
			if _, err := os.Stdout.WriteString("xxxxxxxxxxxxxxxx"); err != nil {
				return err
			}
		}
	},
	"waits for ever": func([]string) error { return untilOrphaned() },
}

// untilOrphaned is how a child hangs without outliving the test.
func untilOrphaned() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// evil is a kernel that does something else than hash.
type evil struct{ deed func() }

func (evil) Prepare(*sha256d.Work)                                    {}
func (e evil) Scan(_ uint32, _ int, hits []sha256d.Hit) []sha256d.Hit { e.deed(); return hits }

// fakes are the kernels of these tests: two good ones, and one for each fault.
func fakes() []sha256d.Kernel {
	good := sha256d.Kernels()[1] // stdlib: quick under the race detector, too
	kernels := []sha256d.Kernel{{Name: "good", Lanes: 1, New: good.New}, {Name: "other", Lanes: 1, New: good.New}}
	for name, deed := range map[string]func(){
		"illegal":   illegal,
		"forbidden": forbidden,
		"absent":    absent,
		"killed":    killed,
		"wrong":     func() {},
		"panics":    func() { panic("index\nout of range") },
		"exits":     func() { fmt.Fprintln(os.Stderr, "\ngood bye"); os.Exit(3) },
		"leaves":    func() { os.Exit(0) },
		"hangs":     func() { _ = untilOrphaned() },
		"babbles":   func() { fmt.Println("ok babbles and good") },
		"lies":      func() { fmt.Println(sayOK + "good") },
	} {
		kernels = append(kernels, sha256d.Kernel{Name: name, Lanes: 1, Needs: []hw.Feature{"unobtainium", "adamant"}, New: func() sha256d.Engine { return evil{deed} }})
	}
	return kernels
}

func pick(names ...string) []sha256d.Kernel {
	all := fakes()
	var chosen []sha256d.Kernel
	for _, name := range names {
		chosen = append(chosen, all[slices.IndexFunc(all, func(k sha256d.Kernel) bool { return k.Name == name })])
	}
	return chosen
}

// family makes children of a kind and remembers what each was asked.
type family struct {
	Children
	kind  string
	asked []string
	logs  strings.Builder
}

func newFamily(kind string) *family {
	f := &family{kind: kind}
	f.Log = slog.New(slog.NewTextHandler(&f.logs, nil))
	f.Command = func(names []string) (*exec.Cmd, error) {
		f.asked = append(f.asked, strings.Join(names, " "))
		cmd := exec.Command(os.Args[0], names...)
		// Were it not for the child's own setting, this would dump core.
		cmd.Env = append(os.Environ(), childEnv+"="+f.kind, "GOTRACEBACK=crash")
		return cmd, nil
	}
	// No time passes here, unless a test says so.
	f.timer = func(time.Duration) *time.Timer { return never() }
	return f
}

func never() *time.Timer { return time.NewTimer(1 << 62) }

// impatient lets the time of the nth wait for a line be over at once.
func (f *family) impatient(n int) {
	waits := 0
	f.timer = func(d time.Duration) *time.Timer {
		if waits++; waits == n && d == silence {
			return time.NewTimer(0)
		}
		return never()
	}
}

func check(t *testing.T, errs []error, wants ...string) {
	t.Helper()
	if len(errs) != len(wants) {
		t.Fatalf("%d answers for %d kernels: %v", len(errs), len(wants), errs)
	}
	for i, want := range wants {
		switch err := errs[i]; {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("kernel %d: %v, want %q", i, err, want)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("kernel %d: more than one line: %v", i, err)
		}
	}
}

// TestBadKernels: whatever one does to its process is told of that one, in clear
// words, and the others are tested all the same, by the next child.
func TestBadKernels(t *testing.T) {
	for _, c := range []struct {
		name, want string
		asked      int // children
	}{
		{"good", "", 1},
		{"illegal", "kernel illegal failed its self test: the CPU does not know an instruction that it uses, although it claims unobtainium, adamant (SIGILL)", 2},
		{"forbidden", "kernel forbidden failed its self test: it used memory that it must not use (SIGSEGV)", 2},
		{"absent", "kernel absent failed its self test: it used memory that it must not use (SIGBUS)", 2},
		{"killed", "kernel killed failed its self test: the process that tested it ended with signal: killed", 2},
		{"exits", `kernel exits failed its self test: the process that tested it ended with exit status 3: "good bye"`, 2},
		{"leaves", "kernel leaves failed its self test: the process that tested it ended with exit status 0", 2},
		{"babbles", `kernel babbles failed its self test: its process said "ok babbles and good"`, 2},
		{"lies", `kernel lies failed its self test: its process said "ok good"`, 2},
		{"wrong", "kernel wrong failed its self test: genesis header", 1},
		{"panics", "kernel panics failed its self test: index out of range", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFamily("honest")
			check(t, f.Probe(t.Context(), pick("good", c.name, "other")), "", c.want, "")
			if len(f.asked) != c.asked || c.asked > 1 && f.asked[1] != "other" {
				t.Errorf("children were asked %q", f.asked)
			}
			if f.logs.Len() > 0 {
				t.Errorf("logged %s", f.logs.String())
			}
		})
	}
}

// TestManyBadKernels: each costs one child, also the first and the last.
func TestManyBadKernels(t *testing.T) {
	f := newFamily("honest")
	check(t, f.Probe(t.Context(), pick("illegal", "forbidden", "good", "wrong", "killed")), "SIGILL", "SIGSEGV", "", "genesis", "signal: killed")
	if want := []string{"illegal forbidden good wrong killed", "forbidden good wrong killed", "good wrong killed"}; !slices.Equal(f.asked, want) {
		t.Errorf("children were asked %q, want %q", f.asked, want)
	}
}

// TestHangingKernel is given up after its time, and its process ended.
func TestHangingKernel(t *testing.T) {
	f := newFamily("honest")
	f.impatient(4) // testing good, ok, testing hangs: nothing
	check(t, f.Probe(t.Context(), pick("good", "hangs", "other")), "", "kernel hangs failed its self test: nothing was heard of it for 30s", "")
	if len(f.asked) != 2 {
		t.Errorf("children were asked %q", f.asked)
	}
}

// TestUselessChild: what cannot test is not believed, and one line says that the
// tests were made here. "wrong" is what only a real test finds.
func TestUselessChild(t *testing.T) {
	for kind, want := range map[string]string{
		"says nothing":           "it tested nothing: it ended at once",
		"is another program":     `it tested nothing: its process said \"usage: other [file]\"`,
		"knows no such kernel":   "it tested nothing: exit status 1",
		"praises without a test": `it tested nothing: its process said \"ok good\"`,
		"never ends its line":    "it tested nothing: signal: killed",
		"waits for ever":         "it tested nothing: nothing was heard of it for 30s",
	} {
		t.Run(kind, func(t *testing.T) {
			f := newFamily(kind)
			if kind == "waits for ever" {
				f.impatient(1)
			}
			check(t, f.Probe(t.Context(), pick("good", "wrong")), "", "genesis")
			f.wantOneLine(t, want)
			if len(f.asked) != 1 {
				t.Errorf("children were asked %q", f.asked)
			}
		})
	}
}

func (f *family) wantOneLine(t *testing.T, want string) {
	t.Helper()
	if got := f.logs.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) || !strings.Contains(got, "tested in this process") {
		t.Errorf("logged %s, want one line with %s", got, want)
	}
}

// TestNoChild: one that cannot be had or not be started.
func TestNoChild(t *testing.T) {
	for want, command := range map[string]func([]string) (*exec.Cmd, error){
		"no executable path": func([]string) (*exec.Cmd, error) { return nil, errors.New("no executable path") },
		"no/such/program":    func([]string) (*exec.Cmd, error) { return exec.Command("no/such/program"), nil },
		"permission denied":  func([]string) (*exec.Cmd, error) { return exec.Command(os.TempDir()), nil },
	} {
		f := newFamily("")
		f.Command = command
		check(t, f.Probe(t.Context(), pick("good", "wrong")), "", "genesis")
		f.wantOneLine(t, want)
	}
}

// TestLazyChildren are replaced as long as each of them is of some use.
func TestLazyChildren(t *testing.T) {
	for _, kind := range []string{"tests one, and ends", "tests one, then fails at something else"} {
		f := newFamily(kind)
		check(t, f.Probe(t.Context(), pick("good", "wrong", "other")), "", "genesis", "")
		if want := []string{"good wrong other", "wrong other", "other"}; !slices.Equal(f.asked, want) || f.logs.Len() > 0 {
			t.Errorf("%s: children were asked %q, logged %s", kind, f.asked, f.logs.String())
		}
	}
}

// TestWrongPraise: a child that says what is not due has spoilt its present
// kernel, whatever the reason.
func TestWrongPraise(t *testing.T) {
	f := newFamily("praises what was not due")
	check(t, f.Probe(t.Context(), pick("good")), `kernel good failed its self test: its process said "ok other"`)
}

// TestInterrupted: who has no time blames nobody.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := newFamily("honest")
	waits := 0
	f.timer = func(time.Duration) *time.Timer {
		if waits++; waits == 4 { // "hangs" is being tested
			cancel()
		}
		return never()
	}
	errs := f.Probe(ctx, pick("good", "hangs", "other"))
	check(t, errs, "", "context canceled", "context canceled")
	if !errors.Is(errs[1], context.Canceled) || f.logs.Len() > 0 || len(f.asked) != 1 {
		t.Errorf("%v, children were asked %q, logged %s", errs, f.asked, f.logs.String())
	}
	check(t, f.Probe(ctx, pick("good")), "context canceled")
	if len(f.asked) != 1 {
		t.Errorf("children were asked %q", f.asked)
	}
}

// TestServe: to the letter, as another version of this program may listen.
func TestServe(t *testing.T) {
	var out strings.Builder
	if err := Serve(&out, fakes(), []string{"other", "panics"}); err != nil {
		t.Fatal(err)
	}
	if want := "testing other\nok other\ntesting panics\nfailed panics: kernel panics failed its self test: index out of range\n"; out.String() != want {
		t.Errorf("said %q, want %q", out.String(), want)
	}
	if err := Serve(&out, fakes(), []string{"quantum"}); err == nil || !strings.Contains(err.Error(), `no kernel is called "quantum"`) {
		t.Errorf("error %v", err)
	}
}
