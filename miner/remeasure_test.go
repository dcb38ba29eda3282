package miner

import (
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

// measurements counts how often kernels were measured, by the log.
func (r *running) measurements() int { return len(r.logs.lines("kernel=slow mhs=")) }

// TestSlowKernelIsReplaced: when hashing has been slower for a minute, another
// kernel takes over if it is more than 2 % faster.
func TestSlowKernelIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name    string
		present float64 // of the kernel in use, which was 1,000 H/s
		other   float64
		wait    time.Duration
		want    string
		times   int // measured, the first choice included
	}{
		{"slower than the other", 800, 900, 12 * time.Minute, "slow", 2},
		{"not within ten minutes of the last measurement", 800, 900, 9 * time.Minute, "fast", 1},
		{"by less than 10 %", 910, 990, 30 * time.Minute, "fast", 1},
		{"but the other gains no more than 2 %", 800, 815, 12 * time.Minute, "fast", 2},
		{"what is normal now is no reason to measure again", 800, 815, 40 * time.Minute, "fast", 2},
		{"faster than ever", 1200, 3000, 30 * time.Minute, "fast", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow, fast, kernels := pairOfKernels(&recorder{})
				store := &drawer{}
				m := startWith(t, Config{Workers: 2, Kernel: sha256d.Auto, Memory: store}, noSolutions(t), kernels...)
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(30 * time.Second)
				fast.setRate(c.present)
				slow.setRate(c.other)
				time.Sleep(c.wait - 30*time.Second)
				s := m.Stats()
				for _, k := range []string{s.Kernel, s.Workers[0].Kernel, s.Workers[1].Kernel} {
					if k != c.want {
						t.Errorf("runs %q, want %q", k, c.want)
					}
				}
				if n := m.measurements(); n != c.times || store.saves != c.times {
					t.Errorf("measured %d times and remembered %d, want %d", n, store.saves, c.times)
				}
				m.end(t)
			})
		})
	}
}

// TestSwitchIsLive: workers take another kernel up after the call they are in.
func TestSwitchIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, kernels := pairOfKernels(&recorder{})
		m := startWith(t, Config{Workers: 2, Kernel: "fast"}, noSolutions(t), kernels...)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(time.Second)
		m.chooser.use(&choice{kernels[0], 500})
		time.Sleep(minCall * time.Second / 1000) // one call of the fast one
		for i, w := range m.Stats().Workers {
			if w.Kernel != "slow" {
				t.Errorf("worker %d still runs %q", i, w.Kernel)
			}
		}
		m.end(t)
	})
}

// TestMeasuresAtMostEveryTenMinutes, however slow it gets and however many
// workers notice.
func TestMeasuresAtMostEveryTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fast, kernels := pairOfKernels(&recorder{})
		m := startWith(t, Config{Workers: 3, Kernel: sha256d.Auto}, noSolutions(t), kernels...)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		for range 60 {
			time.Sleep(time.Minute)
			rate, _ := fast.get()
			fast.setRate(rate * 0.97)
		}
		if n := m.measurements(); n < 3 || n > 7 {
			t.Errorf("measured %d times in an hour", n)
		}
		m.end(t)
	})
}

// TestOthersMineMeanwhile: one worker measures, the others go on hashing.
func TestOthersMineMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, fast, kernels := pairOfKernels(&recorder{})
		m := startWith(t, Config{Workers: 3, Kernel: sha256d.Auto}, noSolutions(t), kernels...)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(30 * time.Second)
		fast.setRate(800)
		slow.setRate(200) // a measurement of it takes long
		idle, most := make([]time.Duration, 3), 0
		const look = 2 * time.Second // several calls
		for range 12 * time.Minute / look {
			before := m.Stats()
			time.Sleep(look)
			after := m.Stats()
			n := 0
			for i := range idle {
				if after.Workers[i].Hashes == before.Workers[i].Hashes {
					idle[i] += look
					n++
				}
			}
			most = max(most, n)
		}
		if n := m.measurements(); n != 2 || most != 1 {
			t.Errorf("%d measurements, %d workers idle at one time, by worker %v", n, most, idle)
		}
		m.end(t)
	})
}

// TestNoReasonToMeasure: rests are no slowness.
func TestNoReasonToMeasure(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		live func(m *running, fast *fake)
	}{
		{"without a job half of the time", Config{}, func(m *running, _ *fake) {
			for i := range 40 { // solved at once, then nothing to do
				m.feed.Publish(newJob(uint64(10*i+10), 'P', work.Target{}))
				time.Sleep(30 * time.Second)
				m.gate.verdict(newJob(uint64(10*i+10), 'P', work.Target{}), 0, work.Accepted, time.Now())
				time.Sleep(30 * time.Second)
			}
		}},
		{"throttled, and slower for it", Config{Duty: 60}, func(m *running, fast *fake) {
			m.feed.Publish(newJob(1, 'P', work.Target{}))
			time.Sleep(time.Minute)
			fast.setRate(300)
			time.Sleep(40 * time.Minute)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, fast, kernels := pairOfKernels(&recorder{})
				c.cfg.Workers, c.cfg.Kernel = 2, sha256d.Auto
				m := startWith(t, c.cfg, noSolutions(t), kernels...)
				c.live(m, fast)
				if n := m.measurements(); n != 1 {
					t.Errorf("measured %d times", n)
				}
				m.end(t)
			})
		})
	}
}

func TestRateWatch(t *testing.T) {
	const expected = 1e6
	for _, c := range []struct {
		name string
		rate float64
		for_ time.Duration
		want int
	}{
		{"as expected", 1e6, 5 * time.Minute, 0},
		{"a little slower", 0.91e6, 5 * time.Minute, 0},
		{"too slow", 0.89e6, 5*time.Minute + time.Second, 5},
		{"too slow, not long enough", 0.5e6, 59 * time.Second, 0},
		{"nothing expected", 0, 5 * time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w rateWatch
			got, expected := 0, expected
			if c.rate == 0 {
				expected = 0
			}
			for range c.for_ / time.Millisecond {
				if w.add(uint64(c.rate/1000), time.Millisecond, expected) {
					got++
				}
			}
			if got != c.want {
				t.Fatalf("slow %d times, want %d", got, c.want)
			}
		})
	}
}
