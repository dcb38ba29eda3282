package configs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"qcitycoin.org/qcity/hw"
)

// What Miner.CPUs may be instead of a list.
const (
	PinAuto = "auto"
	PinOff  = "off"
)

// maxCPU is the highest CPU that a thread can be pinned to.
const maxCPU = 1023

// CPUList returns the CPUs that Miner.CPUs lists, in the order of the list; none
// for PinAuto and PinOff. The error says how to write it.
func (m *Miner) CPUList() ([]int, error) {
	if m.CPUs == PinAuto || m.CPUs == PinOff {
		return nil, nil
	}
	var list []int
	for part := range strings.SplitSeq(m.CPUs, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if errors.Join(err1, err2) != nil || from < 0 || from > to || to > maxCPU {
			return nil, fmt.Errorf("want %q, %q or a list of CPUs from 0 to %d such as \"0,2-5\"; %q is none", PinAuto, PinOff, maxCPU, part)
		}
		for cpu := from; cpu <= to; cpu++ {
			if slices.Contains(list, cpu) {
				return nil, fmt.Errorf("CPU %d is listed twice: name every CPU once", cpu)
			}
			list = append(list, cpu)
		}
	}
	return list, nil
}

// usableThreads is how many busy threads this process can make use of: it looks
// at affinity masks and at the quota of a container. It is read once, as neither
// changes what a file that is already written says.
var usableThreads = sync.OnceValue(func() int { return hw.Detect(os.DirFS("/")).Usable.Threads })
