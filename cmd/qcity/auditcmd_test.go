package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

func runAudit(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append([]string{"audit"}, args...))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func audited(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runAudit(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// auditBox is a configuration with an audit log in two files, open for writing.
func auditBox(t *testing.T) (config, path string, l *audit.Log) {
	t.Helper()
	config = filepath.Join(t.TempDir(), configs.FileName)
	if err := os.WriteFile(config, []byte("[signer]\njournal = \"journal\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(filepath.Dir(config), "audit.log")
	if out := audited(t, "create", "--config", config); out != "created "+path+"\n" {
		t.Fatal(out)
	}
	net, err := configs.LoadNetwork("regtest")
	if err != nil {
		t.Fatal(err)
	}
	if l, err = audit.Open(path, net.ID, audit.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	at := time.Date(2026, 11, 28, 7, 0, 0, 5e6, time.UTC)
	key := types.PublicKey{Algorithm: types.Secp256k1, Point: [33]byte{2, 32: 0x98}}
	for i, e := range []audit.Entry{
		{Event: audit.EventStarted, Detail: "version 1"},
		{Event: audit.EventSigned, Kind: audit.KindBlock, Height: 10, Key: key, Digest: types.Hash{1}, Signature: [64]byte{2}, Actor: "uid 1000"},
		{Event: audit.EventRefused, Kind: audit.KindVote, Height: 20, Rule: "double-sign", Actor: "\x1b[2Jevil", Detail: "two\nlines \"quoted\""},
	} {
		e.Time = at.Add(time.Duration(i) * time.Second)
		if _, err := l.Append(e); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := l.Rotate(e.Time); err != nil {
				t.Fatal(err)
			}
		}
	}
	return config, path, l
}

func TestAuditTail(t *testing.T) {
	config, path, _ := auditBox(t)
	got := strings.Split(audited(t, "tail", "--config", config, "-n", "4"), "\n")
	for i, want := range []string{
		"       2  2026-11-28 07:00:01.005Z  signed            block  height 10  key secp256k1:02000000…00000098  digest 00000000…00000001  by uid 1000",
		"       3  2026-11-28 07:00:01.005Z  rotated           goes on in audit.log.2",
		"       4                            file ",
		`       5  2026-11-28 07:00:02.005Z  refused           vote  height 20  rule double-sign  by \x1b[2Jevil  two\nlines "quoted"`,
		"",
	} {
		if !strings.HasPrefix(got[i], want) || i != 2 && got[i] != want {
			t.Errorf("line %d is %q, want %q", i, got[i], want)
		}
	}
	if all := audited(t, "tail", "--file", path); strings.Count(all, "\n") != 6 {
		t.Errorf("all of it: %s", all)
	}
	// As JSON the lines are those of an export.
	if lines, export := audited(t, "tail", "--json", "--file", path), audited(t, "export", "--file", path); lines != export {
		t.Errorf("tail --json prints\n%s\nexport\n%s", lines, export)
	}
}

// TestAuditFollow: entries are shown as they come, also in a new file; Ctrl-C
// ends it without an error.
func TestAuditFollow(t *testing.T) {
	_, path, l := auditBox(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		done <- auditTail(ctx, w, path, 1, true, auditLine)
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
	}
	next("evil")
	at := time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)
	if _, err := l.Append(audit.Entry{Time: at, Event: audit.EventHalted}); err != nil {
		t.Fatal(err)
	}
	next("halted")
	if err := l.Rotate(at); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(audit.Entry{Time: at, Event: audit.EventResumed}); err != nil {
		t.Fatal(err)
	}
	next("rotated")
	next("the log goes on")
	next("resumed")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAuditVerify(t *testing.T) {
	config, path, l := auditBox(t)
	head := l.Head().String()
	for want, args := range map[string][]string{
		"ok: 4 entries in 2 files, chain intact, head " + head: {"--config", config},
		"no anchor was given":                 {"--file", path},
		"anchors found: 1; record 5 and all":  {"--file", path, "--anchor", head},
		"ends with the head that was expecte": {"--file", path, "--head", head},
	} {
		if out := audited(t, append([]string{"verify"}, args...)...); !strings.Contains(out, want) {
			t.Errorf("%q prints %s", args, out)
		}
	}
	export := filepath.Join(t.TempDir(), "audit.jsonl")
	if out := audited(t, "export", "--config", config, "--from", "5", "--out", export); out != "" {
		t.Error(out)
	}
	if out := audited(t, "verify", "--export", export, "--config", config, "--head", head); !strings.Contains(out, "ok: 1 entry in 1 file") || !strings.Contains(out, "what is before record 4 is not in this export") {
		t.Error(out)
	}
	if _, err := runAudit(t.Context(), "export", "--file", path, "--out", export); !errors.Is(err, os.ErrExist) {
		t.Errorf("an export was overwritten: %v", err)
	}

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte("uid 1000"))
	content[at] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runAudit(t.Context(), "verify", "--json", "--file", path)
	var broken *audit.Broken
	if !errors.As(err, &broken) || broken.Seq != 2 || broken.File != path || broken.Offset > int64(at) {
		t.Fatalf("got %v", err)
	}
	var got auditJSON
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.OK || got.Broken == nil || got.Broken.Seq != 2 || got.Entries != 1 || got.Head.Seq != 1 {
		t.Fatalf("%s: %v", out, err)
	}
	if out, err := runAudit(t.Context(), "verify", "--file", path); err == nil || !strings.HasPrefix(out, "good up to record 1:") || !strings.HasSuffix(out, ": 1 entry\n") {
		t.Fatalf("%s: %v", out, err)
	}
}

func TestAuditErrors(t *testing.T) {
	config, path, _ := auditBox(t)
	empty := filepath.Join(t.TempDir(), configs.FileName)
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"names no audit log", []string{"tail", "--config", empty}},
		{"or name the log with --file", []string{"verify", "--config", empty + "x"}},
		{"is missing: restore it", []string{"verify", "--file", path + "x"}},
		{"a log is never made twice", []string{"create", "--config", config}},
		{"--anchor: \"5\" is no head", []string{"verify", "--file", path, "--anchor", "5"}},
		{"--head: \"x:y\" is no head", []string{"verify", "--file", path, "--head", "x:y"}},
		{"has no record 6", []string{"export", "--file", path, "--from", "6"}},
		{"-n is -1", []string{"tail", "--file", path, "-n", "-1"}},
		{"there is an anchor at record 6", []string{"verify", "--file", path, "--anchor", "6:" + types.Hash{}.String()}},
	} {
		if out, err := runAudit(t.Context(), c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q; %s", c.args, err, c.want, out)
		}
	}
}
