package hw

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/cpuid/v2"
	"pgregory.net/rapid"
)

// tree loads a recorded file system: a comment, then "-- name --" before each
// file's text.
func tree(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	archive, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	var file *fstest.MapFile
	for line := range strings.Lines(string(archive)) {
		if name, ok := strings.CutPrefix(line, "-- "); ok {
			file = &fstest.MapFile{}
			fsys[strings.TrimSuffix(name, " --\n")] = file
		} else if file != nil {
			file.Data = append(file.Data, line...)
		}
	}
	return fsys
}

var unknown = Reading[int]{}

// exported lets cmp look into Reading.
var exported = cmp.Exporter(func(t reflect.Type) bool { return strings.HasPrefix(t.Name(), "Reading[") })

// summary is what a table of whole machines can show.
type summary struct {
	Board, Vendor, Model        Reading[string]
	Logical, Physical, PerCore  Reading[int]
	L1I, L1D, L2, L3            Reading[int]
	Packages, Cores, Nodes      []Reading[int]
	Online                      []Reading[bool]
	Siblings                    []Reading[[]int]
	FirstCapacity, LastCapacity Reading[int]
	FirstMaxHz                  Reading[int64]
	Usable                      Usable
}

func summarise(inv Inventory) summary {
	s := summary{
		Board: inv.Board, Vendor: inv.CPU.Vendor, Model: inv.CPU.Model,
		Logical: inv.CPU.LogicalCores, Physical: inv.CPU.PhysicalCores, PerCore: inv.CPU.ThreadsPerCore,
		L1I: inv.CPU.L1I, L1D: inv.CPU.L1D, L2: inv.CPU.L2, L3: inv.CPU.L3, Usable: inv.Usable,
	}
	for i, c := range inv.CPUs {
		s.Packages, s.Cores, s.Nodes = append(s.Packages, c.Package), append(s.Cores, c.Core), append(s.Nodes, c.Node)
		s.Online, s.Siblings = append(s.Online, c.Online), append(s.Siblings, c.Siblings)
		if i == 0 {
			s.FirstCapacity, s.FirstMaxHz = c.Capacity, c.MaxHz
		}
		s.LastCapacity = c.Capacity
	}
	return s
}

func known[T any](values ...T) []Reading[T] {
	var readings []Reading[T]
	for _, v := range values {
		readings = append(readings, Known(v))
	}
	return readings
}

func TestDetectTrees(t *testing.T) {
	for _, c := range []struct {
		name string
		mask Reading[[]int]
		want summary
	}{
		{"xeon-guest.txtar", Known([]int{0, 1}), summary{
			Logical: Known(2), Physical: Known(2), PerCore: Known(1),
			L1I: Known(64 << 10), L1D: Known(48 << 10), L2: Known(2 << 20), L3: Known(480 << 20),
			Packages: known(0, 0), Cores: known(0, 1), Nodes: known(0, 0), Online: known(true, true),
			Siblings: known([]int{0}, []int{1}), FirstCapacity: Known(1024), LastCapacity: Known(1024),
			Usable: Usable{CPUs: Known([]int{0, 1}), Threads: 2},
		}},
		{"two-sockets-smt.txtar", Known([]int{0, 1, 4, 5}), summary{
			Logical: Known(7), Physical: Known(4), PerCore: Known(2),
			L1I: Known(32 << 10), L1D: Known(32 << 10), L2: Known(1 << 20), L3: Known(32 << 20),
			Packages: append(known(0, 0, 1, 1, 0, 0, 1), unknown), Cores: append(known(0, 1, 0, 1, 0, 1, 0), unknown),
			Nodes: append(known(0, 0, 1, 1, 0, 0, 1), unknown), Online: known(true, true, true, true, true, true, true, false),
			Siblings:   append(known([]int{0, 4}, []int{1, 5}, []int{2, 6}, []int{3}, []int{0, 4}, []int{1, 5}, []int{2, 6}), Reading[[]int]{}),
			FirstMaxHz: Known[int64](3_700_000_000),
			Usable:     Usable{CPUs: Known([]int{0, 1, 4, 5}), Quota: Known(2.5), Threads: 3},
		}},
		{"arm-big-little.txtar", Known([]int{4, 5, 6, 7}), summary{
			Board: Known("Example RK3588 Board"), Vendor: Known("ARM"), Model: Known("Cortex-A55 + Cortex-A76"),
			Logical: Known(8), Physical: Known(8), PerCore: Known(1),
			Packages: known(0, 0, 0, 0, 0, 0, 0, 0), Cores: known(0, 1, 2, 3, 0, 1, 2, 3), Nodes: known(0, 0, 0, 0, 0, 0, 0, 0),
			Online:        known(true, true, true, true, true, true, true, true),
			Siblings:      known([]int{0}, []int{1}, []int{2}, []int{3}, []int{4}, []int{5}, []int{6}, []int{7}),
			FirstCapacity: Known(414), LastCapacity: Known(1024), FirstMaxHz: Known[int64](1_800_000_000),
			Usable: Usable{CPUs: Known([]int{4, 5, 6, 7}), Threads: 4},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := summarise(detect(tree(t, c.name), CPU{}, c.mask, 99))
			if diff := cmp.Diff(c.want, got, exported); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// TestNothingReadable: no sysfs, no proc, no cpuid. All is unknown, and one
// thread still makes sense.
func TestNothingReadable(t *testing.T) {
	inv := detect(fstest.MapFS{}, fromCPUID(&cpuid.CPUInfo{}), Reading[[]int]{}, 0)
	want := Inventory{OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: CPU{Features: []Feature{}}, CPUs: []LogicalCPU{}, Usable: Usable{Threads: 1}}
	if diff := cmp.Diff(want, inv, exported); diff != "" {
		t.Fatal(diff)
	}
	var text strings.Builder
	if err := inv.WriteText(&text); err != nil || !strings.Contains(text.String(), "unknown") {
		t.Fatalf("error %v, text %q", err, text.String())
	}
}

func TestQuota(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Reading[float64]
	}{
		{"no control groups", nil, Reading[float64]{}},
		{"version 2, container root", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, Known(0.5)},
		{"version 2, no limit", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, Reading[float64]{}},
		{"version 2, path of the host is not mounted", map[string]string{
			"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/cpu.max": "300000 100000\n",
		}, Known(3.0)},
		{"version 2, tightest of three", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "200000 100000",
			"sys/fs/cgroup/a/cpu.max": "150000 100000", "sys/fs/cgroup/cpu.max": "400000 100000",
		}, Known(1.5)},
		{"version 1", map[string]string{
			"proc/self/cgroup": "4:cpu,cpuacct:/x\n3:cpuset:/y\n",
			"sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us":   "120000\n",
			"sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us":  "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":     "-1\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":    "100000\n",
			"sys/fs/cgroup/cpuset/y/cpu.cfs_quota_us":        "1\n",
			"sys/fs/cgroup/cpuset/y/cpu.cfs_period_us":       "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/zz/cpu.cfs_quota_us":  "1\n",
			"sys/fs/cgroup/cpu,cpuacct/zz/cpu.cfs_period_us": "100000\n",
		}, Known(1.2)},
		{"nonsense", map[string]string{"proc/self/cgroup": "x\n0:/\n0::/../../etc\n", "sys/fs/cgroup/cpu.max": "1 0"}, Reading[float64]{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, text := range c.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := cgroupQuota(fsys); got != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestParseCPUList(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int // nil: an error
	}{
		{"0", []int{0}},
		{"0-3,8", []int{0, 1, 2, 3, 8}},
		{"8,0-1", []int{0, 1, 8}},
		{"1,1-2", []int{1, 2}},
		{"", nil},
		{"a", nil},
		{"3-1", nil},
		{"-1", nil},
		{"0-9999", nil},
		{"1-2-3", nil},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := parseCPUList(c.text)
			if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
				t.Fatalf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestCPUListRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfNDistinct(rapid.IntRange(0, maxCPUs-1), 1, 40, rapid.ID).Draw(t, "list")
		slices.Sort(list)
		got, err := parseCPUList(listText(Known(list)))
		if err != nil || !slices.Equal(got, list) {
			t.Fatalf("%v, %v; want %v", got, err, list)
		}
	})
}

func FuzzParseCPUList(f *testing.F) {
	f.Add("0-3,8")
	f.Add("4294967296,,-")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseCPUList(text)
		if err == nil && (len(list) == 0 || !slices.IsSorted(list) || list[0] < 0 || list[len(list)-1] >= maxCPUs) {
			t.Fatalf("%q gave %v", text, list)
		}
	})
}

func TestFromCPUID(t *testing.T) {
	c := cpuid.CPUInfo{
		BrandName: "Some  CPU @ 2.60GHz ", VendorString: "GenuineIntel", PhysicalCores: 2, LogicalCores: 4, ThreadsPerCore: 2,
		Family: 6, Model: 0, Stepping: 0, CacheLine: 64, Hz: 2_600_000_000,
	}
	c.Cache.L1I, c.Cache.L1D, c.Cache.L2, c.Cache.L3 = 32768, 49152, -1, -1
	c.Enable(cpuid.SHA, cpuid.AVX2)
	want := CPU{
		Model: Known("Some CPU @ 2.60GHz"), Vendor: Known("GenuineIntel"),
		Family: Known(6), ModelNumber: Known(0), Stepping: Known(0),
		LogicalCores: Known(4), PhysicalCores: Known(2), ThreadsPerCore: Known(2), CacheLine: Known(64),
		L1I: Known(32768), L1D: Known(49152), BaseHz: Known[int64](2_600_000_000), Features: []Feature{SHANI, AVX2},
	}
	if diff := cmp.Diff(want, fromCPUID(&c), exported); diff != "" {
		t.Fatal(diff)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	inv := detect(tree(t, "two-sockets-smt.txtar"), CPU{Features: []Feature{AVX2}}, Known([]int{0, 2}), 8)
	b, err := json.Marshal(inv)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(`"baseHz":null`)) || !bytes.Contains(b, []byte(`"quota":2.5`)) {
		t.Fatalf("unexpected JSON %s", b)
	}
	var back Inventory
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inv, back, exported); diff != "" {
		t.Fatal(diff)
	}
}

func TestReadingRefusesWrongJSON(t *testing.T) {
	r := Known(3)
	if err := json.Unmarshal([]byte(`"x"`), &r); err == nil {
		t.Fatal("a text was taken for a number")
	}
	if _, known := r.Get(); known {
		t.Fatal("a value remained after a failed decode")
	}
}

func TestWriteTextGolden(t *testing.T) {
	cpu := CPU{Model: Known("Example CPU"), BaseHz: Known[int64](2_600_000_000), Features: []Feature{SHANI, AVX2}}
	inv := detect(tree(t, "two-sockets-smt.txtar"), cpu, Known([]int{0, 1, 4, 5}), 8)
	inv.OS, inv.Arch = "linux", "amd64"
	var got bytes.Buffer
	if err := inv.WriteText(&got); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/two-sockets-smt.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Fatal(diff)
	}
}

type brokenWriter struct{}

var errBroken = errors.New("pipe closed")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteTextReportsItsWriter(t *testing.T) {
	if err := (Inventory{}).WriteText(brokenWriter{}); !errors.Is(err, errBroken) {
		t.Fatalf("error %v", err)
	}
}

// TestDetectHere reads the machine the test runs on: what must hold anywhere.
func TestDetectHere(t *testing.T) {
	inv := Detect(os.DirFS("/"))
	if inv.Usable.Threads < 1 {
		t.Fatalf("%d threads", inv.Usable.Threads)
	}
	if cpus, ok := inv.Usable.CPUs.Get(); ok && (len(cpus) == 0 || inv.Usable.Threads > len(cpus)) {
		t.Fatalf("%d threads on CPUs %v", inv.Usable.Threads, cpus)
	}
	if runtime.GOOS == "linux" && len(inv.CPUs) == 0 {
		t.Fatal("no CPU found in sysfs")
	}
}
