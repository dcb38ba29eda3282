package hw

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CanPin says whether threads can be bound to CPUs here.
const CanPin = true

// PinThread binds the calling thread to the given CPUs. Lock the goroutine to its
// thread first, and let it end without unlocking: the thread ends with it, and
// nothing else runs there. CPUs above 1,023 have no place in the kernel's classic
// mask.
func PinThread(cpus ...int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin thread to CPUs %v (use some that the process may run on): %w", cpus, err)
	}
	return nil
}
