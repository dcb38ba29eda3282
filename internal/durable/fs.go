// Package durable writes files that survive a power cut and a kill at any
// instant: whole-file replacement (WriteFile), a record log that answers only
// after fsync (Log), append-only record files (AppendFile) and the lock of a
// data directory (LockDir).
//
// Two rules run through it. Nothing is reported as written before fsync has
// returned, for the file and, where a name changed, for its directory. And
// after a failed fsync nothing is believed any more: the kernel may have
// dropped the dirty pages and marked them clean, so a second fsync that
// succeeds proves nothing (https://lwn.net/Articles/752063/); the file object
// then answers every later call with the first error.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrInUse is wrapped by the errors of files and directories that another
// process (or another handle of this one) has locked.
var ErrInUse = errors.New("already in use by another process")

// ErrDiskFull is wrapped by errors of writes that found no space (or no quota).
var ErrDiskFull = errors.New("disk full")

// FS is what this package asks of a file system. Tests put one that fails in
// its place; everything else leaves it nil, which means the real one.
type FS interface {
	// OpenFile opens as os.OpenFile does.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename replaces newName by oldName in one step.
	Rename(oldName, newName string) error
	// Remove deletes a file.
	Remove(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size returns the current length in bytes.
	Size() (int64, error)
	// Truncate sets the length.
	Truncate(size int64) error
	// Sync makes content and length durable.
	Sync() error
	// Lock takes an exclusive lock that ends with Close or with the process;
	// the error is ErrInUse when somebody else holds it, also after a moment.
	Lock() error
}

// OS returns the real file system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }
func (osFS) Remove(name string) error             { return os.Remove(name) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Lock() error { return flock(int(f.Fd())) }

// Explain names a full disk as such (ErrDiskFull), for those who use an FS
// themselves; other errors pass unchanged.
func Explain(err error) error { return explain(err) }

// explain names a full disk as such; other errors pass unchanged.
func explain(err error) error {
	if errors.Is(err, ErrDiskFull) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: free some space: %w", ErrDiskFull, err)
	}
	return err
}
