package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

// kills is how many processes TestKill kills. QCITY_KILLS sets another number
// for a long campaign (`make kill`).
const kills = 300

// TestKill runs node, signer and PKCS#11 worker as three processes over real
// tokens and kills one of them, again and again, at random moments and in the
// middle of signing. A proxy on the socket between node and signer records
// every signature that ever leaves the signer. In the end no slot may have
// two, no key may have cast two votes that S1 or S2 forbids, no block that the
// node once showed as its best may be gone, and the database must obey the rules.
func TestKill(t *testing.T) {
	// Pdeathsig follows the thread that starts a process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n := kills
	if text := os.Getenv("QCITY_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("QCITY_KILLS: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("QCITY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("QCITY_SEED: %v", err)
		}
	}
	t.Logf("%d kills, QCITY_SEED=%d", n, seed)
	k := newKiller(t, rand.New(rand.NewPCG(seed, 0)))
	k.run(n)
	k.check()
}

// killer kills the processes of a rig and remembers what they said.
type killer struct {
	*rig
	t        *testing.T
	rng      *rand.Rand
	tap      *tap
	killed   map[string]int
	reported []reportedTip
}

func newKiller(t *testing.T, rng *rand.Rand) *killer {
	r := newRig(t, 1, "tap.sock")
	return &killer{
		rig: r, t: t, rng: rng, killed: make(map[string]int),
		tap: newTap(t, filepath.Join(r.dir, "tap.sock"), filepath.Join(r.dir, signerSocket)),
	}
}

// run kills n processes. Before each kill the chain must have grown since the
// last one, so that every kill hits a network that works.
func (k *killer) run(n int) {
	k.signer.start()
	k.node.start()
	defer k.node.stop()
	defer k.signer.stop()
	var last uint32
	for i := range n {
		k.growBeyond(last)
		last = k.reported[len(k.reported)-1].height
		if k.rng.IntN(2) == 0 {
			k.tap.waitRequest(k.t) // in the middle of signing
			pause(k.rng.Int64N(int64(6 * time.Millisecond)))
		} else {
			pause(k.rng.Int64N(int64(150 * time.Millisecond)))
		}
		k.kill(i)
	}
	k.growBeyond(last)
}

// pause lets the processes run on for a random moment: what a kill hits is the
// matter of the test, not a condition it waits for.
func pause(nanoseconds int64) { <-time.After(time.Duration(nanoseconds)) }

func (k *killer) kill(i int) {
	switch victim := []string{"node", "signer", "worker"}[i%3]; victim {
	case "node":
		k.node.kill()
		k.node.start()
		k.killed[victim]++
	case "signer":
		k.signer.kill()
		k.signer.start()
		k.killed[victim]++
	case "worker":
		// Between two workers there is none to kill: then the kill does not count.
		if pid := childOf(k.signer.pid()); pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
			k.killed[victim]++
		}
	}
}

// growBeyond waits until the node reports a higher tip, and checks that what it
// reported before is still there.
func (k *killer) growBeyond(height uint32) {
	k.t.Helper()
	deadline := time.Now().Add(limit)
	for checked := false; ; {
		if time.Now().After(deadline) {
			k.t.Fatalf("the chain does not grow beyond %d\nnode: %s\nsigner: %s", height, k.node.tail(), k.signer.tail())
		}
		for _, p := range []*process{k.node, k.signer} {
			if !alive(p.pid()) {
				k.t.Fatalf("%v ended by itself:\n%s", p.args, p.tail())
			}
		}
		tip, err := k.tip()
		if err != nil {
			pause(int64(10 * time.Millisecond)) // the node is starting
			continue
		}
		if !checked && len(k.reported) > 0 {
			k.stillThere(tip)
			checked = true
		}
		k.reported = append(k.reported, tip)
		if tip.height > height {
			return
		}
		pause(int64(5 * time.Millisecond))
	}
}

// stillThere checks the last tip that was reported before.
func (k *killer) stillThere(now reportedTip) {
	k.t.Helper()
	last := k.reported[len(k.reported)-1]
	var header struct {
		Confirmations int
		Height        uint32
	}
	if err := k.call(&header, "getblockheader", last.id); err != nil {
		var down *net.OpError
		if errors.As(err, &down) {
			return // killed again by now
		}
		k.t.Fatalf("block %d, %s, was reported as the best and is gone: %v", last.height, last.id, err)
	}
	if header.Confirmations < 1 && now.signedSlots <= last.signedSlots {
		k.t.Fatalf("block %d, %s, was reported as the best and was replaced by a chain with no more signed slots", last.height, last.id)
	}
}

// check looks at what is left when everything has ended.
func (k *killer) check() {
	if _, stderr, code := qcity(k.t, "chain", "verify", "--data", filepath.Join(k.dir, nodeDir), "--network", filepath.Join(k.dir, networkFile)); code != 0 {
		k.t.Fatal(stderr)
	}
	s, err := store.Open(filepath.Join(k.dir, nodeDir), k.net, store.Options{ReadOnly: true})
	if err != nil {
		k.t.Fatal(err)
	}
	defer s.Close()
	signedAt := make(map[uint32]types.Hash)
	fallbacks := 0
	for e, err := range s.Entries() {
		if err != nil {
			k.t.Fatal(err)
		}
		h := e.State.Height
		switch other, twice := signedAt[h]; {
		case !e.Header.IsSigned():
			if k.net.IsSlot(h) {
				fallbacks++
			}
		case twice:
			k.t.Errorf("slot %d has two signed blocks: %s and %s", h, other, e.State.ID)
		default:
			signedAt[h] = e.State.ID
			k.tap.expect(k.t, h, &e.Header)
		}
	}
	k.tap.check(k.t)
	k.checkVotes(s)
	last := k.reported[len(k.reported)-1]
	if len(k.tap.released) < 10 || len(signedAt) < 10 {
		k.t.Errorf("only %d signatures were released: the test saw too little", len(k.tap.released))
	}
	k.t.Logf("killed %v; chain at %d, %d slots signed, %d fallback blocks, %d signatures released %d times",
		k.killed, last.height, len(signedAt), fallbacks, len(k.tap.released), k.tap.answers)
}

// checkVotes holds the certificates that the node keeps, and those in its
// blocks, to the votes that passed the proxy.
func (k *killer) checkVotes(s *store.Store) {
	certificates, err := s.Certificates()
	if err != nil {
		k.t.Fatal(err)
	}
	var proven *consensus.Authority
	var anchors []audit.Head
	for height := uint32(1); ; height++ {
		b, ok, err := blockAtHeight(s, height)
		if err != nil {
			k.t.Fatal(err)
		}
		if !ok {
			break
		}
		if !b.IsSigned() {
			continue
		}
		records, err := consensus.Records(b.Transactions[0])
		if err != nil {
			k.t.Fatal(err)
		}
		for _, r := range records {
			switch r := r.(type) {
			case *consensus.Certificate:
				certificates = append(certificates, *r)
			case *consensus.AuditAnchor:
				anchors = append(anchors, audit.Head{Seq: r.Seq, Hash: r.Head})
			default:
				k.t.Errorf("slot %d carries %T: somebody was accused", height, r)
			}
		}
		e, _, err := s.Entry(b.Header.ID())
		if err != nil {
			k.t.Fatal(err)
		}
		proven = e.State.Proven()
	}
	report, err := audit.Verify(k.t.Context(), filepath.Join(k.dir, "audit.log"), audit.VerifyOptions{Network: k.net.ID, Anchors: anchors, Signatures: true})
	if err != nil || len(anchors) == 0 {
		k.t.Errorf("the audit log and the %d ends of it that the chain carries: %v", len(anchors), err)
	}
	k.t.Logf("audit log: %d entries, each signature verified, %d anchors in the chain", report.Entries, len(anchors))
	counted := 0
	for i := range certificates {
		for _, v := range certificates[i].Attestations() {
			k.tap.votes.expect(k.t, k.net.Validators[v.Index], v)
			counted++
		}
	}
	if proven == nil || proven.Final.Height == 0 {
		k.t.Error("the blocks prove no slot final: the test saw too little")
		return
	}
	k.t.Logf("slot %d proven certified, %d final; %d votes left the signer %d times, %d counted in %d certificates",
		proven.Certified().Height, proven.Final.Height, k.tap.votes.count(), k.tap.votes.answers, counted, len(certificates))
}
