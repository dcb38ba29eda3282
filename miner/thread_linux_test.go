package miner

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// onOwnThread runs a test on a thread that ends with it.
func onOwnThread(t *testing.T, test func(*testing.T)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		test(t)
	}()
	<-done
}

func TestNiceThread(t *testing.T) {
	onOwnThread(t, func(t *testing.T) {
		if err := niceThread(19); err != nil {
			t.Error(err)
			return
		}
		// The system call answers 20 − nice.
		if got, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || got != 1 {
			t.Errorf("priority %d, error %v", got, err)
		}
	})
}
