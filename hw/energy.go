package hw

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// powercap is documented in the kernel's Documentation/power/powercap/powercap.rst.
const powercap = "sys/class/powercap"

// Energy counts the energy that the processor packages of this machine take:
// cores, caches and memory controller, for whatever runs on them. It serves one
// goroutine.
type Energy struct {
	fsys  fs.FS
	zones []energyZone
	total float64 // µJ since OpenEnergy
}

// energyZone is the counter of one package.
type energyZone struct {
	dir   string
	limit int64 // µJ; after it the counter begins at zero again
	last  int64 // µJ
}

// OpenEnergy finds the packages' counters. root is the root of the file system
// that holds sys, os.DirFS("/") outside tests. The error says why the energy is
// unknown: no counters (virtual machines), or counters that only root may read.
// A machine of which not all packages can be read is unknown, too.
func OpenEnergy(root fs.FS) (*Energy, error) {
	entries, err := fs.ReadDir(root, powercap)
	if err != nil || len(entries) == 0 {
		return nil, errors.New("this machine shows no energy counters (/" + powercap + " is missing or empty)")
	}
	e := Energy{fsys: root}
	known := map[string]bool{}
	for _, entry := range entries {
		z := energyZone{dir: path.Join(powercap, entry.Name())}
		// Parts of a package ("core", "dram") and the whole machine ("psys") have
		// counters as well. A package may have two, intel-rapl:0 and
		// intel-rapl-mmio:0, under one name; either will do.
		name := readText(root, z.dir+"/name").Or("")
		if !strings.HasPrefix(name, "package-") || known[name] {
			continue
		}
		known[name] = true
		if z.limit, err = readMicrojoules(root, z.dir+"/max_energy_range_uj"); err != nil {
			return nil, err
		}
		if z.last, err = readMicrojoules(root, z.dir+"/energy_uj"); err != nil {
			return nil, err
		}
		e.zones = append(e.zones, z)
	}
	if len(e.zones) == 0 {
		return nil, errors.New("this machine shows no energy counter of a processor package in /" + powercap)
	}
	return &e, nil
}

// Joules returns the energy taken since OpenEnergy; it never falls. It must be
// called more often than a counter comes round, which takes a quarter of an hour
// or more: what a whole round took is lost. After an error nothing is lost, and
// the next call may succeed.
func (e *Energy) Joules() (float64, error) {
	now := make([]int64, len(e.zones))
	for i, z := range e.zones {
		var err error
		if now[i], err = readMicrojoules(e.fsys, z.dir+"/energy_uj"); err != nil {
			return 0, err
		}
		if now[i] < z.last && z.limit < z.last {
			return 0, fmt.Errorf("%s/energy_uj fell from %d to %d, which is not its limit of %d", z.dir, z.last, now[i], z.limit)
		}
	}
	for i := range e.zones {
		z := &e.zones[i]
		used := now[i] - z.last
		if used < 0 {
			used += z.limit
		}
		z.last = now[i]
		e.total += float64(used)
	}
	return e.total / 1e6, nil
}

func readMicrojoules(fsys fs.FS, name string) (int64, error) {
	b, err := fs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("energy counter /%s may not be read: run as root, or as root chmod a+r it", name)
	}
	if err != nil {
		return 0, fmt.Errorf("read energy counter: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("energy counter /%s holds %q, which is not a number of microjoules", name, strings.TrimSpace(string(b)))
	}
	return n, nil
}
