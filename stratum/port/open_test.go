package port

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// script is a socket that delivers its chunks one a Read, then err, and keeps
// what is written.
type script struct {
	chunks  [][]byte
	err     error
	written bytes.Buffer
	closed  bool
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.chunks) == 0 {
		return 0, s.err
	}
	n := copy(p, s.chunks[0])
	if s.chunks[0] = s.chunks[0][n:]; len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.written.Write(p) }
func (s *script) Close() error                     { s.closed = true; return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// cut cuts a stream at the given places; equal places make no chunk.
func cut(stream string, at ...int) *script {
	s := &script{err: io.EOF}
	last := 0
	for _, i := range append(at, len(stream)) {
		if i > last {
			s.chunks = append(s.chunks, []byte(stream[last:i]))
			last = i
		}
	}
	return s
}

// result is all that a stream of input leads to.
type result struct {
	kind   Kind
	input  string // what the reader of lines gets
	output string // what the client gets, before the reader has said anything
	opened error
	read   error
}

// whole is the stream from its first byte.
func whole(o Opened) io.Reader { return io.MultiReader(bytes.NewReader(o.First), o.Conn) }

func run(s *script) (r result) {
	o, err := Open(s, Config{MessageLimit: 1000})
	r.kind, r.opened = o.Kind, err
	if err == nil {
		text, err := io.ReadAll(whole(o))
		r.input, r.read = string(text), err
	}
	r.output = s.written.String()
	return r
}

func (r result) equal(o result) bool {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	return r.kind == o.kind && r.input == o.input && r.output == o.output && text(r.opened) == text(o.opened) && text(r.read) == text(o.read)
}

// streams are whole conversations of the client's side.
func streams(t testing.TB) map[string]string {
	line := `{"id":1,"method":"mining.subscribe","params":["miner/1"]}` + "\n"
	return map[string]string{
		"plain":             strings.Repeat(line, 30),
		"plain without end": strings.TrimSuffix(line, "\n"),
		"short":             "hi\n",
		"nothing":           "",
		"blank lines":       "\r\n\r\n" + line,
		"noise":             strings.Repeat("\x80", 64),
		"noise like JSON":   "{" + strings.Repeat("\x80", 63),
		"a TLS hello":       "\x16\x03\x01\x00\x05hello",
		"half a TLS hello":  "\x16\x03",
		"GET":               "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET without end":   "GET / HTTP/1.1\r\nHost: x\r\n",
		"GET without head":  "GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 2000) + "\r\n",
		"no HTTP":           "GET /\r\n",
		"POST":              "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 58\r\n\r\n" + line,
		"WebSocket":         upgrade("") + frame(t, 1, true, line) + frame(t, 9, true, "ping") + frame(t, 1, true, "{}") + frame(t, 8, true, "\x03\xe8"),
	}
}

// TestEverySplit: however the network cuts a stream, the same comes out, and
// nothing is lost, doubled or moved.
func TestEverySplit(t *testing.T) {
	for name, stream := range streams(t) {
		whole := run(cut(stream))
		if whole.kind == Plain && whole.opened == nil && whole.input != stream {
			t.Fatalf("%s: %q came out as %q", name, stream, whole.input)
		}
		each := make([]int, len(stream))
		for i := range stream {
			each[i] = i
			if i > readSize+MaxFirst && i%101 != 0 {
				continue // what the kind depends on is long past
			}
			if got := run(cut(stream, i)); !got.equal(whole) {
				t.Fatalf("%s, cut at byte %d:\n%+v\nwhole:\n%+v", name, i, got, whole)
			}
		}
		if got := run(cut(stream, each...)); !got.equal(whole) {
			t.Errorf("%s, byte by byte:\n%+v\nwhole:\n%+v", name, got, whole)
		}
	}
}

func TestEverySplitOfEverything(t *testing.T) {
	all := streams(t)
	var known []string
	for name := range first {
		known = append(known, name)
	}
	for _, stream := range all {
		known = append(known, stream)
	}
	slices.Sort(known)
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.SampledFrom(known).Draw(t, "known") + string(rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "random"))
		places := rapid.SliceOfN(rapid.IntRange(0, len(stream)), 0, 20).Draw(t, "cuts")
		for i := 1; i < len(places); i++ { // ascending, as cut wants them
			places[i] = max(places[i], places[i-1])
		}
		whole, got := run(cut(stream)), run(cut(stream, places...))
		if !got.equal(whole) {
			t.Fatalf("cut at %v:\n%+v\nwhole:\n%+v", places, got, whole)
		}
		if whole.opened == nil && whole.kind == Plain && whole.input != stream {
			t.Fatalf("%q came out as %q", stream, whole.input)
		}
	})
}

// FuzzOpen is the same for whatever bytes the fuzzer finds, cut wherever it likes.
func FuzzOpen(f *testing.F) {
	for _, stream := range streams(f) {
		f.Add(stream, uint8(1), uint8(200))
	}
	f.Fuzz(func(t *testing.T, stream string, a, b uint8) {
		i, j := min(int(a), len(stream)), min(int(a)+int(b), len(stream))
		whole, got := run(cut(stream)), run(cut(stream, i, j))
		if !got.equal(whole) {
			t.Fatalf("cut at %d and %d:\n%+v\nwhole:\n%+v", i, j, got, whole)
		}
		if whole.opened == nil && whole.kind == Plain && whole.input != stream {
			t.Fatalf("%q came out as %q", stream, whole.input)
		}
	})
}

func TestWhatIsClosed(t *testing.T) {
	all := streams(t)
	for name, want := range map[string]error{
		"plain": nil, "short": nil, "nothing": nil, "WebSocket": nil,
		"noise": ErrNoise, "noise like JSON": ErrNoise, "a TLS hello": ErrNoTLS, "half a TLS hello": io.EOF,
		"GET": ErrHTTP, "GET without end": ErrHTTP, "POST": ErrHTTP,
	} {
		if got := run(cut(all[name])); !errors.Is(got.opened, want) {
			t.Errorf("%s: %v, want %v", name, got.opened, want)
		}
	}
}

// TestPlainIsTheSocket: a plain connection is not wrapped, so that it costs
// nothing and can be handed to another process.
func TestPlainIsTheSocket(t *testing.T) {
	s := cut(`{"id":1}` + "\n")
	if o, err := Open(s, Config{}); err != nil || o.Conn != net.Conn(s) {
		t.Fatalf("%v, %T", err, o.Conn)
	}
}

// TestReadBefore: what another reader took from the socket counts, also if it
// is more than is looked at.
func TestReadBefore(t *testing.T) {
	for name, stream := range streams(t) {
		want := run(cut(stream))
		for _, n := range []int{0, 1, 7, MaxFirst, 600, len(stream)} {
			n = min(n, len(stream))
			s := cut(stream[n:])
			o, err := Open(s, Config{First: []byte(stream[:n]), MessageLimit: 1000})
			if o.Kind != want.kind || fmt.Sprint(err) != fmt.Sprint(want.opened) {
				t.Fatalf("%s, %d bytes before: %v, %v", name, n, o.Kind, err)
			}
			if err == nil {
				if text, _ := io.ReadAll(whole(o)); string(text) != want.input {
					t.Fatalf("%s, %d bytes before: %q", name, n, text)
				}
			}
		}
	}
}

// opened is what Open returned in another goroutine, with its stream.
type opened struct {
	net.Conn
	Kind  Kind
	lines io.Reader
	err   error
}

func (o opened) Read(p []byte) (int, error) { return o.lines.Read(p) }

// dial opens one end of an in-memory connection within a minute and returns the other.
func dial(t *testing.T, cfg Config) (client net.Conn, server chan opened) {
	t.Helper()
	client, socket := net.Pipe()
	server = make(chan opened, 1)
	_ = socket.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		o, err := Open(socket, cfg)
		if err == nil {
			_ = socket.SetDeadline(time.Time{})
		}
		server <- opened{o.Conn, o.Kind, whole(o), err}
	}()
	t.Cleanup(func() { _ = client.Close(); _ = socket.Close() })
	return client, server
}

func TestSilence(t *testing.T) {
	secure := testCertificate(t).TLS()
	for name, c := range map[string]struct {
		says string
		kind Kind
		err  error
	}{
		"nothing":           {"", Plain, nil}, // the session says what it waited for
		"half a line":       {`{"id":1,`, Plain, nil},
		"half a word":       {"GE", Plain, nil},
		"half a request":    {"GET / HTTP/1.1\r\n", Plain, os.ErrDeadlineExceeded},
		"half a TLS record": {"\x16\x03\x01\x01\x00", Plain, os.ErrDeadlineExceeded},
		"a TLS first byte":  {"\x16", Plain, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				client, server := dial(t, Config{TLS: secure})
				if _, err := io.WriteString(client, c.says); err != nil {
					t.Fatal(err)
				}
				got := <-server
				if !errors.Is(got.err, c.err) || got.Kind != c.kind {
					t.Fatalf("%v, %v", got.Kind, got.err)
				}
				if waited := time.Since(start); waited > time.Minute {
					t.Errorf("waited %v", waited)
				}
				if c.err == nil && c.says != "" {
					text := make([]byte, len(c.says))
					if _, err := io.ReadFull(got, text); err != nil || string(text) != c.says {
						t.Errorf("the reader gets %q, %v", text, err)
					}
				}
			})
		})
	}
}

// TestAtOnce: nothing is waited for once the bytes tell, a line end least of all.
func TestAtOnce(t *testing.T) {
	for says, want := range map[string]error{`{"id":1,`: nil, "\x16\x03\x01": ErrNoTLS, "\xff": ErrNoise} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			client, server := dial(t, Config{})
			_, _ = io.WriteString(client, says)
			if got := <-server; !errors.Is(got.err, want) || time.Since(start) != 0 {
				t.Errorf("%q: %v after %v", says, got.err, time.Since(start))
			}
		})
	}
}

// choppy writes n bytes at a time.
type choppy struct {
	net.Conn
	n int
}

func (c *choppy) Write(p []byte) (int, error) {
	for written := 0; ; {
		if written == len(p) {
			return written, nil
		}
		n, err := c.Conn.Write(p[written:min(len(p), written+c.n)])
		if written += n; err != nil {
			return written, err
		}
	}
}

func testCertificate(t testing.TB) *Certificate {
	t.Helper()
	file, err := SelfSigned(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificate(file, file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTLS: Go's client, both versions, cut in several ways, with several kinds inside.
func TestTLS(t *testing.T) {
	secure := testCertificate(t).TLS()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, n := range []int{1, 2, 3, 7, 100, 1 << 20} {
			for says, want := range map[string]error{
				`{"id":1,"method":"mining.subscribe"}` + "\n": nil,
				"\xff":                     ErrNoise,
				"GET / HTTP/1.1\r\n\r\n":   ErrHTTP,
				"\x16\x03\x01\x00\x01\x01": errTLSInside,
			} {
				client, server := dial(t, Config{TLS: secure})
				conn := tls.Client(&choppy{client, n}, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
				heard := make(chan string)
				go func() {
					_, _ = io.WriteString(conn, says)
					text, _ := io.ReadAll(conn)
					heard <- string(text)
				}()
				got := <-server
				if got.Kind != TLS || !errors.Is(got.err, want) {
					t.Fatalf("%d bytes at a time, %q: %v, %v", n, says, got.Kind, got.err)
				}
				if want == nil {
					text := make([]byte, len(says))
					if _, err := io.ReadFull(got, text); err != nil || string(text) != says {
						t.Fatalf("%d bytes at a time: %q, %v", n, text, err)
					}
					_, _ = io.WriteString(got, "answer\n")
				}
				HangUp(got.Conn, time.Second)
				switch text := <-heard; {
				case want == nil && text != "answer\n",
					want == ErrHTTP && !strings.Contains(text, "stratum+ssl"):
					t.Fatalf("%q was answered %q", says, text)
				}
			}
		}
	}
}

// TestOldTLS: versions that nobody should speak any more get an alert.
func TestOldTLS(t *testing.T) {
	client, server := dial(t, Config{TLS: testCertificate(t).TLS()})
	conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := conn.Handshake(); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("the client was told %v", err)
	}
	if got := <-server; got.err == nil || !strings.Contains(got.err.Error(), "TLS handshake") {
		t.Errorf("%v", got.err)
	}
}
