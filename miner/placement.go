package miner

import (
	"fmt"
	"slices"

	"qcitycoin.org/qcity/hw"
)

// Pinning says whether workers keep to CPUs.
type Pinning int

const (
	// PinAuto gives each worker a usable CPU of its own, in the order of
	// hw.Inventory.Spread: cores first, their further threads after.
	PinAuto Pinning = iota
	// PinOff leaves the workers to the operating system's scheduler.
	PinOff
	// PinList gives worker i the i-th CPU of Config.CPUs.
	PinList
)

// maxCPU is the highest CPU that hw.PinThread has room for.
const maxCPU = 1023

// cpusFor returns the CPUs that a worker may use out of those to pin to: one of
// its own, or all of them when there is none left. Nil: any.
func cpusFor(worker int, order []int) []int {
	if worker < len(order) {
		return order[worker : worker+1]
	}
	return order
}

// placement decides where the workers go. The error says what cannot work.
func (c *Config) placement() ([]int, error) {
	switch {
	case c.Pinning == PinOff:
		return nil, nil
	case c.Pinning == PinAuto && !hw.CanPin:
		return nil, nil
	case c.Pinning == PinAuto:
		return slices.DeleteFunc(c.Machine.Spread(), func(cpu int) bool { return cpu > maxCPU }), nil
	case !hw.CanPin:
		return nil, hw.PinThread(c.CPUs...) // says that it cannot
	case len(c.CPUs) == 0:
		return nil, fmt.Errorf("no CPUs to pin mining workers to: list some, or choose auto or off")
	}
	usable, known := c.Machine.Usable.CPUs.Get()
	for i, cpu := range c.CPUs {
		switch {
		case cpu < 0 || cpu > maxCPU:
			return nil, fmt.Errorf("cannot pin a mining worker to CPU %d: choose 0 to %d", cpu, maxCPU)
		case slices.Contains(c.CPUs[:i], cpu):
			return nil, fmt.Errorf("CPU %d is listed twice for mining workers: name every CPU once", cpu)
		case known && !slices.Contains(usable, cpu):
			return nil, fmt.Errorf("cannot pin a mining worker to CPU %d: this process may only use CPUs %v", cpu, usable)
		}
	}
	return slices.Clone(c.CPUs), nil
}

// crowded returns one line for the operator when there are more workers than
// CPU time for them, else "".
func (c *Config) crowded(order []int) string {
	u := &c.Machine.Usable
	cpus, known := u.CPUs.Get()
	quota, limited := u.Quota.Get()
	switch {
	case c.Pinning == PinList && c.Workers > len(order):
		return fmt.Sprintf("%d mining threads share the %d CPUs listed for them: lower the number of threads, or list more CPUs", c.Workers, len(order))
	case known && c.Workers > len(cpus):
		return fmt.Sprintf("%d mining threads share the %d CPUs this process may use: lower the number of threads to %d", c.Workers, len(cpus), u.Threads)
	case limited && c.Workers > u.Threads:
		return fmt.Sprintf("%d mining threads share the CPU quota of this process's control group, which feeds %.3g CPUs: lower the number of threads to %d, or raise the quota", c.Workers, quota, u.Threads)
	}
	return ""
}
