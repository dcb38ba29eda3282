package signer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
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

// fixedEnd is an audit log with the end that the blocks of these tests carry.
type fixedEnd struct{ *audit.Log }

func (fixedEnd) Head() audit.Head { return testHead }

func (fixedEnd) HashAt(uint64) (types.Hash, error) { return testHead.Hash, nil }

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
	log, err := audit.Open(journal+".audit", network.ID, audit.Options{})
	if err != nil {
		return err
	}
	s, err := NewService(ServiceConfig{
		Network: network, Journal: j, Token: token, Audit: fixedEnd{log}, Keys: publics(keys), Limit: RateLimit{1e6, 1e6},
		Clock: func() time.Time { return time.Unix(parentTime+100, 0) }, Log: quiet(),
	})
	if err != nil {
		return err
	}
	if err := s.Seen(context.Background(), SeenRequest{}); err != nil {
		return err
	}
	return NewServer(ServerConfig{Socket: socket, Network: network.ID, Backend: s, Log: quiet()}).Run(context.Background())
}

// TestKill kills a signer at random moments while clients ask it for blocks,
// votes and their rivals: SIGNER_KILLS times, 120 by default. A journal is begun
// anew after every 1,000, as reading it at each start takes ever longer.
func TestKill(t *testing.T) {
	const each = 1000
	kills := campaign(t, "SIGNER_KILLS", 120)
	var sum tally
	for first := 0; first < kills; first += each {
		sum.add(killFrom(t, first, min(first+each, kills)))
		t.Logf("%d kills, %s", min(first+each, kills), sum)
	}
}

// tally counts what a signer released over many lives.
type tally struct{ releases, repeats, heights, votes int }

func (s *tally) add(o tally) {
	s.releases += o.releases
	s.repeats += o.repeats
	s.heights += o.heights
	s.votes += o.votes
}

func (s tally) String() string {
	return fmt.Sprintf("%d releases at %d heights and of %d votes, %d of them repeats", s.releases, s.heights, s.votes, s.repeats)
}

// killFrom lets one signer live these lives. Everything it ever released is kept
// and compared.
func killFrom(t *testing.T, from, to int) tally {
	t.Helper()
	kills := to - from
	keys := testKeys()
	network := testNetwork(t, "signertest", publics(keys))
	dir := t.TempDir()
	journal, socket := dir+"/journal", socketPath(t)
	if err := errors.Join(CreateJournal(journal, network.ID, publics(keys), 0), audit.Create(journal+".audit", network.ID, audit.Options{})); err != nil {
		t.Fatal(err)
	}
	w := newWitness()
	released := make(map[[64]byte]bool)
	releases, repeats := 0, 0
	votes := []*consensus.Ballot{nil}
	top := uint32(1)
	b := &bench{network: network, keys: keys}
	e := b.voting()
	for life := from; life < to; life++ {
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
			// Half are votes, of which some were asked for before.
			var v *consensus.Ballot
			if rng.IntN(2) == 0 {
				if v = votes[len(votes)-1-rng.IntN(min(len(votes), 4))]; v == nil || rng.IntN(3) > 0 {
					source := e.at((slot-uint32(min(int(slot), 1+rng.IntN(2))))*testSlot, byte(rng.IntN(2)))
					v = e.ballot(source, slot*testSlot, p.Index, byte(rng.IntN(3)))
					votes = append(votes, v)
				}
			}
			var r Response
			var err error
			if v == nil {
				r, err = c.SignSlot(ctx, NewRequest(p))
			} else {
				r, err = c.Attest(ctx, NewVoteRequest(v))
			}
			if left--; left == 0 {
				kill()
			}
			if err != nil {
				continue
			}
			releases++
			released[[64]byte(r.Signature)] = true
			if r.Repeated {
				repeats++
			}
			if v != nil {
				e.checkVote(t, v, r)
				if err := w.sawVote(keys[v.Index].public, v.Link, [64]byte(r.Signature)); err != nil {
					t.Fatalf("life %d: %v", life, err)
				}
				continue
			}
			b.checkSignature(t, p, r)
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
	if releases < kills || repeats == 0 || len(w.byVote) < kills/4 {
		t.Fatalf("only %d releases, %d of them repeats, and %d votes over %d lives: the test saw too little", releases, repeats, len(w.byVote), kills)
	}
	checkJournal(t, journal, network.ID, keys, w)
	checkAudit(t, journal+".audit", released)
	return tally{releases, repeats, len(w.bySlot), len(w.byVote)}
}

// campaign returns how often a test with random events repeats them: the number
// in the environment variable, or usual.
func campaign(t *testing.T, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		if testing.Short() {
			return usual / 6
		}
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number of repetitions", variable, text)
	}
	return n
}

// checkAudit wants an entry for every signature that was ever released, and a
// chain that is whole.
func checkAudit(t *testing.T, path string, released map[[64]byte]bool) {
	t.Helper()
	booked := make(map[[64]byte]bool)
	for r, err := range audit.NewReader(path, audit.Options{}).Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e := r.Entry.Event; e == audit.EventSigned || e == audit.EventRepeated {
			booked[r.Entry.Signature] = true
		}
	}
	for sig := range released {
		if !booked[sig] {
			t.Fatalf("signature %x was released and is not in the audit log", sig)
		}
	}
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
	for key, links := range w.links {
		for _, l := range links {
			sig, ok, err := j.SealedVote(key, l)
			if got := fmt.Sprintf("%+v %x", l, sig); !ok || err != nil || got != w.byVote[voted{key, l.Target.Height}] {
				t.Fatalf("%s: released %s, journal has %s, %v", key, w.byVote[voted{key, l.Target.Height}], got, err)
			}
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
