package bench

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// team is the threads that hash.
type team struct {
	tasks   []chan task // of each thread
	parts   chan part
	counter string // how they count cycles
	threads sync.WaitGroup
}

// task is one slice.
type task struct {
	kernel int
	end    time.Time
}

// start brings the threads up, each ready to hash with every kernel.
func (p *Plan) start() (*team, error) {
	t := &team{parts: make(chan part, p.Threads)}
	ready := make(chan error, p.Threads)
	counters := make([]string, p.Threads)
	for i := range p.Threads {
		tasks := make(chan task, 1)
		t.tasks = append(t.tasks, tasks)
		t.threads.Go(func() { p.hash(i, &counters[i], ready, tasks, t.parts) })
	}
	var first error
	for range p.Threads {
		if err := <-ready; err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		t.end()
		return nil, first
	}
	for _, c := range counters {
		if t.counter = c; c != hw.CyclesPerf { // the least exact one counts
			break
		}
	}
	return t, nil
}

// end ends the threads.
func (t *team) end() {
	for _, tasks := range t.tasks {
		close(tasks)
	}
	t.threads.Wait()
}

// slice lets all threads hash with one kernel until end.
func (t *team) slice(kernel int, end time.Time) []part {
	for _, tasks := range t.tasks {
		tasks <- task{kernel, end}
	}
	parts := make([]part, len(t.tasks))
	for i := range parts {
		parts[i] = <-t.parts
	}
	return parts
}

// hash is one thread. It never gives its thread back: that is pinned, and ends.
func (p *Plan) hash(i int, counter *string, ready chan<- error, tasks <-chan task, parts chan<- part) {
	runtime.LockOSThread()
	if len(p.CPUs) > 0 {
		if err := hw.PinThread(p.CPUs[i]); err != nil {
			ready <- fmt.Errorf("benchmark: %w", err)
			return
		}
	}
	cycles := hw.OpenCycles()
	defer cycles.Close()
	*counter = cycles.Method()
	samplers := make([]*sha256d.Sampler, len(p.Kernels))
	for k := range p.Kernels {
		var err error
		if samplers[k], err = sha256d.NewSampler(p.Kernels[k]); err != nil {
			ready <- err
			return
		}
	}
	ready <- nil
	for t := range tasks {
		var x part
		x.elapsed, x.cycles = cycles.Measure(func() { x.hashes = samplers[t.kernel].Until(t.end) })
		parts <- x
	}
}
