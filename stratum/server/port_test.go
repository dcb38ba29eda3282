package server

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/port"
)

// secureConfig serves TLS with a certificate made for the test.
func secureConfig(t *testing.T) Config {
	t.Helper()
	file, err := port.SelfSigned(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := port.LoadCertificate(file, file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg := easyConfig()
	cfg.TLS = cert.TLS()
	return cfg
}

// messages is a WebSocket client as a stream of lines, a message each.
type messages struct {
	*websocket.Conn
	rest []byte
}

func (m *messages) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		_, b, err := m.ReadMessage()
		if err != nil {
			return 0, err
		}
		m.rest = b
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func (m *messages) Write(p []byte) (int, error) {
	return len(p), m.WriteMessage(websocket.TextMessage, p)
}

func (m *messages) SetDeadline(t time.Time) error { return nil }

// reach connects over a transport to what dial reaches.
func reach(t *testing.T, transport string, dial func() net.Conn) net.Conn {
	t.Helper()
	insecure := &tls.Config{InsecureSkipVerify: true}
	switch transport {
	case "tls":
		return tls.Client(dial(), insecure)
	case "websocket", "tls+websocket":
		d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return dial(), nil }, TLSClientConfig: insecure}
		url := "ws://pool:3333/"
		if transport != "websocket" {
			url = "wss://pool:3333/"
		}
		ws, resp, err := d.Dial(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return &messages{Conn: ws}
	}
	return dial()
}

// TestTransports mines over each of them.
func TestTransports(t *testing.T) {
	ln := listen(t)
	books := pool.New(time.Now(), pool.Config{})
	r := beginWith(t, secureConfig(t), ln, books, nil, nil)
	defer r.stop()
	r.publish(1, hard)
	for _, transport := range []string{"plain", "tls", "websocket", "tls+websocket"} {
		c := r.clientOn(reach(t, transport, func() net.Conn { return dialSocket(t, ln.Addr().String()) }))
		c.login("x")
		if m := c.call("mining.submit", c.valid(c.job).params()); string(m.Result) != "true" {
			t.Errorf("%s: %s", transport, m.Error)
		}
		found := ""
		for _, s := range r.srv.Stats().Sessions {
			if s.Extranonce1 == c.e1 {
				found = s.Transport
			}
		}
		if found != transport {
			t.Errorf("a session over %s is listed as %q", transport, found)
		}
		_ = c.conn.Close()
	}
}

// TestTransportsHandOver: what is encrypted or framed stays behind, and
// resumes; what had not said what it speaks is asked by the next server.
func TestTransportsHandOver(t *testing.T) {
	ln := listen(t)
	address := ln.Addr().String()
	books := pool.New(time.Now(), pool.Config{})
	cfg := secureConfig(t)
	r := beginWith(t, cfg, ln, books, nil, nil)
	r.publish(1, hard)
	secure := r.clientOn(reach(t, "tls", func() net.Conn { return dialSocket(t, address) }))
	framed := r.clientOn(reach(t, "websocket", func() net.Conn { return dialSocket(t, address) }))
	secure.login("x")
	framed.login("x")
	silent, plain := dialSocket(t, address), dialSocket(t, address)
	_, _ = io.WriteString(plain, `{"id"`)
	for r.srv.Stats().Connections != 4 { // accepted
		runtime.Gosched()
	}
	h, err := r.srv.HandOver()
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	for _, c := range []*client{secure, framed} {
		for range c.lines { // ends: closed
		}
	}
	if len(h.FDs) != 3 {
		t.Fatalf("%d sockets were handed over, want the listener and two", len(h.FDs))
	}
	again, err := ListenerOf(h.FDs[0])
	if err != nil {
		t.Fatal(err)
	}
	r = beginWith(t, cfg, again, books, r, h)
	defer r.stop()
	back := r.clientOn(reach(t, "tls", func() net.Conn { return dialSocket(t, address) }))
	back.subscribe(`["test/1","` + secure.e1 + `"]`)
	if back.e1 != secure.e1 {
		t.Errorf("came back as %s, was %s", back.e1, secure.e1)
	}
	_, _ = io.WriteString(plain, `:7,"method":"mining.ping"}`+"\n")
	var m message
	if err := json.NewDecoder(plain).Decode(&m); err != nil || string(m.Result) != `"pong"` || string(m.ID) != "7" {
		t.Errorf("%+v, %v", m, err)
	}
	late := tls.Client(silent, &tls.Config{InsecureSkipVerify: true})
	_, _ = io.WriteString(late, `{"id":8,"method":"mining.ping"}`+"\n")
	if err := json.NewDecoder(late).Decode(&m); err != nil || string(m.ID) != "8" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestRefusedKinds: who is turned away is told what can be told, in its time.
func TestRefusedKinds(t *testing.T) {
	for name, c := range map[string]struct {
		send, says string
		after      time.Duration
	}{
		"Stratum V2":         {strings.Repeat("\xa5", 64), "", 0},
		"TLS":                {"\x16\x03\x01", "", 0},
		"half a TLS hello":   {"\x16", "", 30 * time.Second},
		"half an HTTP head":  {"GET / HTTP/1.1\r\n", "", 30 * time.Second},
		"half a method":      {"GE", "no mining.subscribe within 30s", 30 * time.Second},
		"WebSocket, then no": {wsRequest, "no mining.subscribe within 30s", 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				start := time.Now()
				conn := r.dial()
				go func() { _, _ = io.WriteString(conn, c.send) }()
				text, err := io.ReadAll(conn)
				if err != nil || !strings.Contains(string(text), c.says) || c.says == "" && len(text) > 0 || time.Since(start) != c.after {
					t.Errorf("after %v: %q, %v", time.Since(start), text, err)
				}
			})
		})
	}
}

const wsRequest = "GET / HTTP/1.1\r\nHost: pool\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
