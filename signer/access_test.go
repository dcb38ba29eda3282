package signer

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
)

// TestAccess: who may call what, by the way he came.
func TestAccess(t *testing.T) {
	own := uint32(os.Geteuid())
	node, operator := map[string]error{}, map[string]error{}
	for name, m := range methods {
		node[name], operator[name] = ErrPeer, ErrPeer
		if m.may&forNode != 0 {
			node[name] = nil
		}
		if m.may&forOperator != 0 {
			operator[name] = nil
		}
	}
	// What a node may ask is written down here a second time: a method is given
	// to nodes on purpose.
	for _, name := range []string{methodStatus, methodSignSlot, methodAttest, methodSlotRecord, methodSeen} {
		if node[name] != nil {
			t.Errorf("a node may not call %s", name)
		}
		delete(node, name)
	}
	for name, err := range node {
		if err == nil {
			t.Errorf("a node may call %s", name)
		}
	}
	all := map[string]error{methodStatus: nil, methodSlotRecord: nil}
	for _, c := range []struct {
		name   string
		uid    uint32
		only   bool
		linked bool
		want   map[string]error // of the two calls that need nothing
		turned bool
	}{
		{"ourselves", own, false, false, all, false},
		{"root", 0, false, false, all, false},
		{"a node's user", own + 5, false, false, all, false},
		{"a node over a link", 0, false, true, all, false},
		{"ourselves, nodes are dialled", own, true, false, map[string]error{methodStatus: nil, methodSlotRecord: ErrPeer}, false},
		{"a node's user, nodes are dialled", own + 5, true, false, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if c.linked {
				b.link = newTestLink(t)
			}
			d, _ := b.daemon(t, func(sc *ServerConfig, s *Server) {
				sc.UIDs, sc.OperatorsOnly = []uint32{own + 5}, c.only
				s.peer = func(*net.UnixConn) (uint32, error) { return c.uid, nil }
			})
			client := newTestClient(t, d, b.network.ID)
			_, err := client.Status(patience(t))
			if c.turned {
				if !errors.Is(err, ErrPeer) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if !errors.Is(err, c.want[methodStatus]) {
				t.Fatalf("status: %v", err)
			}
			if _, _, err := client.SlotRecord(patience(t), 10); !errors.Is(err, c.want[methodSlotRecord]) {
				t.Fatalf("slot record: %v", err)
			}
			// A method that is not for us does not cost the connection.
			if _, err := client.Status(patience(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestOperatorsMethod adds a method for operators only: it works on the socket
// and is refused to a node, whatever way it comes.
func TestOperatorsMethod(t *testing.T) {
	const name = "test_halt"
	called := 0
	methods[name] = ask(forOperator, func(Backend, context.Context, wireNothing) (wireNothing, error) {
		called++
		return wireNothing{}, nil
	})
	defer delete(methods, name)
	own := uint32(os.Geteuid())
	for _, c := range []struct {
		name   string
		uid    uint32
		linked bool
		want   error
	}{
		{"operator", own, false, nil},
		{"node on the socket", own + 5, false, ErrPeer},
		{"node over a link", own, true, ErrPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if c.linked {
				b.link = newTestLink(t)
			}
			d, stop := b.daemon(t, func(sc *ServerConfig, s *Server) {
				sc.UIDs = []uint32{own + 5}
				s.peer = func(*net.UnixConn) (uint32, error) { return c.uid, nil }
			})
			before := called
			client := newTestClient(t, d, b.network.ID)
			if _, err := call[wireNothing](patience(t), client, name, wireNothing{}); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if (called > before) != (c.want == nil) {
				t.Fatal("the answer and what was done differ")
			}
		})
	}
}
