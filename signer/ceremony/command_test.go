package ceremony_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// vendorTool stands in for a vendor's: it copies one SoftHSM token into a file, and
// from there into a token with another label and serial number.
func vendorTool(tokens, order, label, serial, file string) int {
	err := errors.New("want backup or restore")
	folder, other := "", ""
	entries, readErr := os.ReadDir(tokens)
	for _, e := range entries {
		if strings.HasSuffix(strings.ReplaceAll(e.Name(), "-", ""), serial) {
			folder, other = e.Name(), "f"+e.Name()[1:]
			if other == folder {
				other = "e" + folder[1:]
			}
		}
	}
	switch order {
	case "backup":
		// A real one would seal it; here it is only a marker that must not change. Like
		// some real ones it overwrites nothing.
		if _, err = os.Lstat(file); err == nil {
			err = errors.New("there is a backup already")
			break
		}
		err = os.WriteFile(file, []byte("backup of "+folder), 0o600)
	case "restore":
		if err = os.CopyFS(filepath.Join(tokens, other), os.DirFS(filepath.Join(tokens, folder))); err != nil {
			break
		}
		path := filepath.Join(tokens, other, "token.object")
		var data []byte
		if data, err = os.ReadFile(path); err != nil {
			break
		}
		data = bytes.ReplaceAll(data, []byte(serial), []byte("feedfeedfeedfeed"))
		data = bytes.ReplaceAll(data, []byte(label), []byte("R"+label[1:]))
		err = os.WriteFile(path, data, 0o600)
	}
	if err = errors.Join(err, readErr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// commandScript has a vendor's module and tool.
func commandScript(t *testing.T) string {
	t.Helper()
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(oneValidator(t), `driver = "softhsm"`, fmt.Sprintf(`driver = "command"
backup = [%q, "backup", "{token}", "{serial}", "{file}"]
restore = [%q, "restore", "{token}", "{serial}", "{file}"]
restored_token = "Ralidator-0"

[modules]
vendor = %q`, self, self, module), 1)
	return strings.Replace(text, `module = "softhsm2"`, `module = "vendor"`, 1)
}

// TestCommandDriver runs a ceremony with a module and a tool of a vendor's, and
// rehearses it without either.
func TestCommandDriver(t *testing.T) {
	run, rehearsal := newStage(t, commandScript(t)), newStage(t, commandScript(t))
	conf := filepath.Join(t.TempDir(), "softhsm2.conf")
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(run.tokens)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	t.Setenv(envTool, run.tokens)
	var backup string
	for _, s := range ceremony.Steps(run.script) {
		if strings.HasSuffix(s.ID, "-backup") {
			backup = s.ID
		}
	}
	refused := ceremony.Answers{"*": ceremony.AsShown, backup: "no"}
	if err := ceremony.New(run.config(ceremony.Run, refused)).Run(t.Context()); !errors.Is(err, ceremony.ErrRefused) {
		t.Fatal(err)
	}
	run.run(t, ceremony.Run) // makes the backup again
	run.verify(t)
	rehearsal.run(t, ceremony.Rehearsal)
	rehearsal.verify(t)
	a, b := ceremony.Normalise(rehearsal.transcript(t)), ceremony.Normalise(run.transcript(t))
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("rehearsal and run differ: %s", diff)
	}
	for _, e := range run.transcript(t) {
		if serial, ok := e.Facts["restored"]; ok && serial != "feedfeedfeedfeed" {
			t.Errorf("restored into %s", serial)
		}
	}
	if shares, err := os.ReadDir(filepath.Join(run.dir, ceremony.SharesDir)); err != nil || len(shares) > 0 {
		t.Errorf("%d shares of a key that the vendor has (%v)", len(shares), err)
	}
}

// TestFailingTool: what the tool does not do is not taken for done.
func TestFailingTool(t *testing.T) {
	token := worker.TokenRef{Label: "t", Serial: "s"}
	file := filepath.Join(t.TempDir(), "f")
	for _, argv := range [][]string{nil, {"/nonexistent/tool", "{file}"}, {"/bin/false", "{file}"}} {
		if err := ceremony.RunTool(t.Context(), argv, token, file); !errors.Is(err, ceremony.ErrBackup) {
			t.Errorf("%q: %v", argv, err)
		}
	}
	// No shell looks at the arguments.
	if err := ceremony.RunTool(t.Context(), []string{"/bin/cp", "/dev/null", "{file}$(exit 1);{token}"}, token, file); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file + "$(exit 1);t"); err != nil {
		t.Error(err)
	}
}

// TestInterruptedTool: a tool that is at work on a device may end what it does.
func TestInterruptedTool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := syscall.Mkfifo(file+".on", 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = os.ReadFile(file + ".on") // until the tool is at work
		cancel()
	}()
	script := `trap 'echo ended >"$1"; kill $!; exit 1' TERM; sleep 60 & echo >"$1.on"; wait`
	if err := ceremony.RunTool(ctx, []string{"/bin/sh", "-c", script, "tool", "{file}"}, worker.TokenRef{}, file); !errors.Is(err, context.Canceled) {
		t.Errorf("it says: %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "ended\n" {
		t.Errorf("the tool was killed: %q, %v", got, err)
	}
}
