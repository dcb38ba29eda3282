package hw

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// LogicalCPU is one CPU as the operating system numbers them.
type LogicalCPU struct {
	ID     int           `json:"id"`
	Online Reading[bool] `json:"online"`
	// Package and Core are the kernel's numbers; core numbers may repeat in other
	// packages, dies and clusters. An offline CPU has neither, and no siblings.
	Package  Reading[int]   `json:"package"`
	Core     Reading[int]   `json:"core"`
	Node     Reading[int]   `json:"node"`     // NUMA node
	Siblings Reading[[]int] `json:"siblings"` // CPUs sharing the core, this one included, rising
	// Capacity is the CPU's relative strength, 1024 for the strongest
	// (big.LITTLE); unknown where the kernel does not say.
	Capacity Reading[int]   `json:"capacity"`
	MaxHz    Reading[int64] `json:"maxHz"`
}

// cpuRoot is documented in the kernel's Documentation/ABI/stable/sysfs-devices-system-cpu.
const (
	cpuRoot  = "sys/devices/system/cpu"
	nodeRoot = "sys/devices/system/node"
)

// maxCPUs bounds what a CPU list may name; Linux builds stop at 8,192.
const maxCPUs = 8192

// topology lists the CPUs that are present, rising by number. It is empty where
// there is no sysfs.
func topology(fsys fs.FS) []LogicalCPU {
	present, ok := readCPUList(fsys, cpuRoot+"/present").Get()
	if !ok {
		return []LogicalCPU{}
	}
	online := readCPUList(fsys, cpuRoot+"/online")
	nodes := nodeOfCPU(fsys)
	cpus := make([]LogicalCPU, 0, len(present))
	for _, id := range present {
		dir := fmt.Sprintf("%s/cpu%d", cpuRoot, id)
		c := LogicalCPU{
			ID:       id,
			Package:  readID(fsys, dir+"/topology/physical_package_id"),
			Core:     readID(fsys, dir+"/topology/core_id"),
			Siblings: readCPUList(fsys, dir+"/topology/thread_siblings_list"),
			Capacity: readID(fsys, dir+"/cpu_capacity"),
		}
		if list, ok := online.Get(); ok {
			c.Online = Known(slices.Contains(list, id))
		}
		if node, ok := nodes[id]; ok {
			c.Node = Known(node)
		}
		if kHz, ok := readID(fsys, dir+"/cpufreq/cpuinfo_max_freq").Get(); ok {
			c.MaxHz = positive(int64(kHz) * 1000)
		}
		cpus = append(cpus, c)
	}
	return cpus
}

// nodeOfCPU reads which NUMA node each CPU belongs to.
func nodeOfCPU(fsys fs.FS) map[int]int {
	nodes, _ := readCPUList(fsys, nodeRoot+"/online").Get()
	of := map[int]int{}
	for _, node := range nodes {
		cpus, _ := readCPUList(fsys, fmt.Sprintf("%s/node%d/cpulist", nodeRoot, node)).Get()
		for _, cpu := range cpus {
			of[cpu] = node
		}
	}
	return of
}

// coreCounts counts the online logical CPUs, the physical cores under them, and
// the most threads on one core. A core is told by its sibling list, because core
// numbers repeat in other packages, dies or clusters. What is not known of every
// online CPU is unknown.
func coreCounts(cpus []LogicalCPU) (logical, physical, perCore Reading[int]) {
	cores := map[int]bool{} // by lowest sibling
	count, most, complete := 0, 0, true
	for _, c := range cpus {
		online, known := c.Online.Get()
		if !known {
			return Reading[int]{}, Reading[int]{}, Reading[int]{}
		}
		if !online {
			continue
		}
		count++
		siblings, ok := c.Siblings.Get()
		if !ok {
			complete = false
			continue
		}
		cores[siblings[0]] = true
		most = max(most, len(siblings))
	}
	if !complete {
		return positive(count), Reading[int]{}, Reading[int]{}
	}
	return positive(count), positive(len(cores)), positive(most)
}

// caches reads the cache sizes of one CPU, in bytes.
func caches(fsys fs.FS, cpu int) (l1i, l1d, l2, l3 Reading[int]) {
	for index := range 8 { // more levels than any CPU has
		dir := fmt.Sprintf("%s/cpu%d/cache/index%d", cpuRoot, cpu, index)
		level, ok := readID(fsys, dir+"/level").Get()
		if !ok {
			break
		}
		size := readSize(fsys, dir+"/size")
		kind := readText(fsys, dir+"/type").Or("")
		switch {
		case level == 1 && kind == "Instruction":
			l1i = size
		case level == 1 && kind == "Data":
			l1d = size
		case level == 2:
			l2 = size
		case level == 3:
			l3 = size
		}
	}
	return l1i, l1d, l2, l3
}

// readText reads a one-line file without its line end.
func readText(fsys fs.FS, name string) Reading[string] {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return Reading[string]{}
	}
	return nonEmpty(strings.TrimSpace(strings.TrimRight(string(b), "\x00")))
}

// readID reads a number that is not negative; sysfs says −1 for "none".
func readID(fsys fs.FS, name string) Reading[int] {
	n, err := strconv.Atoi(readText(fsys, name).Or(""))
	if err != nil || n < 0 {
		return Reading[int]{}
	}
	return Known(n)
}

// readSize reads a size such as "48K" or "2M", in bytes.
func readSize(fsys fs.FS, name string) Reading[int] {
	text := readText(fsys, name).Or("")
	unit := 1
	switch {
	case strings.HasSuffix(text, "K"):
		unit = 1 << 10
	case strings.HasSuffix(text, "M"):
		unit = 1 << 20
	}
	n, err := strconv.ParseUint(strings.TrimRight(text, "KM"), 10, 31)
	if err != nil {
		return Reading[int]{}
	}
	return positive(int(n) * unit)
}

// readCPUList reads a file in the kernel's list format, such as "0-3,8".
func readCPUList(fsys fs.FS, name string) Reading[[]int] {
	text, ok := readText(fsys, name).Get()
	if !ok {
		return Reading[[]int]{}
	}
	list, err := parseCPUList(text)
	if err != nil {
		return Reading[[]int]{}
	}
	return Known(list)
}

// parseCPUList parses the kernel's list format into rising, distinct numbers.
func parseCPUList(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", text, err)
		}
		to, err := strconv.ParseUint(high, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", text, err)
		}
		if from > to || to >= maxCPUs {
			return nil, fmt.Errorf("CPU list %q: range %d-%d is not within 0-%d", text, from, to, maxCPUs-1)
		}
		for id := int(from); id <= int(to); id++ {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
