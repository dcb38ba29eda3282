package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// walk is what a security officer has before them: a folder with one folder for
// each box, and a shell in it. Everything is typed there, with relative paths.
type walk struct {
	*testing.T
	dir    string
	module string
	net    *consensus.Network
	node   *process
	rpc    rig // to ask the node, as any wallet does
	boxes  []*signerBox
	etcd   []string // client URLs
	step   int
	typed  map[string]bool // commands, without their arguments
}

// signerBox is a machine with one token and one signer.
type signerBox struct {
	name string // also its folder
	key  types.PublicKey
	run  *process
	// story is what the walk did to it, as its audit log has to tell it.
	story []audit.Event
}

func (b *signerBox) config() string { return b.name + "/qcity.toml" }

func (b *signerBox) socket() string { return b.name + "/run/signer.sock" }

func (w *walk) in(path string) string { return filepath.Join(w.dir, path) }

// heading begins a step of the protocol that the test's log is.
func (w *walk) heading(text string) {
	w.step++
	w.Logf("\n== %d. %s", w.step, text)
}

// sh notes what the officer does with the tools of the system; do does it.
func (w *walk) sh(line string, do func() error) {
	w.Helper()
	w.Logf("$ %s", line)
	if err := do(); err != nil {
		w.Fatal(err)
	}
}

// officer runs qcity as typed, and returns what it printed.
func (w *walk) officer(args ...string) string {
	w.Helper()
	stdout, stderr, code := w.try(args...)
	if code != 0 {
		w.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	return stdout
}

// try is officer for a command that may fail.
func (w *walk) try(args ...string) (stdout, stderr string, code int) {
	w.Helper()
	w.Logf("$ qcity %s", typed(args))
	stdout, stderr, code = w.quiet(args...)
	if out := strings.ReplaceAll(strings.TrimSpace(stdout), w.dir+"/", ""); out != "" && !slices.Contains(args, "--json") {
		w.Logf("%s", shortened(out))
	}
	return stdout, stderr, code
}

// quiet is a look that is taken again and again while something is waited for.
func (w *walk) quiet(args ...string) (stdout, stderr string, code int) {
	w.Helper()
	w.typed[commandOf(args)] = true
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "qcity"), args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		w.Fatalf("qcity %s: %v\n%s", typed(args), err, errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func typed(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if quoted[i] = a; strings.ContainsAny(a, " \"*") {
			quoted[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(quoted, " ")
}

var word = regexp.MustCompile(`^[a-z]+$`)

// commandOf returns the words of a command before its arguments.
func commandOf(args []string) string {
	end := slices.IndexFunc(args, func(a string) bool { return !word.MatchString(a) })
	if end < 0 {
		end = len(args)
	}
	return strings.Join(args[:end], " ")
}

// shortened keeps the end of a long text: a ceremony fills screens.
func shortened(text string) string {
	const most = 14
	lines := strings.Split(text, "\n")
	if len(lines) > most {
		lines = append([]string{fmt.Sprintf("[%d lines]", len(lines)-most)}, lines[len(lines)-most:]...)
	}
	return strings.Join(lines, "\n")
}

// start runs qcity in the background.
func (w *walk) start(args ...string) *process {
	w.Helper()
	w.Logf("$ qcity %s &", typed(args))
	w.typed[commandOf(args)] = true
	p := &process{t: w.T, dir: w.dir, args: args}
	p.start()
	name := typed(args)
	w.Cleanup(func() {
		if w.Failed() {
			w.Logf("-- qcity %s wrote last:\n%s", name, p.tail())
		}
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// stop ends a process as Ctrl-C does.
func (w *walk) stop(p *process) {
	w.Helper()
	w.Logf("$ kill -INT %d   # qcity %s", p.pid(), typed(p.args))
	p.stop()
}

// until waits, as a person who looks again and again, while everything runs.
func (w *walk) until(what string, ok func() bool) {
	w.Helper()
	until(w.T, what, func() bool {
		for _, b := range w.boxes {
			w.wantAlive(b.run)
		}
		w.wantAlive(w.node)
		return ok()
	})
	w.Logf("   seen: %s", what)
}

func (w *walk) wantAlive(p *process) {
	w.Helper()
	if p != nil && p.cmd.ProcessState == nil && !alive(p.pid()) {
		w.Fatalf("qcity %s ended by itself:\n%s", typed(p.args), p.tail())
	}
}

// finality is what the node says of its newest slots.
func (w *walk) finality() (certified, final uint32) {
	var info struct{ Certified, Final struct{ Height uint32 } }
	if err := w.rpc.call(&info, "getfinality"); err != nil {
		return 0, 0 // it is starting
	}
	return info.Certified.Height, info.Final.Height
}

// onwards waits until that many more slots are certified.
func (w *walk) onwards(slots uint32, when string) {
	w.Helper()
	was, _ := w.finality()
	w.until(fmt.Sprintf("%d more slots are certified %s", slots, when), func() bool {
		now, _ := w.finality()
		return now >= was+slots*w.net.N
	})
}

// status asks a signer; ok is false while it does not answer.
func (w *walk) status(b *signerBox) (st signer.Status, ok bool) {
	w.Helper()
	// Its exit code tells of keys that are not ready, which is looked for here.
	stdout, _, _ := w.quiet("signer", "status", "--config", b.config(), "--json")
	if stdout == "" {
		return st, false
	}
	if err := json.Unmarshal([]byte(stdout), &st); err != nil {
		w.Fatal(err)
	}
	return st, true
}

// signs waits until a signer has made a signature since now.
func (w *walk) signs(b *signerBox, when string) {
	w.Helper()
	was, _ := w.status(b)
	w.until(b.name+" signs "+when, func() bool {
		st, ok := w.status(b)
		return ok && st.Signed > was.Signed
	})
}

// ready waits until a signer's key can sign, or cannot.
func (w *walk) ready(b *signerBox, want bool) {
	w.Helper()
	state := map[bool]string{true: "ready", false: "not ready"}[want]
	w.until("the key of "+b.name+" is "+state, func() bool {
		st, ok := w.status(b)
		return ok && len(st.Keys) == 1 && st.Keys[0].Ready == want
	})
}

// tokenDir finds a token among SoftHSM's folders, which are named by a UUID that
// ends with the serial number.
func (w *walk) tokenDir(folder, serial string) string {
	w.Helper()
	entries, err := os.ReadDir(w.in(folder))
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(strings.ReplaceAll(e.Name(), "-", ""), serial) {
			return e.Name()
		}
	}
	w.Fatalf("%s has no token with the serial number %s", folder, serial)
	return ""
}

func (w *walk) record(path string) ceremony.Record {
	w.Helper()
	text, err := os.ReadFile(w.in(path))
	if err != nil {
		w.Fatal(err)
	}
	r, err := ceremony.ParseRecord(text)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// furnish makes the folders of a box. Journal and token lie apart: the module may
// not see the journal.
func (w *walk) furnish(name string) {
	w.Helper()
	w.sh(fmt.Sprintf("mkdir -m 700 %[1]s %[1]s/tokens %[1]s/journal %[1]s/run", name), func() (err error) {
		for _, d := range []string{"", "tokens", "journal", "run"} {
			err = errors.Join(err, os.Mkdir(w.in(filepath.Join(name, d)), 0o700))
		}
		return err
	})
	conf := name + "/softhsm2.conf"
	w.sh("vi "+conf+"   # directories.tokendir = …/"+name+"/tokens", func() error {
		return os.WriteFile(w.in(conf), []byte(worker.SoftHSMConf(w.in(name+"/tokens"))), 0o600)
	})
}

// configure writes a box's configuration from the record of its key.
func (w *walk) configure(b *signerBox, record string) {
	w.Helper()
	r := w.record(record)
	b.key = r.PublicKey
	c := w.nodeConfig("../node/node")
	c.Signer = configs.Signer{
		Socket: "run/signer.sock", Journal: "journal/journal", Module: w.module,
		ModuleEnv: []string{"SOFTHSM2_CONF=" + w.in(b.name+"/softhsm2.conf")}, ModuleWrites: []string{"tokens"},
		Keys: []configs.SignerKey{{PublicKey: r.PublicKey.String(), Token: r.Token, Serial: r.Serial, Label: r.Label, ID: r.ID, PIN: "file:token.pin"}},
	}
	w.sh(fmt.Sprintf("vi %s   # key, token, serial, label and id as in %s", b.config(), record), func() error { return c.Write(w.in(b.config())) })
}

// nodeConfig is what all configurations have in common: where the node is.
func (w *walk) nodeConfig(data string) configs.Config {
	c := configs.Default()
	c.Network, c.Data = "../ceremony/network.toml", data
	c.RPC.Listen, c.API.Listen, c.Stratum.Listen = w.rpc.rpc, "", ""
	c.Miner.Threads = 0
	return c
}

// edit changes a configuration as with an editor.
func (w *walk) edit(file, what string, change func(*configs.Config)) {
	w.Helper()
	w.sh("vi "+file+"   # "+what, func() error {
		r := rig{t: w.T, dir: w.dir}
		r.rewrite(file, change)
		return nil
	})
}

// startEtcd starts three members on loopback.
func (w *walk) startEtcd() {
	w.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		w.Fatal("no etcd here: type  make deps-test  (Debian: etcd-server)")
	}
	var peers, initial []string
	for i := range 3 {
		w.etcd, peers = append(w.etcd, "http://"+freeAddress(w.T)), append(peers, "http://"+freeAddress(w.T))
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range 3 {
		args := []string{
			"--name", fmt.Sprint("m", i), "--data-dir", fmt.Sprint("etcd-", i),
			"--listen-client-urls", w.etcd[i], "--advertise-client-urls", w.etcd[i],
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(initial, ","), "--log-level", "error", "--logger", "zap",
		}
		w.Logf("$ etcd %s &", typed(args))
		cmd, out := exec.Command("etcd", args...), new(logTail)
		cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() {
			if w.Failed() {
				w.Logf("-- etcd m%d wrote last:\n%s", i, out)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// now is the time that a ceremony file can name as that of genesis.
func now() uint32 { return uint32(time.Now().Unix()) }
