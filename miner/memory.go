package miner

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// Store keeps one small file between runs.
type Store interface {
	// Load returns what Save was last given.
	Load() ([]byte, error)
	// Save replaces it in one step.
	Save([]byte) error
}

// machine is what a measurement holds for: another CPU, another program or
// another number of versions may make another kernel the fastest.
type machine struct {
	CPU      string       `json:"cpu"`
	Features []hw.Feature `json:"features"`
	Kernels  []string     `json:"kernels"`
	Versions int          `json:"versions"` // that may be rolled
}

func (m *machine) is(other *machine) bool {
	return m.CPU == other.CPU && m.Versions == other.Versions &&
		slices.Equal(m.Features, other.Features) && slices.Equal(m.Kernels, other.Kernels)
}

// memo is the content of a Store.
type memo struct {
	Machine         machine `json:"machine"`
	Kernel          string  `json:"kernel"`
	HashesPerSecond float64 `json:"hashesPerSecond"` // of one worker
}

// memory remembers which kernel was the fastest. A nil memory forgets.
type memory struct {
	store   Store
	machine machine
}

func newMemory(store Store, inv *hw.Inventory, features []hw.Feature, kernels []sha256d.Kernel) *memory {
	if store == nil {
		return nil
	}
	m := &memory{store, machine{CPU: inv.CPU.Model.Or(""), Features: features, Versions: versionCount}}
	for _, k := range kernels {
		m.machine.Kernels = append(m.machine.Kernels, k.Name)
	}
	return m
}

// load returns the remembered kernel; ok is false when there is none for this
// machine. Whatever is wrong with the file only costs a new measurement.
func (m *memory) load() (kernel string, rate float64, ok bool) {
	if m == nil {
		return "", 0, false
	}
	b, err := m.store.Load()
	if err != nil {
		return "", 0, false
	}
	var found memo
	if json.Unmarshal(b, &found) != nil || !found.Machine.is(&m.machine) || !slices.Contains(m.machine.Kernels, found.Kernel) {
		return "", 0, false
	}
	if rate = found.HashesPerSecond; !(rate > 0) || math.IsInf(rate, 0) {
		return "", 0, false
	}
	return found.Kernel, rate, true
}

func (m *memory) save(c *choice) error {
	if m == nil {
		return nil
	}
	b, err := json.MarshalIndent(memo{m.machine, c.kernel.Name, c.rate}, "", "  ")
	if err != nil {
		return fmt.Errorf("remember kernel: %w", err)
	}
	return m.store.Save(append(b, '\n'))
}
