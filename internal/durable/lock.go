package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DirLock is the exclusive right to a data directory. It is a bare file
// descriptor because an *os.File that nobody refers to any more is closed by
// the garbage collector, and its lock with it.
type DirLock struct{ fd int }

// LockDir takes the exclusive right to dir, which must exist, by locking its
// file LOCK and writing our process id into it. The error wraps ErrInUse and
// names the owner when somebody else has it. The right ends with Unlock or
// with the process, however that ends; the file stays.
func LockDir(dir string) (*DirLock, error) {
	fd, err := syscall.Open(filepath.Join(dir, "LOCK"), syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, explain(err))
	}
	if err := flock(fd); err != nil {
		if errors.Is(err, ErrInUse) {
			err = fmt.Errorf("%w%s: stop it first, or choose another directory", err, owner(fd))
		}
		return nil, fmt.Errorf("locking %s: %w", dir, errors.Join(err, syscall.Close(fd)))
	}
	if err := writePID(fd); err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, errors.Join(explain(err), syscall.Close(fd)))
	}
	return &DirLock{fd}, nil
}

// owner reads the process id that the lock's holder wrote, if it got that far.
func owner(fd int) string {
	b := make([]byte, 20)
	n, err := syscall.Pread(fd, b, 0)
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func writePID(fd int) error {
	if err := syscall.Ftruncate(fd, 0); err != nil {
		return err
	}
	_, err := syscall.Pwrite(fd, []byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Unlock gives the directory back. It is called once.
func (l *DirLock) Unlock() error {
	// An empty file names nobody: the next owner's rival must not be told ours.
	return errors.Join(syscall.Ftruncate(l.fd, 0), syscall.Close(l.fd))
}

// lockGrace is how long a lock may be held by nobody in particular: a process
// killed between fork and exec leaves a child that has its descriptors, and so
// its locks, until the exec closes them. On a loaded machine that takes a while.
const lockGrace = time.Second

// flock takes flock(2), which belongs to the open file: the kernel drops it
// when the process dies, so that a forgotten lock never blocks a restart.
func flock(fd int) error {
	for deadline := time.Now().Add(lockGrace); ; {
		err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("flock: %w", err)
		case time.Now().After(deadline):
			return ErrInUse
		default:
			time.Sleep(lockGrace / 100)
		}
	}
}
