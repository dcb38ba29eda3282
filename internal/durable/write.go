package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path by data, in one step: after a crash at
// any instant the file has its old content or its new one, and once WriteFile
// has returned nil it is the new one. On an error the old content is still
// there, except that after a failing fsync of the directory it may be either.
//
// The temporary file is path+".tmp"; callers do not write one path from two
// goroutines at once.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return WriteFileOn(osFS{}, path, data, perm)
}

// WriteFileOn is WriteFile on another file system than the real one.
func WriteFileOn(fsys FS, path string, data []byte, perm fs.FileMode) error {
	tmp := path + ".tmp"
	// What a crash left behind may have other permissions.
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing %s: removing what an earlier attempt left: %w", path, err)
	}
	if err := writeNew(fsys, tmp, data, perm); err != nil {
		return fmt.Errorf("writing %s: %w", path, explain(err))
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, explain(errors.Join(err, fsys.Remove(tmp))))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("writing %s: making its name durable: %w", path, explain(err))
	}
	return nil
}

// ReadFileOn returns the content of a file of fsys.
func ReadFileOn(fsys FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	return data, errors.Join(err, f.Close())
}

// writeNew writes and syncs a new file, and leaves none behind on an error.
func writeNew(fsys FS, name string, data []byte, perm fs.FileMode) error {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	// Close reports delayed errors on some network file systems.
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(name))
	}
	return nil
}
