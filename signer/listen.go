package signer

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what the kernel takes (sun_path, less its final zero).
const maxSocketPath = 107

// listen makes the socket. With no foreign users only we can reach it: mode
// 0600 in a directory of mode 0700. Otherwise the credentials of each peer
// decide, and the directory need only keep others from replacing the socket.
func listen(path string, foreign bool) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d characters, the system takes %d: choose a shorter one", path, len(path), maxSocketPath)
	}
	if err := socketDir(filepath.Dir(path), foreign); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	mode := fs.FileMode(0o600)
	if foreign {
		mode = 0o666
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func socketDir(dir string, foreign bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of the signer's socket: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("checking the directory of the signer's socket: %w", err)
	}
	open := fs.FileMode(0o077)
	if foreign {
		open = 0o022
	}
	if info.Mode().Perm()&open != 0 {
		return fmt.Errorf("directory %s of the signer's socket is open to others (mode %04o): type  chmod %s %s", dir, info.Mode().Perm(), map[bool]string{false: "700", true: "go-w"}[foreign], dir)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != uint32(os.Geteuid()) && st.Uid != 0 {
		return fmt.Errorf("directory %s of the signer's socket belongs to user %d: type  chown %d %s", dir, st.Uid, os.Geteuid(), dir)
	}
	return nil
}

// removeStale removes the socket of a daemon that died without removing it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checking the signer's socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: move it away, or choose another socket path", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("a signer is already running on %s: stop it first, or choose another socket path", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("is a signer running on %s? %w", path, err)
	}
	return os.Remove(path)
}

// peerUID returns the user who opened the other end, as the kernel knows it
// (SO_PEERCRED, unix(7)).
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("asking who the peer is: %w", err)
	}
	return cred.Uid, nil
}
