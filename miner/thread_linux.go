package miner

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// pinThread binds the calling thread to one CPU.
func pinThread(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin thread to CPU %d (use one that the process may run on): %w", cpu, err)
	}
	return nil
}

// niceThread sets the calling thread's nice level: Linux keeps one per thread.
func niceThread(level int) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, level); err != nil {
		return fmt.Errorf("set nice level %d (below the present one it needs CAP_SYS_NICE): %w", level, err)
	}
	return nil
}
