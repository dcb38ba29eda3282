package port

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"pgregory.net/rapid"
)

// upgrade is the request of RFC 6455, section 1.3, with more header lines.
func upgrade(more string) string {
	return "GET /stratum HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n" + more + "\r\n"
}

// frame writes one masked frame by the book, RFC 6455, section 5.2, for its own
// sake: nothing of the library that reads it.
func frame(t testing.TB, opcode byte, final bool, payload string) string {
	t.Helper()
	head := []byte{opcode, 0x80}
	if final {
		head[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		head[1] |= byte(n)
	case n < 1<<16:
		head[1] |= 126
		head = binary.BigEndian.AppendUint16(head, uint16(n))
	default:
		head[1] |= 127
		head = binary.BigEndian.AppendUint64(head, uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	head = append(head, mask[:]...)
	for i := range len(payload) {
		head = append(head, payload[i]^mask[i%4])
	}
	return string(head)
}

// accepted is the answer to upgrade; the key is that of the RFC's example.
const accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

func TestMessagesAreLines(t *testing.T) {
	for name, c := range map[string]struct {
		frames string
		lines  string
		answer string
		err    error
	}{
		"one line":          {frame(t, 1, true, "a\n"), "a\n", "", io.ErrUnexpectedEOF},
		"without end":       {frame(t, 1, true, "a") + frame(t, 1, true, "b"), "a\nb\n", "", io.ErrUnexpectedEOF},
		"two in one":        {frame(t, 1, true, "a\nb"), "a\nb\n", "", io.ErrUnexpectedEOF},
		"binary":            {frame(t, 2, true, "a"), "a\n", "", io.ErrUnexpectedEOF},
		"empty":             {frame(t, 1, true, "") + frame(t, 1, true, "a"), "a\n", "", io.ErrUnexpectedEOF},
		"in pieces":         {frame(t, 1, false, "a") + frame(t, 9, true, "x") + frame(t, 0, true, "b"), "ab\n", "\x8a\x01x", io.ErrUnexpectedEOF},
		"cut in a piece":    {frame(t, 1, false, "a"), "a", "", io.ErrUnexpectedEOF},
		"cut in a frame":    {frame(t, 1, true, "abc")[:7], "a", "", io.ErrUnexpectedEOF},
		"of 200 bytes":      {frame(t, 1, true, strings.Repeat("x", 200)), strings.Repeat("x", 200) + "\n", "", io.ErrUnexpectedEOF},
		"as long as may be": {frame(t, 1, true, strings.Repeat("x", 1000)), strings.Repeat("x", 1000) + "\n", "", io.ErrUnexpectedEOF},
		"too long":          {frame(t, 1, true, strings.Repeat("x", 1001)), "", "\x88\x02\x03\xf1", websocket.ErrReadLimit},
		"too long in all":   {frame(t, 1, false, strings.Repeat("x", 600)) + frame(t, 0, true, strings.Repeat("x", 600)), strings.Repeat("x", 600), "\x88\x02\x03\xf1", websocket.ErrReadLimit},
		"goodbye":           {frame(t, 1, true, "a") + frame(t, 8, true, "\x03\xe8bye"), "a\n", "\x88\x02\x03\xe8", nil},
		"goodbye, no code":  {frame(t, 8, true, ""), "", "\x88\x00", nil},
		"page left":         {frame(t, 8, true, "\x03\xe9"), "", "\x88\x02\x03\xe9", nil},
	} {
		got := run(cut(upgrade("") + c.frames))
		if got.opened != nil || got.kind != WebSocket || got.input != c.lines || !errors.Is(got.read, c.err) || got.output != accepted+c.answer {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, frames := range map[string]string{
		"not masked": "\x81\x01a", "reserved bits": "\xc1\x81\x00\x00\x00\x00a", "unknown opcode": frame(t, 3, true, ""),
		"continues nothing": frame(t, 0, true, "a"), "long ping": frame(t, 9, true, strings.Repeat("x", 126)),
		"ping in pieces": frame(t, 9, false, "x"), "half a message, then another": frame(t, 1, false, "") + frame(t, 1, true, "a"),
	} {
		got := run(cut(upgrade("") + frames))
		if got.opened != nil || got.read == nil || !strings.HasPrefix(got.output, accepted+"\x88") || got.output[len(accepted)+2:len(accepted)+4] != "\x03\xea" {
			t.Errorf("%s: %+v; want it closed with code 1002", name, got)
		}
	}
}

// TestLinesAreMessages: each line written goes out as one text message, also
// when it is written in pieces or with others.
func TestLinesAreMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var want []string
		for i := range rapid.IntRange(1, 8).Draw(t, "lines") {
			line := fmt.Sprintf("%d%s\n", i, strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 123, 124, 2000, 3000, 9000, 70_000}).Draw(t, "length")))
			text.WriteString(line)
			want = append(want, line)
		}
		s := cut(upgrade(""))
		o, err := Open(s, Config{})
		if err != nil {
			t.Fatal(err)
		}
		c := o.Conn
		s.written.Reset()
		for rest := text.String(); rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if k, err := io.WriteString(c, rest[:n]); k != n || err != nil {
				t.Fatalf("%d of %d, %v", k, n, err)
			}
			rest = rest[n:]
		}
		messages, types := decode(t, s.written.Bytes())
		if len(messages) != len(want) {
			t.Fatalf("%d messages of %d lines", len(messages), len(want))
		}
		for i := range want {
			if messages[i] != want[i] || types[i] != 1 {
				t.Fatalf("line %d: a message of type %d with %d bytes, want %d", i, types[i], len(messages[i]), len(want[i]))
			}
		}
	})
}

// decode reads frames of a server by the book.
func decode(t *rapid.T, b []byte) (messages []string, types []byte) {
	open := false
	for len(b) > 0 {
		opcode, final, n, head := b[0]&15, b[0]&0x80 != 0, int(b[1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		switch {
		case b[0]&0x70 != 0 || b[1]&0x80 != 0 || open != (opcode == 0):
			t.Fatalf("frame % x", b[:head])
		case opcode == 0:
			messages[len(messages)-1] += string(b[head : head+n])
		default:
			messages, types = append(messages, string(b[head:head+n])), append(types, opcode)
		}
		open = !final
		b = b[head+n:]
	}
	return messages, types
}

// TestGorillaClient talks to the library's client, in the plain and inside TLS.
func TestGorillaClient(t *testing.T) {
	for want, cfg := range map[Kind]Config{WebSocket: {}, TLSWebSocket: {TLS: testCertificate(t).TLS()}} {
		client, server := dial(t, cfg)
		dialer := websocket.Dialer{
			NetDial:         func(string, string) (net.Conn, error) { return client, nil },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			WriteBufferSize: 20, // many frames a message
		}
		url := map[Kind]string{WebSocket: "ws://host:3333/", TLSWebSocket: "wss://host:3333/"}[want]
		ws, resp, err := dialer.Dial(url, http.Header{"Origin": {"https://elsewhere.example"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		c := <-server
		if c.err != nil || c.Kind != want {
			t.Fatalf("%v, %v", c.Kind, c.err)
		}
		pong, ended := "", make(chan error, 1)
		go func() { // an echo, up to the goodbye
			in := bufio.NewReader(c)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					ended <- err
					return
				}
				_, _ = io.WriteString(c, line)
			}
		}()
		ws.SetPongHandler(func(s string) error {
			pong = s
			go func() {
				_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), time.Now().Add(time.Minute))
			}()
			return nil
		})
		lines := []string{`{"id":1}`, strings.Repeat("x", 5000), "end\n"}
		go func() {
			for _, line := range lines {
				_ = ws.WriteMessage(websocket.TextMessage, []byte(line))
			}
			_ = ws.WriteControl(websocket.PingMessage, []byte("there?"), time.Now().Add(time.Minute))
		}()
		for _, line := range lines {
			kind, got, err := ws.ReadMessage()
			if err != nil || kind != websocket.TextMessage || strings.TrimSuffix(string(got), "\n") != strings.TrimSuffix(line, "\n") {
				t.Fatalf("%q came back as %q, %d, %v", line, got, kind, err)
			}
		}
		if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) || pong != "there?" {
			t.Errorf("pong %q, goodbye %v", pong, err)
		}
		if err := <-ended; err != io.EOF {
			t.Errorf("the stream ended with %v", err)
		}
	}
}

// TestHangUp: who is hung up on hears the last words, then a goodbye.
func TestHangUp(t *testing.T) {
	client, server := dial(t, Config{})
	go func() { _, _ = io.WriteString(client, upgrade("")) }()
	_, _ = io.ReadFull(client, make([]byte, len(accepted)))
	c := <-server
	go func() {
		_, _ = io.WriteString(c, "last\n")
		HangUp(c.Conn, time.Second)
	}()
	if text, err := io.ReadAll(client); err != nil || string(text) != "\x81\x05last\n\x88\x02\x03\xe8" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestWebSocketDeadlines: those of the caller count, and say what they say on
// any other connection.
func TestWebSocketDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := dial(t, Config{})
		_, _ = io.WriteString(client, upgrade(""))
		_, _ = io.ReadFull(client, make([]byte, len(accepted)))
		c := <-server
		start := time.Now()
		_ = c.SetReadDeadline(start.Add(2 * time.Minute))
		for range 2000 { // gorilla panics at 1000 reads after an error
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 2*time.Minute {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		for range 2 { // nobody reads
			if _, err := c.Write([]byte("line\n")); !errors.Is(err, os.ErrDeadlineExceeded) && !strings.Contains(fmt.Sprint(err), "timeout") {
				t.Errorf("write: %v", err)
			}
		}
		if waited := time.Since(start); waited != 2*time.Minute+time.Second {
			t.Errorf("gave up after %v", waited)
		}
	})
}

// TestPingsOfTheDeaf: a client that pings and takes no answer is still read;
// who writes to it next finds the connection broken.
func TestPingsOfTheDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := dial(t, Config{})
		_, _ = io.WriteString(client, upgrade(""))
		_, _ = io.ReadFull(client, make([]byte, len(accepted)))
		c := <-server
		start := time.Now()
		go func() { _, _ = io.WriteString(client, frame(t, 9, true, "x")+frame(t, 1, true, "a")) }()
		line := make([]byte, 2)
		if _, err := io.ReadFull(c, line); err != nil || string(line) != "a\n" || time.Since(start) != pongTimeout {
			t.Errorf("%q, %v after %v", line, err, time.Since(start))
		}
		if n, err := c.Write([]byte("line\n")); err == nil {
			t.Errorf("wrote %d bytes behind a broken pong", n)
		}
	})
}

func TestHTTPAnswers(t *testing.T) {
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                               "200 OK",
		"GET /health HTTP/1.0\r\n\r\n":                                    "200 OK",
		"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n":                              "200 OK",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}":       "405 Method Not Allowed",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                           "405 Method Not Allowed",
		"GET /\r\n":                                                       "400 Bad Request",
		"GET / HTTP/1.1\r\nno header\r\n\r\n":                             "400 Bad Request",
		"GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 3000) + "\r\n":  "431 Request Header Fields Too Large",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 1<<20):              "431 Request Header Fields Too Large",
		strings.Replace(upgrade(""), "Version: 13", "Version: 8", 1):      "426 Upgrade Required",
		strings.Replace(upgrade(""), "dGhlIHNhbXBsZSBub25jZQ==", "aa", 1): "400 Bad Request",
		strings.Replace(upgrade(""), "GET", "POST", 1):                    "405 Method Not Allowed",
	} {
		got := run(cut(request))
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got.output)), &http.Request{Method: strings.Fields(request)[0]})
		if err != nil || !errors.Is(got.opened, ErrHTTP) {
			t.Errorf("%.60q: %v, %v", request, got.opened, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if r.Status != want || err != nil || !r.Close || (len(body) > 0) == (r.Request.Method == "HEAD") || len(body) > 0 && !bytes.Contains(body, []byte("stratum+tcp://")) {
			t.Errorf("%.60q: %s, %v, %q", request, r.Status, err, body)
		}
		if r.StatusCode == http.StatusUpgradeRequired && r.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("no version offered: %v", r.Header)
		}
		if r.StatusCode == http.StatusMethodNotAllowed && !strings.HasPrefix(request, "POST /stratum") && r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("no method offered: %v", r.Header)
		}
	}
}

// FuzzWebSocket: whatever frames come, the same lines come out however they
// were cut, and no more than was sent.
func FuzzWebSocket(f *testing.F) {
	f.Add(frame(f, 1, true, "a\nb"), uint8(3))
	f.Add(frame(f, 1, false, "a")+frame(f, 9, true, "x")+frame(f, 0, true, "b")+frame(f, 8, true, "\x03\xe8"), uint8(8))
	f.Add(frame(f, 2, true, strings.Repeat("x", 300))+frame(f, 1, true, ""), uint8(200))
	f.Add("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00a", uint8(2))
	f.Fuzz(func(t *testing.T, frames string, n uint8) {
		head := upgrade("")
		whole, got := run(cut(head+frames)), run(cut(head+frames, len(head), len(head)+min(int(n), len(frames))))
		if whole.opened != nil || !got.equal(whole) {
			t.Fatalf("cut at %d:\n%+v\nwhole:\n%+v", n, got, whole)
		}
		if len(whole.input) > len(frames) {
			t.Fatalf("%d bytes of frames became %d", len(frames), len(whole.input))
		}
	})
}
