//go:build unix

package server

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dupSocket duplicates the descriptor of a TCP connection or listener. File()
// would do, but the descriptor of its result puts the shared socket into
// blocking mode.
func dupSocket(socket any) (int, error) {
	tcp, ok := socket.(interface {
		SyscallConn() (syscall.RawConn, error)
	})
	if !ok {
		return -1, fmt.Errorf("%T is not a plain socket", socket)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

func closeSocket(fd int) { _ = unix.Close(fd) }

func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "handed-over connection")
	defer f.Close()
	return net.FileConn(f)
}

func listenerOf(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "handed-over listener")
	defer f.Close()
	return net.FileListener(f)
}
