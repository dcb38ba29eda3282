package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	firmwareapi "qcitycoin.org/qcity/firmware-api"
	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner"
	"qcitycoin.org/qcity/stratum/pool"
)

// TestMinerFigures: what the status shows of the CPU miner.
func TestMinerFigures(t *testing.T) {
	cpu, degrees := 3, 71.5
	st := miner.Stats{
		Kernel: "fast", Duty: miner.DutyStats{Now: 0.75, Temperature: hw.Known(degrees)},
		Workers: []miner.WorkerStats{
			{Tally: miner.Tally{Hashes: 100, Rates: miner.Rates{Seconds5: 1, Minute1: 2, Minutes15: 3}}, CPU: hw.Known(cpu), Kernel: "fast", Duty: 0.75, ActiveSeconds: 4},
			{Kernel: "slow"},
		},
	}
	want := &firmwareapi.CPUMiner{
		Kernel: "fast", Duty: 0.75, Temperature: &degrees,
		Workers: []firmwareapi.CPUWorker{{CPU: &cpu, Kernel: "fast", HashRate: 2, Hashes: 100, ActiveSeconds: 4}, {Kernel: "slow"}},
	}
	if diff := cmp.Diff(want, cpuMiner(&st)); diff != "" {
		t.Error(diff)
	}
	if alerts := minerAlerts(&st); len(alerts) != 0 {
		t.Errorf("alerts %+v without a reason", alerts)
	}
}

// TestMinerAlerts: a kernel that failed and a sensor that cannot be read.
func TestMinerAlerts(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	got := minerAlerts(&miner.Stats{
		Disabled: []miner.DisabledKernel{{Name: "fast", Reason: "it is wrong", Since: at}},
		Duty:     miner.DutyStats{Now: 0.5, Problem: "no thermometer", Since: at.Add(time.Minute)},
	})
	want := []firmwareapi.Alert{
		{Level: "warning", Message: "CPU miner: hashing kernel fast is disabled: it is wrong", Since: "2026-11-23T12:00:00Z"},
		{Level: "warning", Message: "CPU miner: no thermometer", Since: "2026-11-23T12:01:00Z"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKernelMemory(t *testing.T) {
	f := kernelMemory(filepath.Join(t.TempDir(), kernelFile))
	if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first save: %v", err)
	}
	for _, text := range []string{"one", "another"} {
		if err := f.Save([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Load(); err != nil || string(got) != text {
			t.Errorf("%q, error %v, want %q", got, err, text)
		}
	}
}

// TestEnergyCounter: one that could not be opened is tried again.
func TestEnergyCounter(t *testing.T) {
	root := fstest.MapFS{}
	read := energyCounter(root)
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "energy counter") {
		t.Fatalf("error %v", err)
	}
	for name, text := range map[string]string{"name": "package-0", "max_energy_range_uj": "1000000000", "energy_uj": "5000000"} {
		root["sys/class/powercap/intel-rapl:0/"+name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	for _, want := range []float64{0, 2} {
		if got, err := read(); err != nil || got != want {
			t.Fatalf("%v J, error %v, want %v", got, err, want)
		}
		root["sys/class/powercap/intel-rapl:0/energy_uj"].Data = []byte("7000000\n")
	}
}

// TestBooksAlert: books that cannot be written are on the status page.
func TestBooksAlert(t *testing.T) {
	since := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	var stats pool.JournalStats
	m := &monitor{books: func() pool.JournalStats { return stats }}
	if list := m.alerts(&firmwareapi.Status{}, &signerState{}); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	stats = pool.JournalStats{Failing: since, Err: "no space left on device"}
	list := m.alerts(&firmwareapi.Status{}, &signerState{})
	if len(list) != 1 || list[0].Level != "error" || list[0].Since != "2027-01-02T03:04:05Z" || !strings.Contains(list[0].Message, "no space left") {
		t.Errorf("%+v", list)
	}
}
