package server

import (
	"net"
	"syscall"
	"time"
)

// sendBuffer bounds what the kernel keeps for a client that does not read, in
// bytes; with its bookkeeping it takes twice that. By itself a queue grows to
// megabytes. A job has one or two kilobytes.
const sendBuffer = 24 << 10

// halfOpen makes the kernel end a TCP connection whose peer has not confirmed, or
// not taken, what was sent for so long, and bounds what waits for it meanwhile.
// Otherwise a miner that lost its power is only missed after a quarter of an hour.
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
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(after.Milliseconds()))
	})
}
