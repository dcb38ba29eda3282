package load

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver reads sockets together with the time at which the kernel got the
// bytes. What this tool stamped itself would contain its own work on the
// connections before: at ten thousand, as much as the pool's. Source: socket(7)
// and the kernel's Documentation/networking/timestamping.rst, SO_TIMESTAMPNS.
type receiver struct {
	buf     []byte
	control [64]byte
	iov     unix.Iovec
	msg     unix.Msghdr
}

func newReceiver() *receiver {
	r := &receiver{buf: make([]byte, 64<<10)}
	r.iov.Base = &r.buf[0]
	r.iov.SetLen(len(r.buf))
	return r
}

// stampArrivals asks the kernel for the times. Without them the tool's own count.
func stampArrivals(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
}

// read reads what is there into r.buf. stamp is when the last of it arrived, in
// Unix nanoseconds, or 0 if the kernel did not say.
func (r *receiver) read(fd int) (n int, stamp int64, err error) {
	r.msg = unix.Msghdr{Iov: &r.iov, Control: &r.control[0]}
	r.msg.SetIovlen(1)
	r.msg.SetControllen(len(r.control))
	got, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msg)), 0)
	if errno != 0 {
		return 0, 0, errno
	}
	// A control message is its header (length, level, type), then a timespec.
	const header, timespec = unix.SizeofCmsghdr, int(unsafe.Sizeof(unix.Timespec{}))
	if int(r.msg.Controllen) >= header+timespec {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&r.control[0]))
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && timespec == 16 {
			stamp = int64(binary.NativeEndian.Uint64(r.control[header:]))*1e9 +
				int64(binary.NativeEndian.Uint64(r.control[header+8:]))
		}
	}
	return int(got), stamp, nil
}
