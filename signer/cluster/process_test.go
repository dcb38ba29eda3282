package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// etcdProcesses are three members as processes of their own.
type etcdProcesses struct {
	t        testing.TB
	dir      string
	clients  []string
	initial  []string
	peers    []string
	commands [3]*exec.Cmd
}

func startProcesses(t testing.TB) *etcdProcesses {
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Skip("no etcd here: type  make deps-test  (Debian: etcd-server)")
	}
	p := &etcdProcesses{t: t, dir: t.TempDir()}
	for i := range p.commands {
		p.clients, p.peers = append(p.clients, freeURL(t)), append(p.peers, freeURL(t))
		p.initial = append(p.initial, fmt.Sprintf("m%d=%s", i, p.peers[i]))
	}
	t.Cleanup(func() {
		for i := range p.commands {
			p.kill(i)
		}
	})
	for i := range p.commands {
		p.start(i)
	}
	return p
}

func freeURL(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func (p *etcdProcesses) start(i int) {
	name := fmt.Sprint("m", i)
	log, err := os.OpenFile(filepath.Join(p.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer log.Close()
	c := exec.Command("etcd", "--name", name, "--data-dir", filepath.Join(p.dir, name),
		"--listen-client-urls", p.clients[i], "--advertise-client-urls", p.clients[i],
		"--listen-peer-urls", p.peers[i], "--initial-advertise-peer-urls", p.peers[i],
		"--initial-cluster", strings.Join(p.initial, ","), "--logger", "zap", "--log-level", "error")
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		p.t.Error(err)
		return
	}
	p.commands[i] = c
}

// kill ends a member as a power cut would, but for its disk.
func (p *etcdProcesses) kill(i int) {
	if c := p.commands[i]; c != nil {
		_ = c.Process.Kill()
		_ = c.Wait()
		p.commands[i] = nil
	}
}

// leader asks every member for the leader; ok is false while there is none.
func (p *etcdProcesses) leader(ctx context.Context, client *clientv3.Client) (i int, ok bool) {
	for i, url := range p.clients {
		once, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		status, err := client.Status(once, url)
		cancel()
		if err == nil && status.Leader == status.Header.GetMemberId() {
			return i, true
		}
	}
	return 0, false
}

func (p *etcdProcesses) box(k *clustertest.Key, name string) *cluster.Claims {
	p.t.Helper()
	c := cluster.Config{
		Endpoints: p.clients, Network: types.Hash{7}, Keys: []types.PublicKey{k.PublicKey}, Name: name,
		StatePath: filepath.Join(p.dir, name+".pin"), AllowOldVersion: true,
		Timeouts: cluster.Timeouts{Attempt: 400 * time.Millisecond, Patience: 600 * time.Millisecond},
	}
	// The members are only starting.
	patiently := func(f func() error) {
		p.t.Helper()
		err := f()
		for n := 0; errors.Is(err, cluster.ErrUnavailable) && n < 60; n++ {
			err = f()
		}
		if err != nil {
			p.t.Fatalf("%v\n%s", err, p.logs())
		}
	}
	patiently(func() error { return cluster.Join(p.t.Context(), c, cluster.Past{}) })
	var b *cluster.Claims
	patiently(func() (err error) {
		b, err = cluster.Open(p.t.Context(), c)
		return err
	})
	p.t.Cleanup(func() { _ = b.Close() })
	return b
}

func (p *etcdProcesses) logs() []byte {
	var all []byte
	for i := range p.commands {
		b, _ := os.ReadFile(filepath.Join(p.dir, fmt.Sprint("m", i, ".log")))
		all = append(all, b...)
	}
	return bytes.TrimSpace(all)
}

// TestOldVersionIsRefused: Debian's 3.4.23 is for tests only.
func TestOldVersionIsRefused(t *testing.T) {
	t.Parallel()
	p, k := startProcesses(t), clustertest.NewKey()
	if err := p.box(k, "box").Close(); err != nil {
		t.Fatal(err)
	}
	c := cluster.Config{
		Endpoints: p.clients, Network: types.Hash{7}, Keys: []types.PublicKey{k.PublicKey}, StatePath: filepath.Join(p.dir, "box.pin"),
	}
	out, err := exec.Command("etcd", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, err = cluster.Open(t.Context(), c)
	if old := bytes.Contains(out, []byte("Version: 3.4.23")); old != errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("%s: %v", out, err)
	}
}

// nemesisTime is how long TestNemesis goes on.
func nemesisTime(t *testing.T) time.Duration {
	text := os.Getenv("QCITY_NEMESIS")
	if text == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("QCITY_NEMESIS: %v", err)
	}
	return d
}

// TestNemesis: while four boxes contend for every height, the leader of three real members
// is killed or frozen again and again. No height has two winners, and every winner
// is still the winner when all is over.
func TestNemesis(t *testing.T) {
	t.Parallel()
	p, k := startProcesses(t), clustertest.NewKey()
	var boxes []*cluster.Claims
	for i := range 4 {
		boxes = append(boxes, p.box(k, fmt.Sprint("box", i)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), nemesisTime(t))
	defer cancel()
	var wg sync.WaitGroup
	var kills, freezes int
	wg.Go(func() { kills, freezes = p.torment(ctx) })

	var ambiguous atomic.Int64
	var won []cluster.Claim
	var longest time.Duration
	for begin := time.Now(); ctx.Err() == nil; begin = time.Now() {
		// A contest is not cut off by the end of the nemesis.
		c, err := contest(t, boxes, k, uint32(len(won)+1), &ambiguous)
		if err != nil {
			t.Fatal(err)
		}
		won, longest = append(won, c), max(longest, time.Since(begin))
	}
	wg.Wait()
	for i, c := range won {
		if _, err := clustertest.Insist(t.Context(), boxes[i%4], c, &ambiguous); err != nil {
			t.Fatalf("height %d asked again: %v", c.Height, err)
		}
		rival := c
		rival.Digest[0] ^= 1
		var conflict *cluster.Conflict
		if _, err := clustertest.Insist(t.Context(), boxes[(i+1)%4], rival, &ambiguous); !errors.As(err, &conflict) || conflict.Winner != c.Digest {
			t.Fatalf("height %d, a rival: %v", c.Height, err)
		}
	}
	t.Logf("%d heights, %d kills, %d freezes, %d calls without an answer, longest gap %v, 0 conflicts", len(won), kills, freezes, ambiguous.Load(), longest.Round(time.Millisecond))
	if len(won) == 0 || kills+freezes == 0 {
		t.Error("this tested nothing")
	}
}

func contest(t *testing.T, boxes []*cluster.Claims, k *clustertest.Key, height uint32, ambiguous *atomic.Int64) (cluster.Claim, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return clustertest.Contest(ctx, boxes, k, height, ambiguous)
}

// torment kills and freezes the leader by turns until ctx ends, and leaves all
// members running.
func (p *etcdProcesses) torment(ctx context.Context) (kills, freezes int) {
	client, err := clientv3.New(clientv3.Config{Endpoints: p.clients, Logger: zap.NewNop()})
	if err != nil {
		p.t.Error(err)
		return 0, 0
	}
	defer client.Close()
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	for pause(time.Second); ctx.Err() == nil; pause(1500 * time.Millisecond) {
		i, ok := p.leader(ctx, client)
		if !ok {
			continue
		}
		if kills <= freezes {
			p.kill(i)
			kills++
			pause(500 * time.Millisecond)
			p.start(i)
			continue
		}
		process := p.commands[i].Process
		_ = process.Signal(syscall.SIGSTOP)
		freezes++
		pause(2 * time.Second)
		_ = process.Signal(syscall.SIGCONT)
	}
	return kills, freezes
}

// BenchmarkClaimProcesses measures a claim with three members as processes.
func BenchmarkClaimProcesses(b *testing.B) {
	k := clustertest.NewKey()
	box := startProcesses(b).box(k, "box")
	var times []time.Duration
	for h := uint32(1); b.Loop(); h++ {
		begin := time.Now()
		if _, err := clustertest.Insist(b.Context(), box, k.Block(h, 0), new(atomic.Int64)); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
	}
	clustertest.ReportPercentiles(b.ReportMetric, times)
}
