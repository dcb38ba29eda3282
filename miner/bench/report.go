package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// Setup says what a result is a result of.
type Setup struct {
	Date     string       `json:"date"`    // RFC 3339
	Version  string       `json:"version"` // of this program
	CPU      string       `json:"cpu"`     // "" when it does not say
	Features []hw.Feature `json:"features"`
	// UsableCPUs are those this process may run on; null when unknown.
	UsableCPUs hw.Reading[[]int] `json:"usableCPUs"`
	Threads    int               `json:"threads"`
	Pinned     []int             `json:"pinned"` // CPU of each thread; null: any
	Seconds    float64           `json:"seconds"`
	Warmup     float64           `json:"warmup"` // seconds
	// Complete is false when the measurement was interrupted.
	Complete bool     `json:"complete"`
	Notes    []string `json:"notes"` // for people
}

// NewSetup describes a plan on a machine.
func NewSetup(machine *hw.Inventory, p *Plan, version string, date time.Time) Setup {
	s := Setup{
		Date: date.UTC().Format(time.RFC3339), Version: version,
		CPU: machine.CPU.Model.Or(""), Features: machine.CPU.Features, UsableCPUs: machine.Usable.CPUs,
		Threads: p.Threads, Pinned: p.CPUs, Seconds: p.Time.Seconds(), Warmup: p.Warmup.Seconds(), Notes: []string{},
	}
	if o := machine.CPU.FeatureOverride; o != "" {
		s.note("the CPU's features are changed by %s=%s", hw.FeatureEnv, o)
	}
	if quota, ok := machine.Usable.Quota.Get(); ok && quota < float64(p.Threads) {
		s.note("this process's control group grants %.3g CPUs, less than %d threads use", quota, p.Threads)
	}
	return s
}

func (s *Setup) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// Report is the result of a benchmark.
type Report struct {
	Setup
	Counter string         `json:"counter"` // "perf", "calibrated" or ""
	Kernels []KernelResult `json:"kernels"`
	Best    string         `json:"best"` // the highest median; "" when nothing was measured
}

// KernelResult is one kernel's row. What was not measured is null.
type KernelResult struct {
	Name     string `json:"name"`
	Lanes    int    `json:"lanes"` // header versions at a time
	Verified bool   `json:"verified"`
	Reason   string `json:"reason,omitempty"` // why it is not verified
	Samples  int    `json:"samples"`
	// MHs is the median of the samples in millions of hashes per second of all
	// threads together. One sample in ten is below P10, one above P90.
	MHs           hw.Reading[float64] `json:"mhs"`
	P10           hw.Reading[float64] `json:"p10"`
	P90           hw.Reading[float64] `json:"p90"`
	CyclesPerHash hw.Reading[float64] `json:"cyclesPerHash"` // median
	// JoulesPerGH is what the processor's packages took for 10⁹ hashes,
	// everything else that ran on them included.
	JoulesPerGH hw.Reading[float64] `json:"joulesPerGH"`
}

// NewReport puts an outcome into the table of all kernels that were asked for.
// reasons says, by name, why kernels were left out; complete is false when the
// benchmark was interrupted.
func NewReport(s Setup, kernels []sha256d.Kernel, reasons map[string]string, o Outcome, complete bool) Report {
	r := Report{Setup: s, Counter: o.Counter, Kernels: []KernelResult{}}
	r.Complete = complete
	best := 0.
	for _, k := range kernels {
		row := KernelResult{Name: k.Name, Lanes: k.Lanes, Reason: reasons[k.Name], Verified: reasons[k.Name] == ""}
		for i := range o.Kernels {
			if m := &o.Kernels[i]; m.Kernel.Name == k.Name {
				row.fill(m)
			}
		}
		if rate := row.MHs.Or(0); rate > best {
			best, r.Best = rate, k.Name
		}
		r.Kernels = append(r.Kernels, row)
	}
	if o.EnergyErr != nil {
		r.note("energy: %v", o.EnergyErr)
	}
	return r
}

// NoEnergy notes why the energy is unknown from the beginning.
func (s *Setup) NoEnergy(err error) { s.note("energy: %v", err) }

func (r *KernelResult) fill(m *Measured) {
	if r.Samples = len(m.Rates); r.Samples == 0 {
		return
	}
	r.MHs, r.P10, r.P90 = mhs(m.Rates, .5), mhs(m.Rates, .1), mhs(m.Rates, .9)
	if len(m.Cycles) > 0 {
		r.CyclesPerHash = hw.Known(round(sha256d.Quantile(m.Cycles, .5)))
	}
	if j, ok := m.JoulesPerHash.Get(); ok {
		r.JoulesPerGH = hw.Known(round(j * 1e9))
	}
}

// mhs returns a quantile of hashes per second in MH/s.
func mhs(rising []float64, q float64) hw.Reading[float64] {
	return hw.Known(round(sha256d.Quantile(rising, q) / 1e6))
}

// round keeps the digits that can mean something, and more.
func round(x float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 6, 64), 64)
	if err != nil {
		return x
	}
	return rounded
}

// Kernel returns the row of that name, nil if there is none.
func (r *Report) Kernel(name string) *KernelResult {
	for i := range r.Kernels {
		if r.Kernels[i].Name == name {
			return &r.Kernels[i]
		}
	}
	return nil
}

// Read reads a report from its JSON and checks that it makes sense. The error
// says what is wrong with it.
func Read(data []byte) (Report, error) {
	r := Report{Setup: Setup{Complete: true}} // unless it says otherwise
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&r); err != nil {
		return Report{}, notJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Report{}, errors.New("more follows after the JSON object")
	}
	switch {
	case len(r.Kernels) == 0:
		return Report{}, errors.New(`it has no "kernels": give a file that qcity bench --json wrote`)
	case r.Threads < 1:
		return Report{}, fmt.Errorf(`"threads" is %d instead of 1 or more`, r.Threads)
	}
	for i := range r.Kernels {
		k := &r.Kernels[i]
		if k.Name == "" {
			return Report{}, fmt.Errorf(`kernel %d has no "name"`, i+1)
		}
		if r.Kernel(k.Name) != k {
			return Report{}, fmt.Errorf("kernel %s is there twice", k.Name)
		}
		if err := k.check(); err != nil {
			return Report{}, fmt.Errorf("kernel %s: %w", k.Name, err)
		}
	}
	return r, nil
}

func notJSON(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case errors.As(err, &kind) && kind.Field != "":
		// Its place in Go says more than its place in JSON.
		return fmt.Errorf("%q holds a %s, which does not belong there", strings.TrimPrefix(kind.Field, "Setup."), kind.Value)
	}
	return fmt.Errorf("it is not JSON: %w", err)
}

// check holds a row against what is always true of one that was measured.
func (r *KernelResult) check() error {
	median, measured := r.MHs.Get()
	if !measured {
		return nil
	}
	p10, ok10 := r.P10.Get()
	p90, ok90 := r.P90.Get()
	if !ok10 || !ok90 {
		return errors.New(`it has "mhs" without "p10" and "p90"`)
	}
	if !(p10 > 0 && p10 <= median && median <= p90) {
		return fmt.Errorf("p10 %g, mhs %g and p90 %g are not positive and rising", p10, median, p90)
	}
	return nil
}
