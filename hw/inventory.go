package hw

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/klauspost/cpuid/v2"
)

// Inventory is everything this package reads about a machine.
type Inventory struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// Board is the machine's name from the device tree (single-board computers).
	Board  Reading[string] `json:"board"`
	CPU    CPU             `json:"cpu"`
	CPUs   []LogicalCPU    `json:"cpus"`
	Usable Usable          `json:"usable"`
}

// Detect reads the machine it runs on. fsys is the root of the file system that
// holds sys and proc, os.DirFS("/") outside tests.
func Detect(fsys fs.FS) Inventory {
	cpu := fromCPUID(&cpuid.CPU)
	cpu.Features = Features()
	if CheckFeatureOverride() == nil {
		cpu.FeatureOverride = strings.TrimSpace(os.Getenv(FeatureEnv))
	}
	return detect(fsys, cpu, affinity(), runtime.NumCPU())
}

// detect merges what the CPU says with what sysfs says. Counts come from sysfs
// where it has them: it sees all packages, and what the kernel really runs.
func detect(fsys fs.FS, cpu CPU, mask Reading[[]int], numCPU int) Inventory {
	inv := Inventory{
		OS: runtime.GOOS, Arch: runtime.GOARCH,
		Board:  readText(fsys, "sys/firmware/devicetree/base/model"),
		CPU:    cpu,
		CPUs:   topology(fsys),
		Usable: usable(fsys, mask, numCPU),
	}
	logical, physical, perCore := coreCounts(inv.CPUs)
	prefer(&inv.CPU.LogicalCores, logical)
	prefer(&inv.CPU.PhysicalCores, physical)
	prefer(&inv.CPU.ThreadsPerCore, perCore)
	if len(inv.CPUs) > 0 {
		l1i, l1d, l2, l3 := caches(fsys, inv.CPUs[0].ID)
		prefer(&inv.CPU.L1I, l1i)
		prefer(&inv.CPU.L1D, l1d)
		prefer(&inv.CPU.L2, l2)
		prefer(&inv.CPU.L3, l3)
	}
	vendor, model := armModel(fsys, inv.CPUs)
	prefer(&inv.CPU.Vendor, vendor)
	prefer(&inv.CPU.Model, model)
	return inv
}

// prefer replaces a reading by a better one if that is known.
func prefer[T any](r *Reading[T], better Reading[T]) {
	if better.known {
		*r = better
	}
}

// WriteText prints the inventory as a table for people.
func (inv Inventory) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	c := &inv.CPU
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("CPU", "%s", c.Model)
	row("vendor", "%s (family %s, model %s, stepping %s)", c.Vendor, c.Family, c.ModelNumber, c.Stepping)
	if board, ok := inv.Board.Get(); ok {
		row("board", "%s", board)
	}
	if hypervisor, ok := c.Hypervisor.Get(); ok {
		row("hypervisor", "%s", hypervisor)
	}
	row("platform", "%s/%s", inv.OS, inv.Arch)
	row("cores", "%s physical, %s logical, %s per core", c.PhysicalCores, c.LogicalCores, c.ThreadsPerCore)
	row("usable CPUs", "%s, quota %s: %d threads", listText(inv.Usable.CPUs), quotaText(inv.Usable.Quota), inv.Usable.Threads)
	row("caches", "L1i %s, L1d %s, L2 %s, L3 %s, line %s", size(c.L1I), size(c.L1D), size(c.L2), size(c.L3), size(c.CacheLine))
	row("frequency", "base %s, boost %s", hertz(c.BaseHz), hertz(c.BoostHz))
	row("features", "%s", featureText(c.Features))
	if c.FeatureOverride != "" {
		row("", "changed by %s=%s", FeatureEnv, c.FeatureOverride)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print inventory: %w", err)
	}
	return inv.writeTopology(w)
}

func (inv Inventory) writeTopology(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nCPU\tonline\tpackage\tcore\tnode\tsiblings\tmax\n")
	for _, c := range inv.CPUs {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n",
			c.ID, yesNo(c.Online), c.Package, c.Core, c.Node, listText(c.Siblings), hertz(c.MaxHz))
	}
	if len(inv.CPUs) == 0 {
		fmt.Fprintln(t, "unknown: no sysfs")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print inventory: %w", err)
	}
	return nil
}

func featureText(features []Feature) string {
	if len(features) == 0 {
		return "none that help hashing"
	}
	return joined(features, " ")
}

func yesNo(r Reading[bool]) string {
	b, ok := r.Get()
	switch {
	case !ok:
		return "unknown"
	case b:
		return "yes"
	default:
		return "no"
	}
}

// quotaText: unknown covers "no limit", and nothing finer can be said.
func quotaText(r Reading[float64]) string {
	if !r.known {
		return "none seen"
	}
	return r.format("%.2f CPUs")
}

// size prints bytes in the largest binary unit that divides them.
func size(r Reading[int]) string {
	n, ok := r.Get()
	switch {
	case !ok:
		return "unknown"
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

func hertz(r Reading[int64]) string {
	if n, ok := r.Get(); ok {
		return fmt.Sprintf("%.2f GHz", float64(n)/1e9)
	}
	return "unknown"
}

// listText prints a CPU list the way the kernel does, such as "0-3,8".
func listText(r Reading[[]int]) string {
	list, ok := r.Get()
	if !ok {
		return "unknown"
	}
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(list[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
