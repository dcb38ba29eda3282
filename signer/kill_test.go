package signer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// The test binary starts itself again as a signer, or as a client.
const (
	signerEnv  = "SIGNER_TEST_JOURNAL"
	socketEnv  = "SIGNER_TEST_SOCKET"
	dialEnv    = "SIGNER_TEST_DIAL"
	dialNetEnv = "SIGNER_TEST_NETWORK"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(signerEnv) != "":
		fmt.Fprintln(os.Stderr, runSigner(os.Getenv(signerEnv), os.Getenv(socketEnv)))
		os.Exit(1)
	case os.Getenv(dialEnv) != "":
		fmt.Println(dialOnce(os.Getenv(dialEnv), os.Getenv(dialNetEnv)))
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "qcity-signer-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func dialOnce(socket, network string) string {
	id, err := types.ParseHash(network)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := NewClient(socket, id)
	defer c.Close()
	var e *Error
	switch _, err := c.Status(ctx); {
	case err == nil:
		return "greeted"
	case errors.As(err, &e):
		return string(e.Kind)
	default:
		return err.Error()
	}
}

// runSigner is a signer with its real journal, service and socket; only the
// token is software. It ends when it is killed.
func runSigner(journal, socket string) error {
	keys := testKeys()
	network, err := consensus.NewNetwork(testParams("signertest", publics(keys)))
	if err != nil {
		return err
	}
	j, err := OpenJournal(journal, network.ID, publics(keys))
	if err != nil {
		return err
	}
	token := newSoftToken(keys...)
	token.before = func() error {
		if rand.IntN(8) == 0 {
			return errors.New("token is away")
		}
		return nil
	}
	s := NewService(ServiceConfig{
		Network: network, Journal: j, Token: token, Keys: publics(keys), Limit: RateLimit{1e6, 1e6},
		Clock: func() time.Time { return time.Unix(parentTime+100, 0) }, Log: quiet(),
	})
	return NewServer(ServerConfig{Socket: socket, Network: network.ID, Backend: s, Log: quiet()}).Run(context.Background())
}

// TestKill kills a signer a hundred times at random moments while clients ask
// it for blocks and their rivals. Everything it ever released is kept and compared.
func TestKill(t *testing.T) {
	keys := testKeys()
	network := testNetwork(t, "signertest", publics(keys))
	dir := t.TempDir()
	journal, socket := dir+"/journal", socketPath(t)
	if err := CreateJournal(journal, network.ID, publics(keys), 0); err != nil {
		t.Fatal(err)
	}
	w := &witness{make(map[uint32]string)}
	releases, repeats := 0, 0
	top := uint32(1)
	b := &bench{network: network, keys: keys}
	kills := 120
	if testing.Short() {
		kills = 20
	}
	for life := range kills {
		rng := rand.New(rand.NewPCG(uint64(life), 42))
		child := startSigner(t, journal, socket)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		c := NewClient(socket, network.ID)
		// Some die while they start, most at work.
		if life%6 != 0 {
			if _, err := c.Status(ctx); err != nil {
				t.Fatalf("life %d: %v: %s", life, err, child.Stderr)
			}
		}
		kill := func() {
			time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, func() {
				_ = child.Process.Kill()
				cancel()
			})
		}
		// It dies a moment after this many answers: in the middle of the next.
		left := rng.IntN(12)
		if left == 0 {
			kill()
		}
		for ctx.Err() == nil {
			slot := top - uint32(min(int(top)-1, rng.IntN(4)))
			if rng.IntN(3) == 0 {
				top++
				slot = top
			}
			p := b.proposal(slot*testSlot, uint8(rng.IntN(5)), byte(rng.IntN(3)))
			r, err := c.SignSlot(ctx, NewRequest(p))
			if left--; left == 0 {
				kill()
			}
			if err != nil {
				continue
			}
			b.checkSignature(t, p, r)
			releases++
			if r.Repeated {
				repeats++
			}
			if err := w.saw(p.Height, keys[p.Index].public, network.Digest(p), [64]byte(r.Signature)); err != nil {
				t.Fatalf("life %d: %v", life, err)
			}
		}
		c.Close()
		err := child.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("life %d: the signer ended by itself: %v: %s", life, err, child.Stderr)
		}
	}
	if releases < kills || repeats == 0 {
		t.Fatalf("only %d releases, %d of them repeats, over %d lives: the test saw too little", releases, repeats, kills)
	}
	t.Logf("%d kills, %d releases at %d heights, %d repeats", kills, releases, len(w.bySlot), repeats)
	checkJournal(t, journal, network.ID, keys, w)
}

// checkJournal compares the journal with what was released: a release has a seal.
func checkJournal(t *testing.T, path string, network types.Hash, keys []softKey, w *witness) {
	t.Helper()
	j, err := OpenJournal(path, network, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for h, release := range w.bySlot {
		r, ok, err := j.Slot(h)
		if err != nil || !ok || r.State != Sealed {
			t.Fatalf("height %d was released and is %+v, %v", h, r, err)
		}
		if got := fmt.Sprintf("%s %s %x", r.Key, r.Digest, [64]byte(r.Signature)); got != release {
			t.Fatalf("height %d: released %s, journal has %s", h, release, got)
		}
	}
}

func startSigner(t *testing.T, journal, socket string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), signerEnv+"="+journal, socketEnv+"="+socket)
	cmd.Stderr = new(strings.Builder)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}
