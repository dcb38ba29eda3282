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

func TestPinThread(t *testing.T) {
	onOwnThread(t, func(t *testing.T) {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			t.Error(err)
			return
		}
		last := -1
		for cpu := range 1024 {
			if set.IsSet(cpu) {
				last = cpu
			}
		}
		if err := pinThread(last); err != nil {
			t.Error(err)
			return
		}
		if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() != 1 || !set.IsSet(last) {
			t.Errorf("affinity %v, error %v, want CPU %d alone", set, err, last)
		}
	})
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
