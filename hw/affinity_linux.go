package hw

import "golang.org/x/sys/unix"

// affinity returns the CPUs that the calling thread may run on.
func affinity() Reading[[]int] {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return Reading[[]int]{}
	}
	cpus := make([]int, 0, set.Count())
	for id := 0; len(cpus) < set.Count(); id++ {
		if set.IsSet(id) {
			cpus = append(cpus, id)
		}
	}
	return Known(cpus)
}
