//go:build unix

package server

import (
	"net"
	"syscall"
)

// direct writes to a TCP socket without ever waiting: most of what a server
// says fits into the socket's buffer, and needs no goroutine then. The zero
// value, for connections of another kind, writes nothing.
type direct struct {
	raw  syscall.RawConn
	call func(fd uintptr) // made once, as a closure for each write would be garbage
	data []byte
	n    int
}

func newDirect(conn net.Conn) *direct {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.call = func(fd uintptr) {
		n, err := syscall.Write(int(fd), d.data)
		for err == syscall.EINTR {
			n, err = syscall.Write(int(fd), d.data)
		}
		d.n = max(n, 0) // an error comes again from the write that waits
	}
	return d
}

// write returns how many bytes the socket took at once. Control, unlike the
// connection's own Write, knows no deadline and no lock: the caller lets nobody
// else write.
func (d *direct) write(b []byte) int {
	if d == nil {
		return 0
	}
	d.data, d.n = b, 0
	if d.raw.Control(d.call) != nil {
		d.n = 0
	}
	d.data = nil
	return d.n
}
