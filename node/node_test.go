package node_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	n, err := node.Open(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOpenRunClose: what a run leaves behind is the chain and nothing else.
func TestOpenRunClose(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 25)
	cfg := node.Config{Network: g.Network(), Dir: t.TempDir(), Payout: chaingen.PayToHash(0), Version: "1.2.3"}
	cookie := filepath.Join(cfg.Dir, node.CookieFile)
	address := "127.0.0.1:0"
	var lastCookie string
	for run, blocks := range [][]*types.Block{g.Path("a25")[:12], g.Path("a25")[12:]} {
		n := open(t, cfg)
		if run > 0 && n.Chain.Tip().ID != g.Node("a12").State.ID {
			t.Fatalf("resumed at %s, want %s", n.Chain.Tip().ID, g.Node("a12").State.ID)
		}
		l := listen(t, address)
		address = l.Addr().String() // the second run needs the first one's port again
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx, l) }()
		for _, b := range blocks {
			if _, err := n.Chain.AddBlock(b); err != nil {
				t.Fatal(err)
			}
		}
		// Any answer means that the server is up and the cookie written.
		resp, err := http.Get("http://" + address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		text, err := os.ReadFile(cookie)
		if err != nil || string(text) == lastCookie {
			t.Errorf("cookie %q after %q (%v): want a new one for every run", text, lastCookie, err)
		}
		lastCookie = string(text)
		if err := n.Healthy(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v when it was told to end", err)
		}
		if _, err := os.Stat(cookie); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cookie after the end: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	n := open(t, cfg)
	defer n.Close()
	if n.Chain.Tip().ID != g.Tip().State.ID {
		t.Errorf("resumed at height %d, want 25", n.Chain.Tip().Height)
	}
}

func TestOpenTwice(t *testing.T) {
	cfg := node.Config{Network: chaingen.New(t, chaingen.Params()).Network(), Dir: t.TempDir()}
	n := open(t, cfg)
	if _, err := node.Open(cfg, quiet); !errors.Is(err, durable.ErrInUse) {
		t.Errorf("second Open: %v, want %v", err, durable.ErrInUse)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenOtherNetwork(t *testing.T) {
	dir := t.TempDir()
	mine := chaingen.New(t, chaingen.Params()).Network()
	other := chaingen.New(t, chaingen.P256Params()).Network()
	if err := open(t, node.Config{Network: mine, Dir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := node.Open(node.Config{Network: other, Dir: dir}, quiet)
	if err == nil {
		t.Fatal("a directory of another network was opened")
	}
	for _, want := range []string{mine.Name, mine.ID.String(), other.Name, other.ID.String(), "--data"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
	// It must not have been locked for good, nor changed.
	if err := open(t, node.Config{Network: mine, Dir: dir}).Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenBadPayout(t *testing.T) {
	cfg := node.Config{Network: chaingen.New(t, chaingen.Params()).Network(), Dir: t.TempDir(), Payout: []byte("no script")}
	if _, err := node.Open(cfg, quiet); err == nil || !strings.Contains(err.Error(), "payout") {
		t.Errorf("got %v", err)
	}
	cfg.Payout = nil
	if err := open(t, cfg).Close(); err != nil { // the failure released the directory
		t.Error(err)
	}
}

// TestRunFails: a part that fails ends the whole, with its error, and the port.
func TestRunFails(t *testing.T) {
	t.Run("cookie cannot be written", func(t *testing.T) {
		dir := t.TempDir()
		n := open(t, node.Config{Network: chaingen.New(t, chaingen.Params()).Network(), Dir: dir})
		defer n.Close()
		if err := os.MkdirAll(filepath.Join(dir, node.CookieFile, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
		l := listen(t, "127.0.0.1:0")
		if err := n.Run(t.Context(), l); err == nil || !strings.Contains(err.Error(), "cookie") {
			t.Errorf("got %v", err)
		}
		_ = listen(t, l.Addr().String()).Close()
	})
	t.Run("listener closed", func(t *testing.T) {
		n := open(t, node.Config{Network: chaingen.New(t, chaingen.Params()).Network(), Dir: t.TempDir()})
		defer n.Close()
		l := listen(t, "127.0.0.1:0")
		_ = l.Close()
		if err := n.Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a part is cancelled though nobody asked for it", func(t *testing.T) {
		n := open(t, node.Config{Network: chaingen.New(t, chaingen.Params()).Network(), Dir: t.TempDir()})
		defer n.Close()
		if err := n.Run(t.Context(), canceledListener{listen(t, "127.0.0.1:0")}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v: the program would end without a reason", err)
		}
	})
}

type canceledListener struct{ net.Listener }

func (canceledListener) Accept() (net.Conn, error) { return nil, context.Canceled }

func TestNoPayoutNoWork(t *testing.T) {
	n := open(t, node.Config{Network: chaingen.New(t, chaingen.Params()).Network(), Dir: t.TempDir()})
	defer n.Close()
	outcome, _, err := n.SubmitSolution(t.Context(), work.Solution{})
	if outcome != work.Rejected || !errors.Is(err, node.ErrNoTemplate) {
		t.Errorf("got %v, %v", outcome, err)
	}
}

// keys signs with the public test keys.
type keys struct{ net *consensus.Network }

func (keys) Tell(context.Context, uint32, []node.Shown) error { return nil }

func (keys) Anchor(context.Context, types.PublicKey) (*consensus.AuditAnchor, error) { return nil, nil }

func (k keys) Keys(context.Context) ([]types.PublicKey, error) { return k.net.Validators, nil }

func (k keys) SignSlot(_ context.Context, p *consensus.Proposal) ([64]byte, error) {
	if err := k.net.ValidateProposal(p); err != nil {
		return [64]byte{}, err
	}
	return chaingen.ValidatorKey(types.Secp256k1, int(p.Index)).Sign(k.net.Digest(p)), nil
}

func (k keys) Attest(_ context.Context, b *consensus.Ballot) ([64]byte, error) {
	if _, err := k.net.ValidateBallot(b); err != nil {
		return [64]byte{}, err
	}
	return chaingen.ValidatorKey(types.Secp256k1, int(b.Index)).Sign(b.Link.Digest(k.net.ID)), nil
}

// TestNodeSignsAndMines: the real parts together make a signed block at a slot
// by the wall clock, and then publish work on it that a solution connects.
func TestNodeSignsAndMines(t *testing.T) {
	params := chaingen.Params()
	params.GenesisTime = uint32(time.Now().Unix()) - 10*params.IntervalSeconds
	g := chaingen.New(t, params)
	g.Fill("a", 9)
	n := open(t, node.Config{Network: g.Network(), Dir: t.TempDir(), Payout: chaingen.PayToHash(0), Signer: keys{g.Network()}})
	defer n.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, listen(t, "127.0.0.1:0")) }()
	for _, b := range g.Path("a9") {
		if _, err := n.Chain.AddBlock(b); err != nil {
			t.Fatal(err)
		}
	}
	reach(t, n, 10)
	tip := n.Chain.Tip()
	if h, _, err := n.Chain.Header(tip.ID); err != nil || !h.IsSigned() || tip.SignedSlots != 1 {
		t.Fatalf("block 10 is not signed (err %v)", err)
	}
	s := solve(n, 11)
	outcome, id, err := n.SubmitSolution(ctx, s)
	if outcome != work.Accepted || err != nil || n.Chain.Tip().ID != id {
		t.Errorf("solution: %v, %v; tip %s, want %x", outcome, err, n.Chain.Tip().ID, id)
	}
	if outcome, _, err = n.SubmitSolution(ctx, s); outcome != work.Accepted || err != nil {
		t.Errorf("the same solution again: %v, %v; its block is on the best chain", outcome, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// solve waits for work on a height and solves it.
func solve(n *node.Node, height uint32) work.Solution {
	job, changed := n.Feed.Latest()
	for job == nil || job.Height != height {
		<-changed
		job, changed = n.Feed.Latest()
	}
	s := work.Solution{JobID: job.ID, Version: job.Version, Time: job.Time}
	for h := job.Header(s); !job.Target.Met(h.Hash()); h = job.Header(s) {
		s.Nonce++
	}
	return s
}

// TestNodeVotes: the real parts together certify every slot and make it final
// when the next is certified, carry the proof on the chain, and still know it all
// when they are opened again.
func TestNodeVotes(t *testing.T) {
	params := chaingen.Params()
	params.GenesisTime = uint32(time.Now().Unix()) - 10*params.IntervalSeconds
	g := chaingen.New(t, params)
	g.Fill("a", 9)
	cfg := node.Config{Network: g.Network(), Dir: t.TempDir(), Payout: chaingen.PayToHash(0), Signer: keys{g.Network()}}
	n := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, listen(t, "127.0.0.1:0")) }()
	for _, b := range g.Path("a9") {
		if _, err := n.Chain.AddBlock(b); err != nil {
			t.Fatal(err)
		}
	}
	for slot := uint32(10); slot <= 40; slot += 10 {
		reach(t, n, slot)
		final := slot - 10
		settles(t, n, slot, final)
		standing := n.Chain.Standing()
		for _, want := range []struct {
			height uint32
			status consensus.Confirmation
		}{{final, consensus.Final}, {final + 1, consensus.Certified}, {slot, consensus.Certified}, {slot + 1, consensus.ByWork}} {
			if got := standing.Of(want.height); got != want.status {
				t.Errorf("after slot %d block %d is %s, want %s", slot, want.height, got, want.status)
			}
		}
		if d, is := standing.Degraded(); is {
			t.Errorf("after slot %d: %v", slot, d)
		}
		if slot == 40 {
			break
		}
		for h := slot + 1; h < slot+10; h++ {
			if outcome, _, err := n.SubmitSolution(ctx, solve(n, h)); outcome != work.Accepted || err != nil {
				t.Fatalf("block %d: %v, %v", h, outcome, err)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	last := n.Chain.Tip()
	for id, want := range map[types.Hash]node.BlockState{
		g.Node("a9").State.ID: {Status: node.BlockOnChain, Depth: 32, Final: true, Mature: true},
		last.ID:               {Status: node.BlockOnChain, Depth: 1},
	} {
		if got, err := n.BlockState(id); err != nil || got != want {
			t.Errorf("block %s: %+v, %v, want %+v", id, got, err, want)
		}
	}
	// Slot 40 carries the votes for slot 30.
	before, tip := n.Chain.Standing(), n.Chain.Tip()
	if proven := tip.Proven(); proven.Certified().Height != 30 || proven.Final.Height != 20 {
		t.Errorf("the chain proves slot %d certified, %d final; want 30, 20", proven.Certified().Height, proven.Final.Height)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	defer again.Close()
	if after := again.Chain.Standing(); after.Certified != before.Certified || after.Final != before.Final || after.Final.Height != 30 {
		t.Errorf("opened again, slot %d is certified and %d final; before it was %d and %d", after.Certified.Height, after.Final.Height, before.Certified.Height, before.Final.Height)
	}
}

// settles waits until these slots are certified and final.
func settles(t *testing.T, n *node.Node, certified, final uint32) {
	t.Helper()
	for {
		changed := n.Chain.Changed()
		s := n.Chain.Standing()
		if s.Certified.Height >= certified && s.Final.Height >= final {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("test ended before the slot was certified")
		}
	}
}

// reach waits until the chain has a height.
func reach(t *testing.T, n *node.Node, height uint32) {
	t.Helper()
	for {
		changed := n.Chain.Changed()
		if n.Chain.Tip().Height >= height {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("test ended before the chain reached its height")
		}
	}
}
