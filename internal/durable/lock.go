package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// DirLock is the exclusive right to a data directory.
type DirLock struct{ f *os.File }

// LockDir takes the exclusive right to dir, which must exist, by locking its
// file LOCK and writing our process id into it. The error wraps ErrInUse and
// names the owner when somebody else has it. The right ends with Unlock or
// with the process, however that ends; the file stays.
func LockDir(dir string) (*DirLock, error) {
	name := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, explain(err))
	}
	if err := (osFile{f}).Lock(); err != nil {
		if errors.Is(err, ErrInUse) {
			err = fmt.Errorf("%w%s: stop it first, or choose another directory", err, owner(f))
		}
		return nil, fmt.Errorf("locking %s: %w", dir, errors.Join(err, f.Close()))
	}
	l := &DirLock{f}
	if err := l.writePID(); err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, errors.Join(explain(err), f.Close()))
	}
	return l, nil
}

// owner reads the process id that the lock's holder wrote, if it got that far.
func owner(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func (l *DirLock) writePID() error {
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err := l.f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Unlock gives the directory back.
func (l *DirLock) Unlock() error {
	// An empty file names nobody: the next owner's rival must not be told ours.
	return errors.Join(l.f.Truncate(0), l.f.Close())
}
