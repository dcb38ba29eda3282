package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
)

// tap is a proxy on the signer's socket that keeps what passes.
type tap struct {
	requests chan struct{} // one for a sign request that passes, if somebody waits

	mu       sync.Mutex
	released map[uint32]map[string]bool // by height: header ‖ index ‖ signature
	answers  int
	votes    voteBook
}

func newTap(t *testing.T, listen, upstream string) *tap {
	l, err := net.Listen("unix", listen)
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{requests: make(chan struct{}), released: make(map[uint32]map[string]bool), votes: newVoteBook()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c, upstream) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return p
}

func (p *tap) serve(node net.Conn, upstream string) {
	defer node.Close()
	signer, err := net.Dial("unix", upstream)
	if err != nil {
		return
	}
	defer signer.Close()
	from, back := bufio.NewReader(node), bufio.NewReader(signer)
	for {
		request, err := from.ReadBytes('\n')
		if err != nil {
			return
		}
		if bytes.Contains(request, []byte(`"sign_slot"`)) || bytes.Contains(request, []byte(`"attest"`)) {
			select {
			case p.requests <- struct{}{}:
			default:
			}
		}
		if _, err := signer.Write(request); err != nil {
			return
		}
		answer, err := back.ReadBytes('\n')
		if err != nil {
			return
		}
		// Recorded before it is passed on: it has left the signer.
		p.record(request, answer)
		if _, err := node.Write(answer); err != nil {
			return
		}
	}
}

func (p *tap) record(request, answer []byte) {
	var q struct {
		Method string
		Params json.RawMessage
	}
	var a struct {
		Result *struct{ Signature signer.Hex }
	}
	if json.Unmarshal(request, &q) != nil || json.Unmarshal(answer, &a) != nil || a.Result == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch q.Method {
	case "sign_slot":
		var r signer.Request
		if json.Unmarshal(q.Params, &r) != nil {
			return
		}
		if p.released[r.Height] == nil {
			p.released[r.Height] = make(map[string]bool)
		}
		p.released[r.Height][fmt.Sprintf("%x %d %x", []byte(r.Header), r.Index, []byte(a.Result.Signature))] = true
		p.answers++
	case "attest":
		var r signer.VoteRequest
		if json.Unmarshal(q.Params, &r) == nil {
			p.votes.record(&r, a.Result.Signature)
		}
	}
}

// waitRequest waits until the node asks for a signature.
func (p *tap) waitRequest(t *testing.T) {
	t.Helper()
	select {
	case <-p.requests:
	case <-time.After(limit):
		t.Fatal("the node does not ask for signatures any more")
	}
}

// expect checks that a signed block of the chain is one that was recorded.
func (p *tap) expect(t *testing.T, height uint32, h *types.SignedHeader) {
	t.Helper()
	want := fmt.Sprintf("%x %d %x", h.Header.Bytes(), h.VchBlockSig[0], h.VchBlockSig[1:])
	if !p.released[height][want] {
		t.Errorf("the block of slot %d carries a signature that did not pass the proxy", height)
	}
}

func (p *tap) check(t *testing.T) {
	t.Helper()
	for height, all := range p.released {
		if len(all) != 1 {
			t.Errorf("slot %d: %d different signatures left the signer: %v", height, len(all), all)
		}
	}
	p.votes.check(t)
}

// voteBook remembers the votes that left the signer, and what is wrong with them.
type voteBook struct {
	cast    map[types.PublicKey]map[uint32]consensus.Attestation // by height of the target
	answers int
	wrong   []string
}

func newVoteBook() voteBook {
	return voteBook{cast: make(map[types.PublicKey]map[uint32]consensus.Attestation)}
}

func (v *voteBook) record(r *signer.VoteRequest, signature []byte) {
	v.answers++
	if len(r.Sets) != 1 || int(r.Index) >= len(r.Sets[0].Keys) || len(signature) != 64 {
		v.wrong = append(v.wrong, fmt.Sprintf("the signer answered a vote of %d sets, index %d, with %d bytes", len(r.Sets), r.Index, len(signature)))
		return
	}
	key := r.Sets[0].Keys[r.Index]
	vote := consensus.Attestation{
		Link:  consensus.Link{Set: r.Set, Source: consensus.Checkpoint(r.Source), Target: consensus.Checkpoint(r.Target)},
		Index: r.Index, Signature: [64]byte(signature),
	}
	if v.cast[key] == nil {
		v.cast[key] = make(map[uint32]consensus.Attestation)
	}
	if old, again := v.cast[key][r.Target.Height]; again {
		if old != vote {
			v.wrong = append(v.wrong, fmt.Sprintf("two votes of %s for height %d left the signer: %+v, %+v", key, r.Target.Height, old, vote))
		}
		return
	}
	v.cast[key][r.Target.Height] = vote
}

// check goes through the votes of each key by their heights: an answer to a node
// that was killed may be seen here late.
func (v *voteBook) check(t *testing.T) {
	t.Helper()
	for _, wrong := range v.wrong {
		t.Error(wrong)
	}
	for key, votes := range v.cast {
		var last consensus.VoteRecord
		for _, height := range slices.Sorted(maps.Keys(votes)) {
			l := votes[height].Link
			if err := last.Allows(l); err != nil {
				t.Errorf("a vote of %s that it must not cast: %v", key, err)
			}
			last = last.Next(l)
		}
	}
}

// expect checks that a vote that was counted is one that was recorded.
func (v *voteBook) expect(t *testing.T, key types.PublicKey, vote consensus.Attestation) {
	t.Helper()
	if v.cast[key][vote.Target.Height] != vote {
		t.Errorf("a vote of %s for height %d is counted that did not pass the proxy", key, vote.Target.Height)
	}
}

func (v *voteBook) count() (n int) {
	for _, votes := range v.cast {
		n += len(votes)
	}
	return n
}
