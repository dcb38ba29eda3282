//go:build unix

package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// needFiles makes sure that the process may open n files, by raising its own
// limit if that is allowed.
func needFiles(n int) error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return nil // not known: the sockets will tell
	}
	want := uint64(n)
	if l.Cur >= want {
		return nil
	}
	raised := unix.Rlimit{Cur: want, Max: max(l.Max, want)} // root may raise the hard limit, too
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) != nil {
		return fmt.Errorf("%d open files are needed and %d are allowed: type  ulimit -n %d  first (as root if that is refused), or use fewer connections", n, l.Max, n)
	}
	return nil
}
