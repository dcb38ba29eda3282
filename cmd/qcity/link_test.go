package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer"
)

// rewrite changes one of the rig's configurations.
func (k *rig) rewrite(name string, change func(*configs.Config)) {
	k.t.Helper()
	file := filepath.Join(k.dir, name)
	c, err := configs.LoadIncomplete(file)
	if err != nil {
		k.t.Fatal(err)
	}
	change(&c)
	if err := os.Remove(file); err != nil {
		k.t.Fatal(err)
	}
	if err := c.Write(file); err != nil {
		k.t.Fatal(err)
	}
}

// identity makes an identity with the program, as an operator does.
func identity(t *testing.T, side, file string) (pin string) {
	t.Helper()
	stdout, stderr, code := qcity(t, side, "identity", "--file", file)
	return strings.TrimSpace(must0(t, stdout, stderr, code))
}

// linked is a rig whose signer dials its node.
type linked struct {
	*rig
	t *testing.T
}

func (k *linked) signedSlots() uint32 {
	tip, err := k.tip()
	if err != nil {
		return 0 // the node is starting
	}
	return tip.signedSlots
}

func (k *linked) wantSlotsBeyond(n uint32, when string) uint32 {
	k.t.Helper()
	var now uint32
	until(k.t, "slots are signed "+when, func() bool {
		for _, p := range []*process{k.node, k.signer} {
			if !alive(p.pid()) {
				k.t.Fatalf("%v ended by itself:\n%s", p.args, p.tail())
			}
		}
		now = k.signedSlots()
		return now > n
	})
	return now
}

// TestLink has the signer dial the node over TLS, in processes of their own: it
// signs, either side comes back after it was killed, a signer that is not pinned
// stays outside, and the operator asks the daemon on its socket.
func TestLink(t *testing.T) {
	k := &linked{newRig(t, 1, ""), t}
	node := identity(t, "node", filepath.Join(k.dir, "node.identity"))
	pin := identity(t, "signer", filepath.Join(k.dir, "signer.identity"))
	if again := identity(t, "signer", filepath.Join(k.dir, "signer.identity")); again != pin {
		t.Fatalf("the pin was %s and is %s", pin, again)
	}
	address := freeAddress(t)
	k.rewrite("node.toml", func(c *configs.Config) {
		c.Signer.Listen, c.Signer.Pins, c.Signer.Identity = address, []string{pin}, "node.identity"
	})
	k.rewrite("signer.toml", func(c *configs.Config) {
		c.Signer.Identity, c.Signer.Nodes = "signer.identity", []configs.SignerNode{{Dial: address, Pin: node}}
	})
	k.node.start()
	k.signer.start()
	slots := k.wantSlotsBeyond(2, "over the link")
	k.node.kill()
	k.node.start()
	slots = k.wantSlotsBeyond(slots+2, "after the node came back")
	k.signer.kill()
	k.signer.start()
	slots = k.wantSlotsBeyond(slots+2, "after the signer came back")
	k.checkStatus(address)
	k.freeze()
	slots = k.wantSlotsBeyond(slots+2, "after the node woke up")

	// The signer comes back as somebody else: nothing is signed until it is itself
	// again. Slots can be filled by validators only, so the chain stands still.
	k.signer.stop()
	other := identity(t, "signer", filepath.Join(k.dir, "other.identity"))
	k.rewrite("signer.toml", func(c *configs.Config) { c.Signer.Identity = "other.identity" })
	before := k.signedSlots()
	k.signer.start()
	until(t, "the stranger is turned away", func() bool {
		return strings.Contains(k.node.tail(), "turned away") && strings.Contains(k.signer.tail(), "did not accept this signer")
	})
	if now := k.signedSlots(); now != before {
		t.Fatalf("slot %d was signed by %s, which is not pinned", now, other)
	}
	k.signer.stop()
	k.rewrite("signer.toml", func(c *configs.Config) { c.Signer.Identity = "signer.identity" })
	k.signer.start()
	k.wantSlotsBeyond(max(slots, before), "by the signer that is pinned")
	k.signer.stop()
	k.node.stop()
}

// freeze stops the node's process as it is: its kernel still answers, it does not.
// The signer notices, and is back when the node is.
func (k *linked) freeze() {
	k.t.Helper()
	connected := func() bool {
		stdout, stderr, code := qcity(k.t, "signer", "status", "--config", filepath.Join(k.dir, "signer.toml"), "--json")
		var st signer.Status
		if err := json.Unmarshal([]byte(must0(k.t, stdout, stderr, code)), &st); err != nil {
			k.t.Fatal(err)
		}
		return st.Links[0].Connected
	}
	if err := syscall.Kill(k.node.pid(), syscall.SIGSTOP); err != nil {
		k.t.Fatal(err)
	}
	until(k.t, "the signer notices that the node says nothing", func() bool { return !connected() })
	if err := syscall.Kill(k.node.pid(), syscall.SIGCONT); err != nil {
		k.t.Fatal(err)
	}
	until(k.t, "the signer is connected again", connected)
}

// checkStatus asks the daemon what an operator asks.
func (k *linked) checkStatus(address string) {
	k.t.Helper()
	t := k.t
	config := filepath.Join(k.dir, "signer.toml")
	stdout, stderr, code := qcity(t, "signer", "status", "--config", config, "--json")
	var st signer.Status
	if err := json.Unmarshal([]byte(must0(t, stdout, stderr, code)), &st); err != nil {
		t.Fatal(err)
	}
	if len(st.Keys) != 5 || st.Signed == 0 || st.Worker.PID == 0 || len(st.Links) != 1 || !st.Links[0].Connected || st.Links[0].Connections < 1 || st.Links[0].Address != address {
		t.Fatalf("status %s", stdout)
	}
	stdout, stderr, code = qcity(t, "signer", "status", "--config", config, "--prometheus")
	samples := parseMetrics(t, must0(t, stdout, stderr, code))
	if got := samples["qcity_signer_up"] + samples["qcity_signer_keys_ready"] + samples[`qcity_signer_link_connected{node="`+address+`"}`]; got != 1+5+1 || samples["qcity_signer_signed_total"] < float64(st.Signed) {
		t.Errorf("metrics %s", stdout)
	}
	stdout, stderr, code = qcity(t, "signer", "status", "--config", config)
	t.Logf("\n%s", must0(t, stdout, stderr, code))
	for _, want := range []string{"SoftHSM", st.Journal.FileID, "node " + address, "connected", "ready"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("status does not show %q:\n%s", want, stdout)
		}
	}
}

// TestLinkCommands: what an operator gets wrong is said with what to do.
func TestLinkCommands(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, configs.FileName)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, config string
		args         []string
		want         string
	}{
		{"no identity named", "", []string{"node", "identity", "--config", config}, "names no signer.identity"},
		{"folder missing", "[signer]\nidentity = \"none/id\"\n", []string{"signer", "identity", "--config", config}, "no such file"},
		{"identity missing", "[rpc]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"\"\n[signer]\nidentity = \"id\"\nlisten = \"127.0.0.1:0\"\npins = [\"ed25519:" + strings.Repeat("11", 32) + "\"]\n", []string{"run", "--config", config}, "qcity node identity"},
		{"no socket", "", []string{"signer", "status", "--config", config}, "names no signer.socket"},
		{"no daemon", "[signer]\nsocket = \"s\"\n", []string{"signer", "status", "--config", config}, "is it running?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(c.config)
			_, stderr, code := qcity(t, c.args...)
			if code != exitError || !strings.Contains(lastLine(stderr), c.want) {
				t.Fatalf("exit code %d, %q; want %q", code, stderr, c.want)
			}
		})
	}
	write("[signer]\nsocket = \"s\"\n")
	down, said, status := qcity(t, "signer", "status", "--config", config, "--prometheus")
	if samples := parseMetrics(t, must0(t, down, "", status)); len(samples) != 1 || samples["qcity_signer_up"] != 0 || !strings.Contains(said, "is it running?") {
		t.Errorf("no daemon: %s%s", down, said)
	}
	// The file may lack what the other side has not said yet.
	write("[signer]\nidentity = \"id\"\nlisten = \"127.0.0.1:9340\"\n")
	stdout, stderr, code := qcity(t, "node", "identity", "--config", config, "--json")
	var report identityReport
	if err := json.Unmarshal([]byte(must0(t, stdout, stderr, code)), &report); err != nil || !report.Made || report.File != filepath.Join(dir, "id") {
		t.Fatalf("%v, %s", err, stdout)
	}
}
