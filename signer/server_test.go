package signer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
)

func TestSocket(t *testing.T) { overBoth(t, testSocket) }

func testSocket(t *testing.T, b *bench) {
	d, stop := b.daemon(t, nil)
	ctx := patience(t)
	c := newTestClient(t, d, b.network.ID)

	p := b.proposal(testSlot, 0, 1)
	r, err := c.SignSlot(ctx, NewRequest(p))
	if err != nil {
		t.Fatal(err)
	}
	b.checkSignature(t, p, r)
	record, ok, err := c.SlotRecord(ctx, testSlot)
	if err != nil || !ok || record.State != Sealed || !bytes.Equal(record.Signature, r.Signature) || record.Block != p.Header.ID() {
		t.Fatalf("record %+v, %v, %v", record, ok, err)
	}
	if _, ok, err := c.SlotRecord(ctx, 77); ok || err != nil {
		t.Fatalf("record of nothing: %v, %v", ok, err)
	}

	e := b.voting()
	v := e.ballot(e.at(0, 0), testSlot, 3, 1)
	for repeated := range 2 {
		vote, err := c.Attest(ctx, NewVoteRequest(v))
		if err != nil || vote.Repeated != (repeated == 1) {
			t.Fatalf("vote %+v, %v", vote, err)
		}
		e.checkVote(t, v, vote)
	}
	_, err = c.Attest(ctx, NewVoteRequest(e.ballot(e.at(0, 0), testSlot, 3, 2)))
	wantRule(t, err, Rule(consensus.RuleVoteTarget))

	// A refusal keeps its rule and its connection.
	conn := c.conn
	_, err = c.SignSlot(ctx, NewRequest(b.proposal(testSlot, 0, 2)))
	wantRule(t, err, RuleDoubleSign)
	if !errors.Is(err, RuleDoubleSign) || err.Error() == "" {
		t.Fatal("the rule is not found with errors.Is")
	}
	st, err := c.Status(ctx)
	if err != nil || st.Network != b.network.ID || st.Signed != 2 || st.Refusals[RuleDoubleSign] != 1 || st.Keys[3].LastVote != testSlot || len(st.Keys) != 5 || st.Journal.LastSigned != testSlot {
		t.Fatalf("status %+v, %v", st, err)
	}
	if c.conn != conn {
		t.Fatal("the refusal cost the connection")
	}

	if d.socket != "" {
		info, err := os.Stat(d.socket)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("socket: %v, %v", info.Mode(), err)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.socket); d.socket != "" && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket file stayed: %v", err)
	}
}

func TestErrorsCrossTheWire(t *testing.T) { overBoth(t, testErrorsCrossTheWire) }

func testErrorsCrossTheWire(t *testing.T, b *bench) {
	d, _ := b.daemon(t, nil)
	c := newTestClient(t, d, b.network.ID)
	ctx := patience(t)
	b.token.before = func() error { return errors.New("cable pulled") }
	if _, err := c.SignSlot(ctx, NewRequest(b.proposal(testSlot, 0, 1))); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "cable pulled") {
		t.Fatalf("got %v", err)
	}
	b.token.before, b.token.after = nil, func(s [64]byte) [64]byte { return [64]byte{1} }
	if _, err := c.SignSlot(ctx, NewRequest(b.proposal(testSlot, 0, 1))); !errors.Is(err, ErrInternal) {
		t.Fatalf("got %v", err)
	}
}

func TestWrongNetwork(t *testing.T) { overBoth(t, testWrongNetwork) }

func testWrongNetwork(t *testing.T, b *bench) {
	d, _ := b.daemon(t, nil)
	other := testNetwork(t, "another", publics(b.keys))
	_, err := newTestClient(t, d, other.ID).Status(patience(t))
	if !errors.Is(err, ErrWrongNetwork) || !strings.Contains(err.Error(), other.ID.String()) {
		t.Fatalf("got %v", err)
	}
}

// rawDial opens a bare connection, past hello if greet.
func rawDial(t *testing.T, b *bench, d door, greet bool) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := d.dial(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	if greet {
		if err := writeLine(conn, map[string]any{"id": 1, "method": "hello", "params": wireHello{wireVersion, b.network.ID}}); err != nil {
			t.Fatal(err)
		}
		if resp := rawRead(t, r); resp.Error != nil {
			t.Fatal(resp.Error)
		}
	}
	return conn, r
}

func rawRead(t *testing.T, r *bufio.Reader) (resp wireResponse) {
	t.Helper()
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestGarbage(t *testing.T) { overBoth(t, testGarbage) }

func testGarbage(t *testing.T, b *bench) {
	d, _ := b.daemon(t, nil)
	net10 := b.network.ID.String()
	for _, c := range []struct {
		name, line, kind string
		greet, stays     bool
	}{
		{"no JSON", "hello there", "bad-request", false, false},
		{"no JSON later", "\x00\xff", "bad-request", true, false},
		{"empty line", "", "bad-request", true, false},
		{"two values", `{"id":1,"method":"status"} {}`, "bad-request", true, false},
		{"unknown field", `{"id":1,"method":"status","digest":"00"}`, "bad-request", true, false},
		{"no hello", `{"id":1,"method":"status"}`, "bad-request", false, false},
		{"hello without parameters", `{"id":1,"method":"hello"}`, "bad-request", false, false},
		{"another version", `{"id":1,"method":"hello","params":{"version":1,"network":"` + net10 + `"}}`, "protocol-version", false, false},
		{"too long", strings.Repeat("x", maxLine+1), "bad-request", true, false},
		{"unknown method", `{"id":9,"method":"sign_digest"}`, "bad-request", true, true},
		{"parameters of another method", `{"id":9,"method":"sign_slot","params":{"digest":"00"}}`, "bad-request", true, true},
		{"hex that is none", `{"id":9,"method":"sign_slot","params":{"header":"zz"}}`, "bad-request", true, true},
		{"number out of range", `{"id":9,"method":"sign_slot","params":{"index":256}}`, "bad-request", true, true},
		{"height out of range", `{"id":9,"method":"slot_record","params":{"height":-1}}`, "bad-request", true, true},
		{"vote of another method", `{"id":9,"method":"attest","params":{"digest":"00"}}`, "bad-request", true, true},
		{"key that is none", `{"id":9,"method":"attest","params":{"sets":[{"keys":["p256:00"]}]}}`, "bad-request", true, true},
		{"nothing to vote for", `{"id":9,"method":"attest","params":{}}`, "refused", true, true},
		{"nothing to sign", `{"id":9,"method":"sign_slot","params":{}}`, "refused", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.line == "" && b.link != nil {
				return // an empty line is a link's pulse
			}
			conn, r := rawDial(t, b, d, c.greet)
			// The server may turn us away before it has read everything.
			if _, err := io.WriteString(conn, c.line+"\n"); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, io.ErrClosedPipe) {
				t.Fatal(err)
			}
			resp := rawRead(t, r)
			if resp.Error == nil || resp.Error.Kind != c.kind {
				t.Fatalf("answer %+v", resp)
			}
			if !c.stays {
				if _, err := r.ReadByte(); err == nil {
					t.Fatal("the connection stayed open")
				}
				return
			}
			if _, err := io.WriteString(conn, `{"id":10,"method":"status"}`+"\n"); err != nil {
				t.Fatal(err)
			}
			if resp := rawRead(t, r); resp.Error != nil || resp.ID != 10 {
				t.Fatalf("afterwards %+v", resp)
			}
		})
	}
}

func TestMessageDeadline(t *testing.T) { overBoth(t, testMessageDeadline) }

func testMessageDeadline(t *testing.T, b *bench) {
	d, _ := b.daemon(t, func(c *ServerConfig, _ *Server) { c.MessageTimeout = 50 * time.Millisecond })
	for name, c := range map[string]struct {
		greet bool
		sent  string
	}{"no hello": {}, "half a hello": {sent: `{"id":`}, "half a request": {greet: true, sent: `{"id":`}} {
		if c.sent == "" && b.link != nil {
			continue // it is kept in reserve until the node uses it
		}
		conn, r := rawDial(t, b, d, c.greet)
		if _, err := io.WriteString(conn, c.sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestReconnect ends the server under a client, which has noticed nothing, and
// starts another in its place.
func TestReconnect(t *testing.T) { overBoth(t, testReconnect) }

func testReconnect(t *testing.T, b *bench) {
	d, stop := b.daemon(t, nil)
	c := newTestClient(t, d, b.network.ID)
	p := b.proposal(testSlot, 0, 1)
	first, err := c.SignSlot(patience(t), NewRequest(p))
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	var second Response
	go func() {
		var err error
		second, err = c.SignSlot(patience(t), NewRequest(p))
		done <- err
	}()
	b.open(t, publics(b.keys))
	b.runServer(t, NewServer(ServerConfig{Socket: d.socket, Network: b.network.ID, Backend: b.service, Log: quiet()}))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !second.Repeated || !bytes.Equal(first.Signature, second.Signature) {
		t.Fatal("another signature after the restart")
	}
}

func TestClientDeadline(t *testing.T) { overBoth(t, testClientDeadline) }

func testClientDeadline(t *testing.T, b *bench) {
	// Nobody there.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	empty, why := door{socket: socketPath(t)}, os.ErrNotExist
	if b.link != nil {
		empty, why = door{dial: b.link.listener.Dials()[0]}, context.DeadlineExceeded
	}
	_, err := newTestClient(t, empty, b.network.ID).Status(ctx)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
	// Somebody there, but busy: the caller goes, the work is finished, and the
	// same client asks again and gets what was made.
	d, _ := b.daemon(t, nil)
	c := newTestClient(t, d, b.network.ID)
	entered, leave := make(chan struct{}), make(chan struct{})
	b.token.before = func() error { close(entered); <-leave; return nil }
	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	p := b.proposal(testSlot, 0, 1)
	if _, err := c.SignSlot(ctx, NewRequest(p)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(leave)
	r, err := c.SignSlot(patience(t), NewRequest(p))
	if err != nil || !r.Repeated || b.token.signed != 1 {
		t.Fatalf("%+v, %v, %d signatures", r, err, b.token.signed)
	}
}

// TestShutdownFinishesWork stops the server while the token is at work: the
// request is answered, an idle connection is closed, and Run returns.
func TestShutdownFinishesWork(t *testing.T) { overBoth(t, testShutdownFinishesWork) }

func testShutdownFinishesWork(t *testing.T, b *bench) {
	d, stop := b.daemon(t, nil)
	_, idle := rawDial(t, b, d, true)
	entered, leave := make(chan struct{}), make(chan struct{})
	b.token.before = func() error { close(entered); <-leave; return nil }
	answer := make(chan error)
	p := b.proposal(testSlot, 0, 1)
	go func() {
		_, err := newTestClient(t, d, b.network.ID).SignSlot(patience(t), NewRequest(p))
		answer <- err
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	if _, err := idle.ReadByte(); !errors.Is(err, io.EOF) {
		t.Fatalf("idle connection: %v", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a request under way: %v", err)
	default:
	}
	close(leave)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestTooManyConnections(t *testing.T) {
	b := newBench(t)
	d, _ := b.daemon(t, nil)
	for range maxConnections {
		rawDial(t, b, d, true)
	}
	_, r := rawDial(t, b, d, false)
	if resp := rawRead(t, r); resp.Error == nil || resp.Error.Kind != string(ErrUnavailable) {
		t.Fatalf("answer %+v", resp)
	}
}

func TestClosedClient(t *testing.T) {
	c := NewClient(socketPath(t), testNet)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}
