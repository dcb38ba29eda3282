package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// from is a connection from an address, which remembers that it was closed.
type from struct {
	net.Conn
	address string
	closed  atomic.Bool
}

func (f *from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.address))
}
func (f *from) Close() error { f.closed.Store(true); return nil }

// TestHalfOpen fills the waiting room from two addresses: the one that has more
// makes room, its oldest first, and not before its grace is over.
func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, done := newHalfOpen(), make(chan struct{})
		quiet := &from{address: "192.0.2.1:1"}
		h.add(quiet, done)
		var crowd []*from
		for range maxHalfOpen - 1 {
			// One /64 counts as one address.
			c := &from{address: "[2001:db8::" + string(rune('a'+len(crowd)%6)) + "]:1"}
			crowd = append(crowd, c)
			h.add(c, done)
		}
		began := time.Now()
		h.add(&from{address: "198.51.100.1:1"}, done)
		if waited := time.Since(began); waited != grace {
			t.Fatalf("room was made after %s, want %s", waited, grace)
		}
		if !crowd[0].closed.Load() || crowd[1].closed.Load() || quiet.closed.Load() {
			t.Fatal("somebody else than the crowd's oldest made room")
		}
		// Who is through makes room at once.
		w := h.all[0]
		time.AfterFunc(time.Millisecond, func() { h.remove(w) })
		for _, x := range h.all {
			x.since = time.Now()
		}
		began = time.Now()
		h.add(&from{address: "198.51.100.1:2"}, done)
		if waited := time.Since(began); waited != time.Millisecond {
			t.Fatalf("waited %s", waited)
		}
		// The end of the listener ends the wait.
		for _, x := range h.all {
			x.since = time.Now()
		}
		close(done)
		if h.add(&from{address: "198.51.100.1:3"}, done) != nil {
			t.Fatal("taken in after the end")
		}
	})
}

// TestBackoff: a node that is away is tried again, ever more seldom but at least
// every maxPause, and what is wrong is in the status.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		began := time.Now()
		d, stop := (&rig{tb: t, node: newTestIdentity(t), signer: newTestIdentity(t), address: "192.0.2.1:9340"}).dialer(func(c *DialerConfig) {
			c.Dial = refuse(&tries)
		})
		time.Sleep(time.Minute)
		stop()
		for i := range tries[1:] {
			if gap := tries[i+1].Sub(tries[i]); gap < minPause/2 || gap > maxPause {
				t.Fatalf("try %d came after %s", i+1, gap)
			}
		}
		if n := len(tries); n < 20 || n > 60 || tries[1].Sub(began) > minPause {
			t.Fatalf("%d tries in a minute, the second after %s", n, tries[1].Sub(began))
		}
		if st := d.Status(); st.Connected || st.Error != "no route" || st.Since.IsZero() {
			t.Fatalf("status %+v", st)
		}
	})
}

func refuse(tries *[]time.Time) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		*tries = append(*tries, time.Now())
		return nil, errors.New("no route")
	}
}

// BenchmarkHandshake is what a stranger costs the node, and himself.
func BenchmarkHandshake(b *testing.B) {
	r := newRig(b)
	d := NewDialer(DialerConfig{Address: r.address, Identity: r.signer, Pin: r.node.Pin(), Serve: echo, Log: quiet()})
	for b.Loop() {
		c, err := d.connect(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		<-c.gone
	}
}
