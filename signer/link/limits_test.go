package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNoResumption: a signer that kept what it could of its last connection proves its
// key anew nevertheless.
func TestNoResumption(t *testing.T) {
	r := newRig(t)
	c := config(r.signer, []Pin{r.node.Pin()})
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for range 2 {
		conn, err := tls.Dial("tcp", r.address, c)
		if err != nil {
			t.Fatal(err)
		}
		// A ticket would come before the first byte.
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if conn.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		conn.Close()
	}
}

// TestHalfLine: no pulse gets into a line that its writer has not ended.
func TestHalfLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, signer, _, _ := pair(t)
		go func() {
			_, _ = io.WriteString(node, "half ")
			time.Sleep(2*beatEvery + beatEvery/2)
			_, _ = io.WriteString(node, "a line\n")
		}()
		if line, err := bufio.NewReader(signer).ReadString('\n'); err != nil || line != "half a line\n" {
			t.Errorf("%q, %v", line, err)
		}
		node.Close()
		signer.Close()
		<-node.gone
		<-signer.gone
	})
}

// TestDeafPeer: a peer that shows that it lives and takes nothing does not hold the
// writer for ever.
func TestDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := net.Pipe()
		c := newConn(one)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for {
				if _, err := two.Write([]byte{'\n'}); err != nil {
					return
				}
				time.Sleep(beatEvery)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stop := context.AfterFunc(ctx, func() { two.Close() })
		defer stop()
		began := time.Now()
		_, err := io.WriteString(c, strings.Repeat("x", 1<<20))
		if took := time.Since(began); err == nil || took > 2*silence {
			t.Errorf("%v after %s", err, took)
		}
		two.Close()
		c.Close()
		<-c.gone
	})
}

// TestSilentHandshake: who says nothing is given up after handshakeTime, on either side.
func TestSilentHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := newTestIdentity(t)
		l := NewListener(nil, ListenerConfig{Identity: id, Pins: []Pin{id.Pin()}, Log: quiet()})
		d := NewDialer(DialerConfig{Identity: id, Pin: id.Pin(), Log: quiet(), Dial: func(context.Context, string, string) (net.Conn, error) {
			conn, peer := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, peer) }()
			return conn, nil
		}})
		conn, peer := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, _, err := l.handshake(ctx, conn); err == nil || time.Since(began) > handshakeTime {
			t.Errorf("the node: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		if _, err := d.connect(ctx); err == nil || time.Since(began) > handshakeTime {
			t.Errorf("the signer: %v after %s", err, time.Since(began))
		}
		conn.Close()
		peer.Close()
	})
}

// TestMaxPerPeer: one signer does not use up the node's memory with connections.
func TestMaxPerPeer(t *testing.T) {
	l := NewListener(nil, ListenerConfig{Log: quiet()})
	for n := range maxPerPeer + 1 {
		one, two := net.Pipe()
		c := newConn(one)
		if l.keep(c, Pin{1}) != (n < maxPerPeer) {
			t.Errorf("connection %d", n)
		}
		two.Close()
		c.Close()
		<-c.gone
	}
}
