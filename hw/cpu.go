package hw

import (
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// Feature names a CPU feature that decides which hashing code may run. The
// names are the Linux kernel's (/proc/cpuinfo), so that people can look them up.
type Feature string

// The features that are looked for: first x86, then arm64.
const (
	SHANI    Feature = "sha_ni"
	SSE41    Feature = "sse4_1"
	SSSE3    Feature = "ssse3"
	AVX2     Feature = "avx2"
	AVX512F  Feature = "avx512f"
	AVX512BW Feature = "avx512bw"
	AVX512VL Feature = "avx512vl"
	AVX512DQ Feature = "avx512dq"
	ASIMD    Feature = "asimd"
	ARMSHA2  Feature = "sha2"
)

// featureIDs maps our names to the cpuid library's. That library reports an AVX
// feature only when the operating system saves the registers as well.
func featureIDs() []struct {
	name Feature
	id   cpuid.FeatureID
} {
	return []struct {
		name Feature
		id   cpuid.FeatureID
	}{
		{SSSE3, cpuid.SSSE3},
		{SSE41, cpuid.SSE4},
		{SHANI, cpuid.SHA},
		{AVX2, cpuid.AVX2},
		{AVX512F, cpuid.AVX512F},
		{AVX512BW, cpuid.AVX512BW},
		{AVX512VL, cpuid.AVX512VL},
		{AVX512DQ, cpuid.AVX512DQ},
		{ASIMD, cpuid.ASIMD},
		{ARMSHA2, cpuid.SHA2},
	}
}

// CPU describes the processor as the CPU itself tells it. Sizes are bytes,
// frequencies hertz. Inside a virtual machine it is what the host chose to show.
type CPU struct {
	Model          Reading[string] `json:"model"`
	Vendor         Reading[string] `json:"vendor"`
	Hypervisor     Reading[string] `json:"hypervisor"` // unknown: none seen
	Family         Reading[int]    `json:"family"`
	ModelNumber    Reading[int]    `json:"modelNumber"`
	Stepping       Reading[int]    `json:"stepping"`
	LogicalCores   Reading[int]    `json:"logicalCores"`
	PhysicalCores  Reading[int]    `json:"physicalCores"`
	ThreadsPerCore Reading[int]    `json:"threadsPerCore"`
	CacheLine      Reading[int]    `json:"cacheLine"`
	L1I            Reading[int]    `json:"l1i"`
	L1D            Reading[int]    `json:"l1d"`
	L2             Reading[int]    `json:"l2"`
	L3             Reading[int]    `json:"l3"`
	BaseHz         Reading[int64]  `json:"baseHz"`
	BoostHz        Reading[int64]  `json:"boostHz"`
	Features       []Feature       `json:"features"` // those present, of the names above
	// FeatureOverride is what changed Features, in the form of FeatureEnv; "": nothing.
	FeatureOverride string `json:"featureOverride"`
}

// Features returns the hashing features of the CPU this process runs on, as the
// environment may have changed them: see FeatureEnv.
func Features() []Feature { return featureOverride().apply(featuresOf(&cpuid.CPU)) }

func featuresOf(c *cpuid.CPUInfo) []Feature {
	features := []Feature{}
	for _, f := range featureIDs() {
		if c.Supports(f.id) {
			features = append(features, f.name)
		}
	}
	return features
}

// fromCPUID translates the library's zeroes and minus ones into unknowns.
func fromCPUID(c *cpuid.CPUInfo) CPU {
	cpu := CPU{
		Model:         nonEmpty(strings.Join(strings.Fields(c.BrandName), " ")),
		Vendor:        nonEmpty(c.VendorString),
		Hypervisor:    nonEmpty(strings.TrimSpace(c.HypervisorVendorString)),
		LogicalCores:  positive(c.LogicalCores),
		PhysicalCores: positive(c.PhysicalCores),
		CacheLine:     positive(c.CacheLine),
		L1I:           positive(c.Cache.L1I),
		L1D:           positive(c.Cache.L1D),
		L2:            positive(c.Cache.L2),
		L3:            positive(c.Cache.L3),
		BaseHz:        positive(c.Hz),
		BoostHz:       positive(c.BoostFreq),
		Features:      featuresOf(c),
	}
	if c.Family > 0 { // zero: the CPU has no family number; then the others mean nothing
		cpu.Family, cpu.ModelNumber, cpu.Stepping = Known(c.Family), Known(c.Model), Known(c.Stepping)
	}
	// The library says 1 thread per core when it does not know; only next to
	// known core counts is that an answer.
	if c.PhysicalCores > 0 && c.LogicalCores > 0 {
		cpu.ThreadsPerCore = positive(c.ThreadsPerCore)
	}
	return cpu
}
