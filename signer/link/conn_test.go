package link

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// pair returns both ends of a link over TLS in memory, for tests in virtual time.
func pair(t *testing.T) (node, signer *conn, nodeRaw, signerRaw *faulty) {
	t.Helper()
	one, two := newTestIdentity(t), newTestIdentity(t)
	a, b := net.Pipe()
	nodeRaw, signerRaw = &faulty{Conn: a}, &faulty{Conn: b}
	server, client := tls.Server(nodeRaw, config(one, []Pin{two.Pin()})), tls.Client(signerRaw, config(two, []Pin{one.Pin()}))
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// What is recorded today stays closed to tomorrow's quantum computers.
	if got := client.ConnectionState().CurveID; got != tls.X25519MLKEM768 {
		t.Fatalf("keys are exchanged by %s", got)
	}
	return newConn(server), newConn(client), nodeRaw, signerRaw
}

// faulty can lose what is written to it, as a cut cable does.
type faulty struct {
	net.Conn
	lose atomic.Bool
}

func (f *faulty) Write(b []byte) (int, error) {
	if f.lose.Load() {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

// TestPulse: a link without traffic lives for ever, and one whose peer is dead
// ends within the time of silence, whether anybody reads or not.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, signer, _, cable := pair(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, c := range []*conn{node, signer} {
			select {
			case <-c.gone:
				t.Fatal("a link without traffic ended")
			case <-c.claimed:
				t.Fatal("a pulse counts as a line")
			default:
			}
		}
		go func() { _, _ = io.WriteString(node, "after an hour\n") }()
		line := make([]byte, len("after an hour\n"))
		if _, err := io.ReadFull(signer, line); err != nil || string(line) != "after an hour\n" {
			t.Fatalf("%q, %v", line, err)
		}
		cable.lose.Store(true)
		began := time.Now()
		_, err := node.Read(line)
		if took := time.Since(began); !errors.Is(err, ErrSilent) || took > silence {
			t.Fatalf("%v after %s", err, took)
		}
		<-node.gone
		<-signer.gone
	})
}

// TestLastWords: what was written before a connection is closed arrives, though
// the other side goes on writing and nobody reads that any more.
func TestLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, signer, _, _ := pair(t)
		go func() {
			for {
				if _, err := io.WriteString(signer, strings.Repeat("x", 100_000)+"\n"); err != nil {
					return
				}
			}
		}()
		if _, err := io.ReadFull(node, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(node, "turned away\n"); err != nil {
			t.Fatal(err)
		}
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
		// The end itself may show as an error, as the writer runs into it.
		if text, err := io.ReadAll(signer); string(text) != "turned away\n" {
			t.Fatalf("%q, %v", text, err)
		}
		signer.Close()
		<-node.gone
		<-signer.gone
	})
}

// TestSlowReader: a peer that takes nothing does not hold the writer for ever.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := net.Pipe()
		defer two.Close()
		c := newConn(one)
		if err := c.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := io.WriteString(c, strings.Repeat("x", 1<<20))
		if took := time.Since(began); err == nil || took > 2*silence {
			t.Fatalf("%v after %s", err, took)
		}
		<-c.gone
	})
}

// TestDeadlines: deadlines are the user's own and do not touch the link.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, signer, _, _ := pair(t)
		line := make([]byte, 7)
		for range 3 {
			if err := node.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := node.Read(line); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
		}
		if err := node.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(signer, "answer\n") }()
		if _, err := io.ReadFull(node, line); err != nil || string(line) != "answer\n" {
			t.Fatalf("%q, %v", line, err)
		}
		node.Close()
		signer.Close()
		<-node.gone
		<-signer.gone
	})
}

func withoutEmptyLines(b []byte) []byte {
	var out []byte
	for line := range bytes.Lines(b) {
		if !bytes.Equal(line, []byte("\n")) {
			out = append(out, line...)
		}
	}
	return out
}

func TestFilter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f filter
		var in, out []byte
		for _, part := range rapid.SliceOf(rapid.SliceOf(rapid.SampledFrom([]byte("\n\r{x")))).Draw(t, "parts") {
			in = append(in, part...)
			out = append(out, f.strip(part)...)
		}
		if want := withoutEmptyLines(in); !bytes.Equal(out, want) {
			t.Fatalf("%q became %q, want %q", in, out, want)
		}
	})
}

// FuzzFilter: the empty lines go and nothing else, however the bytes arrive.
func FuzzFilter(f *testing.F) {
	f.Add([]byte("{\"id\":1}\n\n\n{}\n"), uint8(3))
	f.Add([]byte("\n\n\nx\n"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var lines filter
		var out []byte
		for rest := bytes.Clone(in); len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			out = append(out, lines.strip(rest[:n])...)
			rest = rest[n:]
		}
		if want := withoutEmptyLines(in); !bytes.Equal(out, want) {
			t.Fatalf("%q became %q, want %q", in, out, want)
		}
	})
}

// FuzzIdentity: whatever a file holds, it is an Ed25519 key or none.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		id, err := parseIdentity(in)
		if err != nil {
			return
		}
		if p, err := ParsePin(id.Pin().String()); err != nil || p != id.Pin() {
			t.Fatal(p, err)
		}
	})
}

// TestIdentityGolden: the example key of RFC 8410, section 10.3, and its pin.
func TestIdentityGolden(t *testing.T) {
	id, err := parseIdentity([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n"))
	if err != nil {
		t.Fatal(err)
	}
	// Its public key is the one of section 10.1.
	if got, want := id.Pin().String(), "ed25519:19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"; got != want {
		t.Fatalf("pin %s, want %s", got, want)
	}
}
