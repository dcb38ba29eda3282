package miner

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

func TestSolutionIsValid(t *testing.T) {
	easy := work.MaxTarget
	easy[0] = 0 // one hash in 256
	for _, lanes := range []int{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			job := newJob(1, 'P', easy)
			job.MinTime = job.Time + 5 // the chain's limit beats the clock
			got := make(chan work.Solution, 1)
			m := start(t, 2, new(recorder).kernel(lanes), submitter(func(_ context.Context, s work.Solution) (work.Outcome, error) {
				got <- s
				return work.Accepted, nil
			}))
			m.feed.Publish(job)
			s := <-got
			m.end(t)
			h := job.Header(s)
			if !job.Target.Met(h.Hash()) {
				t.Errorf("%+v does not meet the target", s)
			}
			if err := job.CheckVersion(s.Version); err != nil {
				t.Error(err)
			}
			if s.JobID != job.ID || s.Time != job.MinTime || !bytes.HasPrefix(s.Extranonce[:], work.LocalPrefix[:]) {
				t.Errorf("solution %+v", s)
			}
		})
	}
}

// TestJobSwitch: the new job is hashed within a millisecond, by kernels fast and
// slow, from where the old one was left.
func TestJobSwitch(t *testing.T) {
	for _, c := range []struct {
		name   string
		parent byte
		lanes  int
		rate   float64
	}{
		{"new parent", 'Q', 1, 4e6},
		{"same parent", 'P', 1, 4e6},
		{"fast kernel", 'Q', 16, 50e6},
		{"kernel as slow as a Go loop on a small board", 'Q', 1, 300e3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{}
				m := start(t, 2, r.faked("k", c.lanes, &fake{rate: c.rate}), noSolutions(t))
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(20*time.Millisecond + 10*time.Microsecond) // in the middle of a call
				second := newJob(2, c.parent, work.Target{})
				second.Bits = 0x1d00ffff // tells it from the first
				m.feed.Publish(second)
				published := time.Now()
				time.Sleep(20 * time.Millisecond)
				m.end(t)
				checkSwitch(t, r.scans, second.Bits, published)
			})
		})
	}
}

func checkSwitch(t *testing.T, scans []scanned, bits uint32, published time.Time) {
	t.Helper()
	var old, new []scanned
	for _, s := range scans {
		switch isNew := binary.LittleEndian.Uint32(s.header[72:]) == bits; {
		case isNew:
			new = append(new, s)
		default:
			old = append(old, s)
			if late := s.at.Sub(published); late >= time.Millisecond {
				t.Fatalf("the old job was hashed until %v after the switch", late)
			}
		}
	}
	if len(old) == 0 || len(new) == 0 {
		t.Fatalf("%d calls on the old job, %d on the new", len(old), len(new))
	}
	// Some worker's last nonces on the old job are followed by its first on the new.
	last := old[len(old)-1]
	for _, s := range new {
		if s.first == last.first+uint32(last.n) && s.versions[0] == last.versions[0] {
			return
		}
	}
	t.Errorf("nothing on the new job follows nonce %d, where the old one was left", last.first+uint32(last.n)-1)
}

// TestNextPair: when all nonces are through, the search goes on with the next
// versions, and the time that took is not lost.
func TestNextPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		m := prepared(t, Config{Workers: 1, Kernel: "recorder"}, noSolutions(t), r.kernel(4))
		const last = 1000
		m.workers[0].cursor.setWidth(4)
		m.workers[0].cursor.nonce = sha256d.NonceSpace - last
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		m.begin(t)
		time.Sleep(100 * fakeCall)
		m.end(t)
		next, version := uint64(sha256d.NonceSpace-last), r.scans[0].versions[0]
		for i, s := range r.scans {
			if next == sha256d.NonceSpace {
				next, version = 0, version+4<<versionShift
			}
			if uint64(s.first) != next || s.versions[0] != version {
				t.Fatalf("scan %d is of version %08x from nonce %d, want %08x from %d", i, s.versions[0], s.first, version, next)
			}
			next += uint64(s.n)
		}
		if version == r.scans[0].versions[0] {
			t.Error("the first versions were not through")
		}
	})
}

func TestCallHashes(t *testing.T) {
	for _, c := range []struct {
		speed float64
		want  int
	}{
		{0, 256}, {math.NaN(), 256}, {100e3, 256}, {2.2e6, 512}, {4e6, 512}, {5e6, 1024}, {9e6, 2048}, {20e6, 4096}, {32.7e6, 4096}, {33e6, 8192}, {55e6, 8192}, {math.Inf(1), 8192},
	} {
		if got := callHashes(c.speed); got != c.want {
			t.Errorf("%g H/s: calls of %d hashes, want %d", c.speed, got, c.want)
		}
	}
}

func TestStatsAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		m := start(t, 2, r.kernel(16), noSolutions(t))
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		const took = 2 * time.Minute
		time.Sleep(took + fakeCall/2)
		s := m.Stats()
		want := uint64(took/fakeCall) * minCall
		for i, w := range s.Workers {
			if w.Hashes != want {
				t.Errorf("worker %d counts %d hashes, want %d", i, w.Hashes, want)
			}
			checkRates(t, w.Rates, fakeRate)
			if w.Kernel != "recorder" || w.Duty != 1 || w.CPU != (hw.Reading[int]{}) {
				t.Errorf("worker %d: %+v", i, w)
			}
			if w.ActiveSeconds < took.Seconds()-2*fakeCall.Seconds() || w.ActiveSeconds > took.Seconds() {
				t.Errorf("worker %d says it hashed for %v s, want %v", i, w.ActiveSeconds, took.Seconds())
			}
		}
		checkRates(t, s.Total.Rates, 2*fakeRate)
		if s.Total.Hashes != 2*want || s.Kernel != "recorder" || s.Active != 2 || s.Blocks != (BlockStats{}) || s.Duty != (DutyStats{Now: 1}) || len(s.Disabled) != 0 {
			t.Errorf("stats %+v", s)
		}
		m.end(t)
		var hashed uint64
		for _, s := range r.scans {
			hashed += uint64(s.n * len(s.versions))
		}
		if got := m.Stats().Total.Hashes; got != hashed {
			t.Errorf("%d hashes counted, %d done", got, hashed)
		}
	})
}

// checkRates: one call more or less at a window's edge is in the nature of it.
func checkRates(t *testing.T, r Rates, want float64) {
	t.Helper()
	for _, got := range []float64{r.Seconds5, r.Minute1, r.Minutes15} {
		if got < want*0.999 || got > want*1.001 {
			t.Errorf("rates %+v, want %v", r, want)
			return
		}
	}
}

func TestRefusesConfig(t *testing.T) {
	machine := hw.Inventory{Usable: hw.Usable{CPUs: hw.Known([]int{0, 1}), Threads: 2}}
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no workers", Config{Kernel: "auto"}, "0 mining workers: choose 1"},
		{"too many workers", Config{Kernel: "auto", Workers: maxWorkers + 1}, "mining workers"},
		{"kernel", Config{Workers: 1, Kernel: "quantum"}, `no kernel named "quantum": use auto or one of generic`},
		{"nice", Config{Kernel: "auto", Workers: 1, Nice: 20}, "nice level 20: choose -20 to 19"},
		{"duty", Config{Kernel: "auto", Workers: 1, Duty: 101}, "duty of 101 %: choose 1 to 100"},
		{"temperature", Config{Kernel: "auto", Workers: 1, MaxTemperature: -1}, "temperature limit of -1 °C: choose one above 0"},
		{"power", Config{Kernel: "auto", Workers: 1, MaxPower: math.NaN()}, "power limit of NaN W: choose one above 0"},
		{"no CPUs", Config{Kernel: "auto", Workers: 1, Pinning: PinList}, "list some"},
		{"CPU number", Config{Kernel: "auto", Workers: 1, Pinning: PinList, CPUs: []int{0, -1}}, "CPU -1"},
		{"CPU twice", Config{Kernel: "auto", Workers: 1, Pinning: PinList, CPUs: []int{1, 0, 1}}, "CPU 1 is listed twice"},
		{"CPU not ours", Config{Kernel: "auto", Workers: 1, Pinning: PinList, CPUs: []int{0, 7}}, "CPU 7: this process may only use CPUs [0 1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !hw.CanPin && c.cfg.Pinning == PinList {
				c.want = "only be pinned to CPUs on Linux"
			}
			c.cfg.Machine = machine
			_, err := New(c.cfg, sha256d.Kernels(), nil, nil, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestHeaderTime(t *testing.T) {
	for _, c := range []struct {
		name string
		job  work.Job
		want uint32
	}{
		{"the clock has moved on", work.Job{Time: 900, MinTime: 800}, 1000},
		{"the job is ahead of the clock", work.Job{Time: 1100, MinTime: 800}, 1100},
		{"the chain's minimum is ahead of both", work.Job{Time: 900, MinTime: 1200}, 1200},
		{"fallback: as it is", work.Job{Time: 900, MinTime: 800, Fallback: true}, 900},
		{"fallback: never below the minimum", work.Job{Time: 900, MinTime: 950, Fallback: true}, 950},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := headerTime(&c.job, time.Unix(1000, 5)); got != c.want {
				t.Fatalf("%d, want %d", got, c.want)
			}
		})
	}
}
