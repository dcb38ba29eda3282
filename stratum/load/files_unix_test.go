//go:build unix

package load

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNeedFiles: the soft limit is raised silently; a hard limit that is too low
// gives one sentence with the number.
func TestNeedFiles(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
	low := before
	low.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	if err := needFiles(500); err != nil {
		t.Fatal(err)
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur < 500 {
		t.Errorf("the limit is %d, %v", l.Cur, err)
	}
	err := needFiles(1 << 40) // beyond what any kernel allows
	if err == nil || !strings.Contains(err.Error(), "ulimit -n 1099511627776") {
		t.Errorf("%v", err)
	}
}
