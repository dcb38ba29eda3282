package miner

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// niceThread sets the calling thread's nice level: Linux keeps one per thread.
func niceThread(level int) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, level); err != nil {
		return fmt.Errorf("set nice level %d (below the present one it needs CAP_SYS_NICE): %w", level, err)
	}
	return nil
}
