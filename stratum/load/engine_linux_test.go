package load

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSources: on loopback the local address changes before its ports run out;
// elsewhere the system chooses.
func TestSources(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	s := newSources(loopback, MaxConnections)
	if s.each < 1 {
		t.Fatal("one address has ports for all")
	}
	for n, want := range map[int][4]byte{0: {127, 0, 0, 1}, s.each - 1: {127, 0, 0, 1}, s.each: {127, 0, 0, 2}, 2*s.each + 1: {127, 0, 0, 3}} {
		if a, ok := s.of(n).(*unix.SockaddrInet4); !ok || a.Addr != want || a.Port != 0 {
			t.Errorf("connection %d comes from %v, want %v", n, a, want)
		}
	}
	for _, s := range []*sources{newSources(loopback, s.each), newSources(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, MaxConnections)} {
		if s.of(5) != nil {
			t.Errorf("%+v binds", s)
		}
	}
}

// TestQueued finds what waits for a client that does not read.
func TestQueued(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_ = client.(*net.TCPConn).SetReadBuffer(deafBuffer)
		pool, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		// More than both buffers hold, or as much of it as fits.
		_ = pool.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = pool.Write(make([]byte, 16<<20))
		mine := client.LocalAddr().(*net.TCPAddr).AddrPort()
		port := ln.Addr().(*net.TCPAddr).Port
		got := queuedFor(port, map[netip.AddrPort]bool{mine: true, netip.AddrPortFrom(mine.Addr(), 1): true})
		if len(got) != 1 || got[0] == 0 {
			t.Errorf("%s: queued %v", listen, got)
		}
		if got := queuedFor(port+1, map[netip.AddrPort]bool{mine: true}); len(got) != 0 {
			t.Errorf("%s: another port's queue counts: %v", listen, got)
		}
	}
}

// TestReceiver: the kernel says when bytes arrived, and that is no guess.
func TestReceiver(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	pool, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	raw, err := client.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { stampArrivals(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	r := newReceiver()
	for range 100_000 { // the kernel begins to stamp some time after it is asked
		before := clock()
		if _, err := pool.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var n int
		var stamp int64
		var failed error
		if err := raw.Read(func(fd uintptr) bool {
			n, stamp, failed = r.read(int(fd))
			return failed != unix.EAGAIN
		}); err != nil || failed != nil || string(r.buf[:n]) != "hello" {
			t.Fatalf("%q, %v, %v", r.buf[:n], err, failed)
		}
		if stamp == 0 {
			continue
		}
		if after := clock(); stamp < before || stamp > after {
			t.Errorf("arrived at %d, not between %d and %d", stamp, before, after)
		}
		return
	}
	t.Error("the kernel does not stamp")
}

func TestReadProcess(t *testing.T) {
	cpu, rss, err := readProcess(os.Getpid())
	if err != nil || rss < 1<<20 || rss > 1<<40 || cpu < 0 || cpu > 24*time.Hour {
		t.Errorf("%v, %d bytes, %v", cpu, rss, err)
	}
	if _, _, err := readProcess(1 << 30); err == nil {
		t.Error("a process that cannot be")
	}
}
