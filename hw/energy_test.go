package hw

import (
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	package0     = powercap + "/intel-rapl:0/energy_uj"
	package0mmio = powercap + "/intel-rapl-mmio:0/energy_uj"
	package1     = powercap + "/intel-rapl:1/energy_uj"
)

// set moves the counters of a package on: a package that is counted twice would
// show.
func set(fsys fstest.MapFS, microjoules int64, files ...string) {
	for _, f := range files {
		fsys[f] = &fstest.MapFile{Data: []byte(strconv.FormatInt(microjoules, 10) + "\n")}
	}
}

// TestEnergy: packages alone are counted, once each, and a counter may come round.
func TestEnergy(t *testing.T) {
	fsys := tree(t, "rapl-two-packages.txtar")
	e, err := OpenEnergy(fsys)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want float64) {
		t.Helper()
		if got, err := e.Joules(); err != nil || got != want {
			t.Fatalf("%v J, %v; want %v J", got, err, want)
		}
	}
	check(0)
	set(fsys, 3_500_000, package0, package0mmio)
	check(2.5)
	check(2.5)
	// From 328,850 µJ below its limit, round, to 171,150 µJ.
	set(fsys, 171_150, package1)
	check(3)
	set(fsys, 1_171_150, package1)
	set(fsys, 4_500_000, package0, package0mmio)
	check(5)
}

// TestEnergyError: a reading that fails loses nothing and counts nothing twice.
func TestEnergyError(t *testing.T) {
	fsys := tree(t, "rapl-two-packages.txtar")
	e, err := OpenEnergy(fsys)
	if err != nil {
		t.Fatal(err)
	}
	set(fsys, 2_000_000, package0, package0mmio)
	kept := fsys[package1]
	delete(fsys, package1)
	if j, err := e.Joules(); err == nil {
		t.Fatalf("%v J without package 1", j)
	}
	fsys[package1] = kept
	if j, err := e.Joules(); err != nil || j != 1 {
		t.Fatalf("%v J, %v; want 1 J", j, err)
	}
}

// forbidden is a file system in which one file may not be read.
type forbidden struct {
	fstest.MapFS
	name string
}

func (f forbidden) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.MapFS.Open(name)
}

// ReadFile hides that of MapFS.
func (f forbidden) ReadFile(name string) ([]byte, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.MapFS.ReadFile(name)
}

func TestEnergyUnknown(t *testing.T) {
	spoilt := func(file, text string) fs.FS {
		fsys := tree(t, "rapl-two-packages.txtar")
		fsys[file] = &fstest.MapFile{Data: []byte(text)}
		return fsys
	}
	for _, c := range []struct {
		name string
		root fs.FS
		want string
	}{
		{"no powercap", fstest.MapFS{}, "no energy counters"},
		{"no package", fstest.MapFS{powercap + "/dtpm/name": {Data: []byte("dtpm\n")}}, "no energy counter of a processor package"},
		{"for root only", forbidden{tree(t, "rapl-two-packages.txtar"), package1}, "/" + package1 + " may not be read: run as root"},
		{"not a number", spoilt(package1, "n/a\n"), `holds "n/a"`},
		{"negative", spoilt(package1, "-1\n"), `holds "-1"`},
		{"no limit", spoilt(powercap+"/intel-rapl:1/max_energy_range_uj", ""), "max_energy_range_uj"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := OpenEnergy(c.root)
			if err == nil || !strings.Contains(err.Error(), c.want) || e != nil {
				t.Fatalf("%v, %v; want %q", e, err, c.want)
			}
		})
	}
}

// TestEnergyFalls: a counter that falls from above its limit would make the total
// fall.
func TestEnergyFalls(t *testing.T) {
	fsys := tree(t, "rapl-two-packages.txtar")
	set(fsys, 1000, powercap+"/intel-rapl:1/max_energy_range_uj")
	e, err := OpenEnergy(fsys)
	if err != nil {
		t.Fatal(err)
	}
	set(fsys, 5, package1)
	if j, err := e.Joules(); err == nil || !strings.Contains(err.Error(), "fell") {
		t.Fatalf("%v J, %v", j, err)
	}
}
