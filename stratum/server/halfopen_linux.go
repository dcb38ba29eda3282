package server

import (
	"net"
	"syscall"
	"time"
)

// halfOpen makes the kernel end a TCP connection whose peer has not confirmed
// what was sent for so long. Otherwise a miner that lost its power is only
// missed after a quarter of an hour.
func halfOpen(conn net.Conn, after time.Duration) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	const tcpUserTimeout = 0x12 // linux/tcp.h; package syscall lacks it
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(after.Milliseconds()))
	})
}
