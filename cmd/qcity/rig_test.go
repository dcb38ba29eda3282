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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/worker"
)

// rig is a node, a signer and its PKCS#11 worker over real tokens, each a
// process of its own. Node and signer have two configurations, as the node may
// reach the signer through a proxy.
type rig struct {
	t       testing.TB
	dir     string
	net     *consensus.Network
	rpc     string
	stratum string
	node    *process
	signer  *process
}

// signerSocket is where the rig's signer listens, in its folder.
const signerSocket = "signer.sock"

// reportedTip is a block that the node said to be its best.
type reportedTip struct {
	id          types.Hash
	height      uint32
	signedSlots uint32
}

// newRig sets everything up and starts nothing. The node mines with this many
// threads and connects to the socket named.
func newRig(t testing.TB, threads int, socket string, change ...func(*consensus.Params)) *rig {
	dir := t.TempDir()
	k := &rig{t: t, dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, signerDir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := makeTokens(context.Background(), dir, module, filepath.Join(bin, "qcity-p11"))
	if err != nil {
		t.Fatal(err)
	}
	k.makeNetwork(keys, change)
	k.rpc, k.stratum = freeAddress(t), freeAddress(t)
	k.writeConfigs(module, keys, threads, socket)
	k.signer = &process{t: t, args: []string{"signer", "run", "--config", filepath.Join(dir, "signer.toml")}}
	k.node = &process{t: t, args: []string{"run", "--config", filepath.Join(dir, "node.toml")}}
	return k
}

// makeNetwork makes a chain on which every second block is a slot and blocks
// take a moment: headers may run two days ahead of the clock, and only the
// validators can fill a slot, so that a signer stuck for good would show.
func (k *rig) makeNetwork(keys []configs.SignerKey, change []func(*consensus.Params)) {
	p, err := configs.DevnetProfile()
	if err != nil {
		k.t.Fatal(err)
	}
	p.N, p.IntervalSeconds, p.HalfLifeSeconds = 2, 1, 3600
	p.SlotOpenSeconds, p.SlotCloseSeconds, p.FutureLimitSeconds = 400_000, 800_000, 200_000
	p.GenesisTime, p.GenesisBits = uint32(time.Now().Unix()), p.PowLimitBits
	for _, f := range change {
		f(&p)
	}
	for _, key := range keys {
		var pub types.PublicKey
		if err := pub.UnmarshalText([]byte(key.PublicKey)); err != nil {
			k.t.Fatal(err)
		}
		p.Validators = append(p.Validators, pub)
	}
	if err := configs.WriteNetwork(filepath.Join(k.dir, networkFile), &p); err != nil {
		k.t.Fatal(err)
	}
	if k.net, err = consensus.NewNetwork(p); err != nil {
		k.t.Fatal(err)
	}
	journal := filepath.Join(k.dir, "journal")
	if err := errors.Join(signer.CreateJournal(journal, k.net.ID, p.Validators, 0), audit.Create(filepath.Join(filepath.Dir(journal), "audit.log"), k.net.ID, audit.Options{})); err != nil {
		k.t.Fatal(err)
	}
	if err := recordPINs(journal, k.dir, keys); err != nil {
		k.t.Fatal(err)
	}
}

func (k *rig) writeConfigs(module string, keys []configs.SignerKey, threads int, socket string) {
	c := configs.Default()
	c.Network, c.Data = networkFile, nodeDir
	c.RPC.Listen, c.API.Listen, c.Stratum.Listen = k.rpc, "", k.stratum
	c.Payout = k.net.Addresses.PubKeyHashAddress([20]byte{1})
	c.Miner.Threads, c.Miner.Kernel = threads, "generic"
	c.Stratum.StartDifficulty = c.Stratum.MinDifficulty
	// Only validators fill slots here: to leave one to others would be the end.
	c.Signer.Socket, c.Signer.StartupWait = socket, false
	if err := c.Write(filepath.Join(k.dir, "node.toml")); err != nil {
		k.t.Fatal(err)
	}
	c.Signer = configs.Signer{
		Socket: signerSocket, Journal: "journal", Module: module, Worker: filepath.Join(bin, "qcity-p11"),
		PristineTokens: filepath.Join(signerDir, "tokens"), SignaturesPerSecond: 1000, SignatureBurst: 1000, Keys: keys,
	}
	if err := c.Write(filepath.Join(k.dir, "signer.toml")); err != nil {
		k.t.Fatal(err)
	}
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (k *rig) tip() (reportedTip, error) {
	var info struct {
		Blocks        uint32
		BestBlockHash types.Hash
		SignedSlots   uint32
	}
	err := k.call(&info, "getblockchaininfo")
	return reportedTip{info.BestBlockHash, info.Blocks, info.SignedSlots}, err
}

func (k *rig) call(result any, method string, params ...any) error {
	cookie, err := os.ReadFile(filepath.Join(k.dir, nodeDir, ".cookie"))
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+k.rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}
	user, password, _ := strings.Cut(string(cookie), ":")
	req.SetBasicAuth(user, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Result json.RawMessage
		Error  *struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.Error.Message)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// process is one of the programs under test.
type process struct {
	t    testing.TB
	dir  string // its working directory; empty: that of the tests
	path string // the program; empty: that of the tests
	args []string

	cmd *exec.Cmd
	out *logTail
}

func (p *process) start() {
	p.t.Helper()
	p.out = new(logTail)
	if p.path == "" {
		p.path = filepath.Join(bin, "qcity")
	}
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = p.out, p.out, p.dir
	// A test that is killed takes its processes along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	var exit *exec.ExitError
	err := p.cmd.Wait()
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		p.t.Fatalf("%v ended by itself: %v\n%s", p.args, err, p.tail())
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v did not end cleanly: %v\n%s", p.args, err, p.tail())
	}
}

func (p *process) tail() string { return p.out.String() }

// logTail keeps the last of what a process wrote.
type logTail struct {
	mu   sync.Mutex
	text []byte
}

func (l *logTail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	l.text = l.text[max(0, len(l.text)-4000):]
	return len(b), nil
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// childOf returns a child of a process, 0 when it has none.
func childOf(pid int) int {
	// A child belongs to the thread that started it.
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil {
			if fields := strings.Fields(string(text)); len(fields) > 0 {
				child, _ := strconv.Atoi(fields[0])
				return child
			}
		}
	}
	return 0
}
