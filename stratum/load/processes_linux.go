package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// processes reads what a pool's processes use from /proc.
type processes struct{ pids []int }

// userHz is the unit of times in /proc/PID/stat: 1/100 s on every Linux
// platform Go runs on (proc_pid_stat(5), USER_HZ).
const userHz = 100

func openProcesses(pids []int) (processes, error) {
	for _, pid := range pids {
		if _, _, err := readProcess(pid); err != nil {
			return processes{}, fmt.Errorf("cannot read what process %d uses: %w; give the process id of the pool's program", pid, err)
		}
	}
	return processes{pids}, nil
}

// usage reads all of them; one that has ended counts nothing.
func (p processes) usage() usage {
	var u usage
	for _, pid := range p.pids {
		cpu, rss, err := readProcess(pid)
		if err == nil {
			u.cpu += cpu
			u.rss += rss
		}
	}
	var own unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &own) == nil {
		u.own = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	}
	return u
}

func readProcess(pid int) (cpu time.Duration, rss int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the program's name in parentheses and may hold anything.
	rest := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const state, utime, stime, resident = 3, 14, 15, 24 // field numbers of proc_pid_stat(5)
	if len(rest) <= resident-state {
		return 0, 0, fmt.Errorf("/proc/%d/stat has only %d fields", pid, len(rest)+2)
	}
	var n [3]int64
	for i, field := range []int{utime, stime, resident} {
		if n[i], err = strconv.ParseInt(string(rest[field-state]), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	return time.Duration(n[0]+n[1]) * (time.Second / userHz), n[2] * int64(os.Getpagesize()), nil
}
