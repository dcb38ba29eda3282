package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// An operator sees who is connected to a running box, and talks to them.
func TestPoolSessions(t *testing.T) {
	k := newRig(t, 0, "no-signer.sock")
	config := filepath.Join(k.dir, "node.toml")
	if _, said, code := qcity(t, "pool", "sessions", "--config", config); code != exitError || !strings.Contains(said, "qcity run") {
		t.Errorf("no box runs: exit code %d, %s", code, said)
	}
	k.node.start()
	defer k.node.stop()
	m := dialMiner(t, k.stratum)
	run := func(args ...string) string {
		t.Helper()
		out, said, code := qcity(t, append(append([]string{"pool"}, args...), "--config", config)...)
		if code != 0 {
			t.Fatalf("%v: exit code %d, %s", args, code, said)
		}
		return out
	}
	var list []poolSession
	if err := json.Unmarshal([]byte(run("sessions", "--json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	s := list[0]
	if s.Agent != "by hand" || s.Transport != "plain" || s.Extranonce1 != m.e1 || strings.Join(s.Workers, " ") != "hand" || s.Difficulty <= 0 {
		t.Errorf("%+v", s)
	}
	if out := run("sessions"); !strings.Contains(out, "by hand") || !strings.Contains(out, m.e1) {
		t.Errorf("%s", out)
	}
	if out := run("sessions", "--worker", "somebody", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("somebody else's: %s", out)
	}
	if out := run("message", "moving \"soon\"", "--worker", "hand"); !strings.Contains(out, "sent to 1 ") {
		t.Errorf("%s", out)
	}
	m.until(`client.show_message","params":["moving \"soon\""]`)
	if out := run("reconnect", "--worker", "nobody"); !strings.Contains(out, "sent to 0 ") {
		t.Errorf("%s", out)
	}
	run("reconnect")
	m.until("client.reconnect")
}
