package load

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// probeEvery is how often connections that stopped reading are asked whether
// they still stand.
const probeEvery = int64(time.Second)

const reasonClosed = "closed by the pool"

// reasonOf says in a word or two why a socket failed.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return reasonClosed
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused, nothing listens there"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset by the pool"
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no local port is free"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many open files"
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return excerpt([]byte(err.Error()))
}
