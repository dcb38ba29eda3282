package miner

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/work"
)

// cpus makes a machine's CPUs from their cores: cores[i] lists the CPUs of one.
func cpus(cores ...[]int) (list []hw.LogicalCPU) {
	for _, siblings := range cores {
		for _, id := range siblings {
			list = append(list, hw.LogicalCPU{ID: id, Online: hw.Known(true), Siblings: hw.Known(siblings)})
		}
	}
	slices.SortFunc(list, func(a, b hw.LogicalCPU) int { return a.ID - b.ID })
	return list
}

// capable sets how strong each CPU is.
func capable(list []hw.LogicalCPU, capacity ...int) []hw.LogicalCPU {
	for i := range list {
		list[i].Capacity = hw.Known(capacity[i])
	}
	return list
}

// TestPinOrder: cores first, their further threads after.
func TestPinOrder(t *testing.T) {
	if !hw.CanPin {
		t.Skip("threads cannot be pinned here")
	}
	for _, c := range []struct {
		name   string
		cpus   []hw.LogicalCPU
		usable hw.Reading[[]int]
		want   []int
	}{
		{"two cores", cpus([]int{0}, []int{1}), hw.Known([]int{0, 1}), []int{0, 1}},
		{"siblings far apart", cpus([]int{0, 4}, []int{1, 5}, []int{2, 6}, []int{3, 7}), hw.Known([]int{0, 1, 2, 3, 4, 5, 6, 7}), []int{0, 1, 2, 3, 4, 5, 6, 7}},
		{"siblings side by side", cpus([]int{0, 1}, []int{2, 3}, []int{4, 5}), hw.Known([]int{0, 1, 2, 3, 4, 5}), []int{0, 2, 4, 1, 3, 5}},
		{"some cores with one thread only", cpus([]int{0, 1}, []int{2, 3}, []int{4}, []int{5}), hw.Known([]int{0, 1, 2, 3, 4, 5}), []int{0, 2, 4, 5, 1, 3}},
		{"the first threads are not ours", cpus([]int{0, 1}, []int{2, 3}), hw.Known([]int{1, 2, 3}), []int{1, 2, 3}},
		{"strong cores first", capable(cpus([]int{0}, []int{1}, []int{2}, []int{3}), 414, 414, 1024, 1024), hw.Known([]int{0, 1, 2, 3}), []int{2, 3, 0, 1}},
		{"siblings of strong cores after weak cores", capable(cpus([]int{0, 1}, []int{2}), 1024, 1024, 500), hw.Known([]int{0, 1, 2}), []int{0, 2, 1}},
		{"no topology", nil, hw.Known([]int{3, 5}), []int{3, 5}},
		{"nothing known", cpus([]int{0}), hw.Reading[[]int]{}, []int{}},
		{"more CPUs than a mask has room for", nil, hw.Known([]int{1023, 1024}), []int{1023}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Machine: hw.Inventory{CPUs: c.cpus, Usable: hw.Usable{CPUs: c.usable}}}
			got, err := cfg.placement()
			if err != nil || !slices.Equal(got, c.want) {
				t.Fatalf("%v, error %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestPlacement: which CPUs each of four workers keeps to.
func TestPlacement(t *testing.T) {
	if !hw.CanPin {
		t.Skip("threads cannot be pinned here")
	}
	machine := hw.Inventory{CPUs: cpus([]int{0, 1}, []int{2, 3}), Usable: hw.Usable{CPUs: hw.Known([]int{0, 1, 2})}}
	for _, c := range []struct {
		name string
		cfg  Config
		want [][]int
	}{
		{"auto", Config{}, [][]int{{0}, {2}, {1}, {0, 2, 1}}},
		{"off", Config{Pinning: PinOff}, [][]int{nil, nil, nil, nil}},
		{"list, in its order", Config{Pinning: PinList, CPUs: []int{2, 0}}, [][]int{{2}, {0}, {2, 0}, {2, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Machine = machine
			order, err := c.cfg.placement()
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				if got := cpusFor(i, order); !slices.Equal(got, want) {
					t.Errorf("worker %d keeps to %v, want %v", i, got, want)
				}
			}
		})
	}
}

func TestCrowded(t *testing.T) {
	two := hw.Usable{CPUs: hw.Known([]int{0, 1}), Threads: 2}
	quota := hw.Usable{CPUs: hw.Known([]int{0, 1, 2, 3}), Quota: hw.Known(1.5), Threads: 2}
	for _, c := range []struct {
		name   string
		cfg    Config
		usable hw.Usable
		want   string // in the line; "": no line
	}{
		{"as many", Config{Workers: 2}, two, ""},
		{"more than CPUs", Config{Workers: 3}, two, "3 mining threads share the 2 CPUs this process may use: lower the number of threads to 2"},
		{"more than CPUs, not pinned", Config{Workers: 3, Pinning: PinOff}, two, "3 mining threads share the 2 CPUs"},
		{"more than the quota feeds", Config{Workers: 4}, quota, "4 mining threads share the CPU quota of this process's control group, which feeds 1.5 CPUs: lower the number of threads to 2"},
		{"within the quota", Config{Workers: 2}, quota, ""},
		{"more than listed", Config{Workers: 2, Pinning: PinList, CPUs: []int{1}}, two, "2 mining threads share the 1 CPUs listed"},
		{"as many as listed", Config{Workers: 1, Pinning: PinList, CPUs: []int{1}}, two, ""},
		{"nothing known", Config{Workers: 64}, hw.Usable{Threads: 1}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Machine.Usable = c.usable
			got := c.cfg.crowded(c.cfg.CPUs)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
				t.Fatalf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestWorkersThanCPUs: more workers than CPUs is worth a line, and they mine.
func TestWorkersThanCPUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		usable := hw.Detect(nowhere).Usable // no files, but the real affinity mask
		mine, known := usable.CPUs.Get()
		r := &recorder{forget: true}
		cfg := Config{Workers: len(mine) + 2, Kernel: "recorder", Machine: hw.Inventory{Usable: usable}}
		m := startWith(t, cfg, noSolutions(t), r.kernel(1))
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(time.Second)
		s := m.Stats()
		m.end(t)
		if s.Active != cfg.Workers {
			t.Errorf("%d of %d workers hash", s.Active, cfg.Workers)
		}
		if !known {
			return
		}
		m.logs.wantOneLine(t, "mining threads share")
		for i, w := range s.Workers {
			want := hw.Reading[int]{}
			if i < len(mine) {
				want = hw.Known(mine[i])
			}
			if w.CPU != want {
				t.Errorf("worker %d is pinned to %v, want %v", i, w.CPU, want)
			}
		}
	})
}
