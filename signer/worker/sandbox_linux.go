package worker

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sandbox says what the worker may do. It needs no privilege: Landlock limits
// files, seccomp system calls. A limit that this kernel does not offer is named in
// one line of the log and done without.
type Sandbox struct {
	// Writable are the files and directories beneath which the module may write:
	// where it keeps its tokens, locks or logs. What is missing when the worker
	// starts is left out, with a line in the log. Devices may always be written to.
	Writable []string
	// Hidden are directories in which the module may not read files, unless they
	// are beneath one in Writable. Beside a hidden directory, and beside each one
	// above it, only what exists when the worker starts can be read.
	Hidden []string
	// NoNetwork leaves the module only sockets of the Unix and netlink families,
	// as smart card services and USB need. A network HSM needs more.
	NoNetwork bool
}

// with returns the sandbox with another writable directory.
func (b *Sandbox) with(dir string) *Sandbox {
	if b == nil {
		return nil
	}
	c := *b
	c.Writable = append(slices.Clone(b.Writable), dir)
	return &c
}

// lacking remembers what has been logged, so that it is once.
var lacking sync.Map

func logLacking(log *slog.Logger, what string, err error) {
	if _, known := lacking.LoadOrStore(what, true); !known {
		log.Warn("sandbox of the PKCS#11 worker: "+what, "err", err)
	}
}

// restrictThread puts the calling thread, and every process it starts, into the
// sandbox for ever. no_new_privs must be set. The error means that the
// configuration is at fault.
func (b *Sandbox) restrictThread(log *slog.Logger) error {
	if b == nil {
		return nil
	}
	for _, path := range append(slices.Clone(b.Writable), b.Hidden...) {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("sandbox: %q is not an absolute path", path)
		}
	}
	for _, path := range b.Writable {
		if _, err := os.Stat(path); err != nil {
			logLacking(log, "writing to "+path+" is not allowed, as it is not there", err)
		}
	}
	if err := b.landlock(); err != nil {
		logLacking(log, "files are not limited, as this system has no Landlock (Linux 5.13)", err)
	}
	if err := filterSystemCalls(b.NoNetwork); err != nil {
		logLacking(log, "system calls are not limited, as this system has no seccomp for it", err)
	}
	return nil
}

// What may be done to a file, and beneath a directory. See landlock(7).
const (
	fileWrite = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	dirWrite  = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	read = unix.LANDLOCK_ACCESS_FS_READ_FILE
)

// ruleset is a Landlock ruleset that is being put together.
type ruleset struct {
	fd                int
	read, write, tree uint64 // rights that it handles: to read and write a file, to change a directory
}

func (b *Sandbox) landlock() error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return errno
	}
	r := ruleset{write: fileWrite, tree: dirWrite}
	if abi >= 2 {
		r.tree |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		r.write |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		r.write |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if len(b.Hidden) > 0 {
		r.read = read
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: r.read | r.write | r.tree}
	size := uintptr(8) // each part of the structure came with a version
	if abi >= 4 {
		size = 16
		if b.NoNetwork {
			attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if abi >= 6 {
		size = 24
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("make a ruleset: %w", errno)
	}
	r.fd = int(fd)
	defer unix.Close(r.fd)
	if err := r.allow("/dev", r.write); err != nil {
		return err
	}
	for _, path := range resolve(b.Writable) {
		if err := r.allow(path, r.read|r.write|r.tree); err != nil {
			return err
		}
	}
	if r.read != 0 {
		if err := r.allowReadingBut(resolve(b.Hidden)); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("enforce it: %w", errno)
	}
	return nil
}

// allow grants rights to a file or beneath a directory. What is missing, a
// symbolic link, or not to be opened is passed over: nothing is granted.
func (r *ruleset) allow(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= r.read | r.write
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allow %s: %w", path, errno)
	}
	return nil
}

// allowReadingBut grants reading everywhere but beneath the hidden directories.
// Landlock can only grant, so on the way to each of them it grants what lies
// beside. Symbolic links are no way around: what they lead to is granted by its
// own path, or is not.
func (r *ruleset) allowReadingBut(hidden []string) error {
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil // then nothing in it is granted
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			below := func(h string) bool { return strings.HasPrefix(h, path+"/") }
			switch {
			case slices.Contains(hidden, path):
				continue
			case slices.ContainsFunc(hidden, below):
				err = walk(path)
			default:
				err = r.allow(path, r.read)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return walk("/")
}

// resolve follows symbolic links; a path that is missing stays as it is.
func resolve(paths []string) []string {
	var out []string
	for _, path := range paths {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		out = append(out, filepath.Clean(path))
	}
	return out
}
