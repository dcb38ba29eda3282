package server

import (
	"net"
	"syscall"
	"testing"
)

// A dead peer is found out by the kernel; that it is told so is all that can be
// seen without a network that loses packets.
func TestHalfOpenConnectionsEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	there, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	halfOpen(wrapped{here}, 2*60*1e9)
	raw, err := here.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if ms, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x12); ms != 120_000 || err != nil {
			t.Errorf("TCP_USER_TIMEOUT is %d ms, %v", ms, err)
		}
		if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF); n != 2*sendBuffer || err != nil {
			t.Errorf("SO_SNDBUF is %d, %v", n, err)
		}
	}); err != nil {
		t.Error(err)
	}
}

// wrapped is a connection as TLS and WebSocket wrap it.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }
