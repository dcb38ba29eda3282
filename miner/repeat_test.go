package miner

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

// happening is one thing that may happen to a miner on the way.
type happening string

const (
	sameAgain happening = "the very same template under a new number"
	newParent happening = "a template on another parent"
	oldParent happening = "a template on the first parent again"
	laterTime happening = "a template whose time is ahead of the clock"
	fallback  happening = "a template whose time must not be changed"
	longWait  happening = "nothing, until the header time is rolled"
	crash     happening = "the kernel crashes: workers begin anew with another"
	restart   happening = "the miner is started anew"
)

// TestNothingIsHashedTwice: over job switches, templates that differ in nothing,
// rolled times, kernels that crash and restarts, with any number of workers, no
// 80-byte header is hashed twice.
func TestNothingIsHashedTwice(t *testing.T) {
	all := []happening{sameAgain, sameAgain, newParent, oldParent, laterTime, fallback, longWait, crash, restart}
	rapid.Check(t, func(rt *rapid.T) {
		workers := rapid.IntRange(1, 3).Draw(rt, "workers")
		lanes := rapid.Permutation([]int{1, 3, 16}).Draw(rt, "lanes")
		plan := rapid.SliceOfN(rapid.SampledFrom(all), 1, 20).Draw(rt, "plan")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 400), len(plan), len(plan)).Draw(rt, "milliseconds")
		var r *recorder
		synctest.Test(t, func(t *testing.T) { r = live(t, workers, lanes, plan, pauses) })
		if len(r.scans) == 0 && len(plan) > 1 {
			rt.Fatalf("nothing was hashed")
		}
		checkDisjoint(rt, r.scans)
	})
}

// live lets miners go through a plan and returns what they hashed.
func live(t *testing.T, workers int, lanes []int, plan []happening, pauses []int) *recorder {
	r := &recorder{}
	var kernels []sha256d.Kernel
	var fakes []*fake
	for i, l := range lanes {
		fakes = append(fakes, &fake{rate: 5000})
		kernels = append(kernels, r.faked(fmt.Sprint("kernel ", i), l, fakes[i]))
	}
	begin := func() *running {
		m := prepared(t, Config{Workers: workers, Kernel: "kernel 0"}, noSolutions(t), kernels...)
		m.chooser.choose = untested
		m.begin(t)
		return m
	}
	m := begin()
	job := newJob(1, 'P', work.Target{})
	born := job.Time
	m.feed.Publish(job)
	for i, what := range plan {
		time.Sleep(200*time.Millisecond + time.Duration(pauses[i])*time.Millisecond)
		next := *job
		next.ID++
		switch what {
		case newParent:
			next.PrevBlock[31]++
		case oldParent:
			next.PrevBlock[31] = 'P'
		case laterTime:
			next.Time = uint32(time.Now().Unix()) + 5
		case fallback:
			next.Time, next.Fallback = born, true
		case longWait:
			time.Sleep((refreshSeconds + 1) * time.Second)
			continue
		case crash:
			crashNow(m, kernels, fakes)
			continue
		case restart:
			m.end(t)
			m = begin()
		}
		job = &next
		m.feed.Publish(job)
	}
	time.Sleep(300 * time.Millisecond)
	m.end(t)
	return r
}

// untested is sha256d.Pick without self tests and measurements.
func untested(_ context.Context, c sha256d.Contest) (sha256d.Kernel, []sha256d.Trial, error) {
	if c.Name == sha256d.Auto {
		c.Name = c.Kernels[0].Name
	}
	i := slices.IndexFunc(c.Kernels, func(k sha256d.Kernel) bool { return k.Name == c.Name })
	return c.Kernels[i], []sha256d.Trial{{Name: c.Name, Rate: 5000}}, nil
}

// crashNow makes the kernel in use panic, if another is left.
func crashNow(m *running, kernels []sha256d.Kernel, fakes []*fake) {
	current := m.chooser.current.Load()
	if current == nil || len(m.chooser.usable()) < 2 {
		return
	}
	for i := range kernels {
		if kernels[i].Name == current.kernel.Name {
			fakes[i].setFault(func(e sha256d.Engine, mining bool, first uint32, n int, hits []sha256d.Hit) []sha256d.Hit {
				if mining {
					panic("illegal instruction")
				}
				return e.Scan(first, n, hits)
			})
			time.Sleep(time.Second) // found out and replaced
			fakes[i].setFault(nil)
		}
	}
}
