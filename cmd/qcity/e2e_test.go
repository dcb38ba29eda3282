package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/configs"
	firmwareapi "qcitycoin.org/qcity/firmware-api"
)

// bin is the folder of the programs under test, built as `make build` does.
var bin string

func TestMain(m *testing.M) {
	// Commands that these tests run in this process take its program for qcity.
	if len(os.Args) > 1 && os.Args[1] == selfTestCommand {
		main()
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "qcity-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		for name, cgo := range map[string]string{"qcity": "0", "qcity-p11": "1"} {
			cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, name), "../"+name)
			cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
				return 1
			}
		}
		bin = dir
		return m.Run()
	}())
}

// limit is how long any one command of these tests may take. It ends a test
// that hangs; nothing is measured against it.
const limit = 3 * time.Minute

// qcity runs the program and returns what it printed and its exit code.
func qcity(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "qcity"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("qcity %s did not end:\n%s", strings.Join(args, " "), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func must0(t *testing.T, stdout, stderr string, code int) string {
	t.Helper()
	if code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	return stdout
}

// demoArgs are the flags of a demo whose ports nobody else wants.
func demoArgs(dir string, until int) []string {
	return []string{
		"demo", "--data", dir, "--until-height", fmt.Sprint(until), "--json", "--interval", "1",
		"--rpc", "127.0.0.1:0", "--api", "127.0.0.1:0", "--stratum", "127.0.0.1:0",
	}
}

func demo(t *testing.T, dir string, until int) summary {
	t.Helper()
	stdout, stderr, code := qcity(t, demoArgs(dir, until)...)
	must0(t, stdout, stderr, code)
	var s summary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	return s
}

// TestDemo brings up a devnet, ends it, goes on with it, and has the chain
// checked by the program itself and by one that shares no code with it.
func TestDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "devnet")
	first := demo(t, dir, 10)
	if first.Height < 10 || len(first.Slots) == 0 || first.Slots[0].Type != "signed" || first.Slots[0].Signer == nil || *first.Slots[0].Signer != 1 {
		t.Fatalf("slot 10 was not signed by validator 1, whose turn it is: %+v", first.Slots)
	}
	if first.Hashes == 0 || first.Kernel == "" || first.SecondsToFirstSignedBlock == nil {
		t.Fatalf("the summary lacks what the miner did: %+v", first)
	}
	resumed := demo(t, dir, int(first.Height)+2)
	if resumed.SecondsToFirstSignedBlock != nil && resumed.Height < 20 {
		t.Fatal("a signed block was counted that came before this start")
	}
	watchDemo(t, dir)
	second := demo(t, dir, int(resumed.Height)+1)
	for i, b := range first.Blocks {
		again := second.Blocks[i]
		again.Status = b.Status // it may have risen
		if diff := cmp.Diff(b, again); diff != "" {
			t.Fatalf("a later start did not resume the chain: %s", diff)
		}
	}
	checkStatuses(t, &second)
	if second.Final < 10 || second.Certified < 20 {
		t.Errorf("slot %d is certified and %d final after a restart, at height %d", second.Certified, second.Final, second.Height)
	}

	type slot struct {
		Height uint32
		ID     string
	}
	stdout, stderr, code := qcity(t, "chain", "verify", "--data", dir, "--json")
	var report struct {
		Height           uint32
		Blocks           int
		Certified, Final slot
	}
	if err := json.Unmarshal([]byte(must0(t, stdout, stderr, code)), &report); err != nil || report.Height != second.Height || report.Blocks != int(second.Height)+1 {
		t.Fatalf("verify: %v, %s", err, stdout)
	}
	for _, s := range []slot{report.Certified, report.Final} {
		if want := second.Blocks[s.Height]; s.ID != want.ID || s.Height > second.Certified {
			t.Errorf("verify names slot %+v, block %s; the node knew %d certified, %d final", s, want.ID, second.Certified, second.Final)
		}
	}
	if report.Certified.Height < 10 || report.Final.Height > second.Final {
		t.Errorf("the blocks prove slots %d and %d, the node knew %d and %d", report.Certified.Height, report.Final.Height, second.Certified, second.Final)
	}
	stdout, stderr, code = qcity(t, "chain", "verify", "--data", dir)
	if want := fmt.Sprintf("certified up to %d and final up to %d by the votes in the blocks", report.Certified.Height, report.Final.Height); !strings.Contains(must0(t, stdout, stderr, code), want) {
		t.Errorf("verify says %q, want %q", stdout, want)
	}
	stdout, stderr, code = qcity(t, "chain", "export", "--data", dir)
	seen := checkOutside(t, must0(t, stdout, stderr, code), &second)
	if seen.Proven.Certified.Height != report.Certified.Height || seen.Proven.Final.Height != report.Final.Height {
		t.Errorf("from the blocks the outside check derives %+v, verify %+v and %+v", seen.Proven, report.Certified, report.Final)
	}
}

// watchDemo runs a demo until a slot is final and compares what API and RPC say.
func watchDemo(t *testing.T, dir string) {
	t.Helper()
	p := &process{t: t, args: demoArgs(dir, 1_000_000)}
	p.start()
	address := func(name string) (url string) {
		until(t, "the demo says where its "+name+" is", func() bool {
			_, rest, ok := strings.Cut(p.tail(), " "+name+"=")
			url, _, _ = strings.Cut(rest, " ")
			return ok
		})
		return url
	}
	status := address("status")
	k := rig{t: t, dir: dir, rpc: strings.TrimPrefix(address("rpc"), "http://")}
	var st firmwareapi.Status
	until(t, "a slot is final", func() bool {
		resp, err := http.Get(status)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
			t.Fatal(err)
		}
		return st.Finality.Final > 0
	})
	f := st.Finality
	if f.Final > f.Certified || f.Certified > f.Signed || f.Signed > st.Tip.Height || f.Final%10 != 0 || f.Certified < f.Final+10 {
		t.Errorf("slots %+v at height %d", f, st.Tip.Height)
	}
	for _, s := range st.LastSlots {
		if want := confirmation(s.Height, f.Signed, f.Certified, f.Final); string(s.Status) != want {
			t.Errorf("slot %d is %s, want %s of %+v", s.Height, s.Status, want, f)
		}
	}
	var info struct {
		Certified, Final struct{ Height uint32 }
		Degraded         *struct{ Message string }
	}
	if err := k.call(&info, "getfinality"); err != nil || info.Final.Height < f.Final || info.Certified.Height < f.Certified {
		t.Errorf("getfinality answers %+v (%v) after %+v", info, err, f)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // the height was not reached
}

// confirmation is what stands behind a block, by the newest slots.
func confirmation(height, signed, certified, final uint32) string {
	switch {
	case height <= final:
		return "final"
	case height <= certified:
		return "certified"
	case height <= signed:
		return "signed"
	}
	return "pow"
}

func checkStatuses(t *testing.T, s *summary) {
	t.Helper()
	for _, b := range append(slices.Clone(s.Blocks), s.Slots...) {
		if want := confirmation(b.Height, s.Signed, s.Certified, s.Final); string(b.Status) != want {
			t.Errorf("block %d is %s, want %s: slots %d, %d, %d", b.Height, b.Status, want, s.Signed, s.Certified, s.Final)
		}
	}
}

// TestBadInput: each case gets one error on standard error that says what to do.
func TestBadInput(t *testing.T) {
	base := filepath.Join(t.TempDir(), "devnet")
	demo(t, base, 1)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()

	edit := func(t *testing.T, dir, old, new string) {
		t.Helper()
		file := filepath.Join(dir, configs.FileName)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), old) {
			t.Fatalf("configuration has no %q:\n%s", old, text)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil  func(t *testing.T, dir string)
		args   func(dir string) []string // nil: the demo
		code   int
		want   []string
		copied bool // the signer is not told that it is a copy
	}{
		"a copy of the signer": {
			copied: true,
			code:   exitConfig, want: []string{"is a copy", "qcity watermark adopt"},
		},
		"unknown key in the configuration": {
			spoil: func(t *testing.T, dir string) { edit(t, dir, "threads =", "treads =") },
			code:  exitError, want: []string{"qcity.toml:", "unknown key", "treads"},
		},
		"port in use": {
			spoil: func(t *testing.T, dir string) {
				edit(t, dir, "[rpc]\nlisten = \"127.0.0.1:0\"", fmt.Sprintf("[rpc]\nlisten = %q", busy.Addr()))
			},
			args: func(dir string) []string { return []string{"demo", "--data", dir} },
			code: exitError, want: []string{"rpc.listen", "in use", busy.Addr().String()},
		},
		"another interval": {
			args: func(dir string) []string { return []string{"demo", "--data", dir, "--interval", "7"} },
			code: exitError, want: []string{"--data", "1 seconds"},
		},
		"port in use, by flag": {
			args: func(dir string) []string {
				return append(demoArgs(dir, 1000), "--stratum", busy.Addr().String())
			},
			code: exitError, want: []string{"stratum.listen", "in use", busy.Addr().String()},
		},
		"payout of another network": {
			spoil: func(t *testing.T, dir string) {
				edit(t, dir, "payout = \"", "payout = \"1BoatSLRHtKNngkdXEeobR76b53LETtpyT\" # \"")
			},
			code: exitError, want: []string{"payout", "version byte"},
		},
		"data directory of another network": {
			spoil: func(t *testing.T, dir string) { edit(t, dir, "network = \"network.toml\"", "network = \"regtest\"") },
			code:  exitError, want: []string{"network"},
		},
		"wrong PIN": {
			spoil: func(t *testing.T, dir string) { writePIN(t, dir, "999999999999") },
			code:  exitConfig, want: []string{"validator-0.pin", "PIN"},
		},
		"PIN file that others can read": {
			spoil: func(t *testing.T, dir string) {
				if err := os.Chmod(filepath.Join(dir, signerDir, "validator-0.pin"), 0o644); err != nil {
					t.Fatal(err)
				}
			},
			code: exitConfig, want: []string{"chmod"},
		},
		"journal missing": {
			spoil: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, signerDir, "journal")) },
			code:  exitConfig, want: []string{"journal"},
		},
		"folder of somebody else": {
			spoil: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, configs.FileName)) },
			code:  exitError, want: []string{"not empty", "--data"},
		},
		"verify without a directory": {
			args: func(dir string) []string { return []string{"chain", "verify", "--data", dir + "-not"} },
			code: exitError, want: []string{"--network"},
		},
		"unknown kernel": {
			args: func(string) []string { return []string{"bench", "--kernel", "quantum"} },
			code: exitError, want: []string{"quantum", "generic"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "devnet")
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			tighten(t, base, dir)
			if !c.copied {
				config := filepath.Join(dir, configs.FileName)
				if _, stderr, code := qcity(t, "watermark", "adopt", "--config", config, "--nothing-newer"); code != 0 {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
			}
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			args := demoArgs(dir, 1000)
			if c.args != nil {
				args = c.args(dir)
			}
			_, stderr, code := qcity(t, args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			t.Log(lastLine(stderr))
			if n := strings.Count(stderr, errorHead); n != 1 {
				t.Errorf("%d errors, want one:\n%s", n, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(lastLine(stderr), want) {
					t.Errorf("standard error does not mention %q:\n%s", want, stderr)
				}
			}
		})
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// tighten gives copied files the modes of the originals, which CopyFS changes.
func tighten(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, rel), info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func writePIN(t *testing.T, dir, pin string) {
	t.Helper()
	file := filepath.Join(dir, signerDir, "validator-0.pin")
	remove(t, file)
	if err := os.WriteFile(file, []byte(pin+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
