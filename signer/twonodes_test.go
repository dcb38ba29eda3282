package signer

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"qcitycoin.org/qcity/signer/link"
)

// TestTwoNodes: one signer dials two nodes, which ask at once, for the same block
// and for rivals. There is one signature for each height, whoever got it.
func TestTwoNodes(t *testing.T) {
	b := newBench(t)
	s := NewServer(ServerConfig{Network: b.network.ID, Backend: b.service, Log: quiet()})
	var nodes []*Client
	for range 2 {
		k := newTestLink(t)
		dialer := link.NewDialer(link.DialerConfig{
			Address: k.listener.Addr().String(), Identity: k.signer, Pin: k.node.Pin(), Serve: s.Serve, Log: quiet(),
		})
		background(t, dialer.Run)
		nodes = append(nodes, newTestClient(t, door{dial: k.listener.Dials()[0]}, b.network.ID))
	}
	for i := range uint32(20) {
		height, rivals := testSlot*(i+1), i%2 == 1
		var got [2]Response
		var errs [2]error
		var wg sync.WaitGroup
		for n, c := range nodes {
			salt := byte(1)
			if rivals {
				salt += byte(n)
			}
			p := b.proposal(height, 0, salt)
			wg.Go(func() { got[n], errs[n] = c.SignSlot(patience(t), NewRequest(p)) })
		}
		wg.Wait()
		switch {
		case !rivals && (errs[0] != nil || errs[1] != nil || !bytes.Equal(got[0].Signature, got[1].Signature)):
			t.Fatalf("the same block at %d: %v, %v", height, got, errs)
		case rivals && (errs[0] == nil) == (errs[1] == nil):
			t.Fatalf("rivals at %d: %v", height, errs)
		case rivals && !errors.Is(errors.Join(errs[:]...), RuleDoubleSign):
			t.Fatalf("rivals at %d: %v", height, errs)
		}
	}
	if b.token.signed != 20 {
		t.Fatalf("%d signatures for 20 heights", b.token.signed)
	}
}
