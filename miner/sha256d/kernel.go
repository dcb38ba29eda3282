// Package sha256d searches 80-byte block headers by double SHA-256. It holds
// one table of kernels behind one small interface, proves each of them against
// crypto/sha256 before it is used, and measures which one is fastest here.
package sha256d

import (
	"fmt"
	"slices"
	"strings"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d/tables"
	"qcitycoin.org/qcity/miner/work"
)

// MaxVersions is the most header versions one Work carries. The hybrid kernels
// are the faster the more of them share a nonce.
const MaxVersions = tables.HybridVersions

// NonceSpace is the number of nonces of one header.
const NonceSpace = 1 << 32

// Work is a header opened for searching. The header's own version and nonce
// fields are ignored: every version in Versions is tried with every nonce.
type Work struct {
	Header   work.Header
	Versions []uint32 // 1 … MaxVersions, all different
	Target   work.Target
}

// Hit names one header of a Work.
type Hit struct {
	Version uint32
	Nonce   uint32
}

// Engine is the code and the scratch memory of one kernel. It serves one
// goroutine. Use it through a Scanner, which checks arguments and hits.
type Engine interface {
	// Prepare computes what every nonce of w shares. The engine keeps no
	// reference to w.
	Prepare(w *Work)
	// Scan hashes nonces first … first+n−1 (n ≥ 1, no wrap-around) with every
	// version of the prepared Work and appends the candidates to hits, in any
	// order. All headers that meet the target must be among the candidates;
	// headers that miss it may be (a vector kernel that only knows "one lane
	// of this batch" appends the batch).
	Scan(first uint32, n int, hits []Hit) []Hit
}

// Kernel is one row of the table.
type Kernel struct {
	Name string // as typed on the command line
	Note string // one line for people
	// Lanes is the number of versions the kernel is fastest with. Every kernel
	// takes any number from 1 to MaxVersions.
	Lanes int
	// Needs lists the CPU features without which the code must not run.
	Needs []hw.Feature
	// New returns an engine of its own for one goroutine.
	New func() Engine
}

// Missing returns those of the kernel's needs that are not among features.
func (k *Kernel) Missing(features []hw.Feature) []hw.Feature {
	var missing []hw.Feature
	for _, f := range k.Needs {
		if !slices.Contains(features, f) {
			missing = append(missing, f)
		}
	}
	return missing
}

// Kernels returns the table, in the order in which it is shown.
func Kernels() []Kernel {
	return append([]Kernel{
		{
			Name: "generic", Lanes: 1, New: func() Engine { return new(generic) },
			Note: "plain Go with midstate and early reject; runs anywhere",
		},
		{
			Name: "stdlib", Lanes: 1, New: func() Engine { return &whole{sum: stdlibSum} },
			Note: "crypto/sha256 twice over the whole header; the reference",
		},
		{
			Name: "sha256-simd", Lanes: 1, New: func() Engine { return &whole{sum: simdSum} },
			Note: "github.com/minio/sha256-simd twice over the whole header",
		},
	}, vectorKernels()...)
}

// Names returns the names of kernels, separated by ", ".
func Names(kernels []Kernel) string {
	names := make([]string, len(kernels))
	for i := range kernels {
		names[i] = kernels[i].Name
	}
	return strings.Join(names, ", ")
}

// find returns the kernel of that name.
func find(kernels []Kernel, name string) (Kernel, error) {
	i := slices.IndexFunc(kernels, func(k Kernel) bool { return k.Name == name })
	if i < 0 {
		return Kernel{}, fmt.Errorf("no kernel named %q: use auto or one of %s", name, Names(kernels))
	}
	return kernels[i], nil
}
