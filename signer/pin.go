package signer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxPIN is the longest PIN in bytes; PKCS#11 tokens announce at most 255.
const maxPIN = 255

// pinFile is what a PIN file held when it was read.
type pinFile struct {
	path string
	id   pinFileID
	pin  []byte // to be cleared by whoever read it
}

// pinFileID tells a PIN file from one that was written or touched since,
// without telling anything of the PIN. The folder is not part of it: set-up
// programs make a data directory under another name, and owners move it.
type pinFileID struct {
	Name  string `json:"name"`  // without its folder
	Size  int64  `json:"size"`  // bytes
	MTime int64  `json:"mtime"` // nanoseconds since 1970
	Inode uint64 `json:"inode"`
}

func identify(info fs.FileInfo, path string) pinFileID {
	return pinFileID{
		Name: filepath.Base(path), Size: info.Size(), MTime: info.ModTime().UnixNano(),
		Inode: info.Sys().(*syscall.Stat_t).Ino,
	}
}

// readPIN reads a PIN file. The caller clears the PIN.
func readPIN(path string) (pinFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return pinFile{}, fmt.Errorf("PIN file %s is a symbolic link: name the file itself", path)
	}
	if err != nil {
		return pinFile{}, fmt.Errorf("opening the PIN file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return pinFile{}, fmt.Errorf("checking the PIN file: %w", err)
	}
	if err := checkPINFile(info, path); err != nil {
		return pinFile{}, err
	}
	pin := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, pin)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(pin)
		return pinFile{}, fmt.Errorf("reading the PIN file %s: %w", path, err)
	}
	pin = bytes.TrimSuffix(pin[:n], []byte("\n"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\r\n\x00") {
		clear(pin)
		return pinFile{}, fmt.Errorf("PIN file %s must hold one line of 1 to %d characters, the PIN, and nothing else", path, maxPIN)
	}
	return pinFile{path, identify(info, path), pin}, nil
}

func checkPINFile(info fs.FileInfo, path string) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("PIN file %s is no regular file: write the PIN into a file of its own", path)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != uint32(os.Geteuid()) {
		return fmt.Errorf("PIN file %s belongs to user %d: type  chown %d %s", path, uid, os.Geteuid(), path)
	}
	if mode := info.Mode().Perm(); mode != 0o400 && mode != 0o600 {
		return fmt.Errorf("PIN file %s has mode %04o, others might read it: type  chmod 400 %s", path, mode, path)
	}
	return nil
}
