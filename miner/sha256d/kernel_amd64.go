package sha256d

import (
	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d/tables"
)

//go:generate go run ./gen

// vectorKernels returns the kernels written for this architecture.
func vectorKernels() []Kernel {
	avx512 := []hw.Feature{hw.AVX512F, hw.AVX512BW, hw.AVX512VL}
	withSHA := func(features ...hw.Feature) []hw.Feature { return append([]hw.Feature{hw.SHANI}, features...) }
	zmm := versionsCode[uint32, tables.V16, tables.V16]{hybridTailZ, hybridZ}
	ymm := versionsCode[uint32, tables.V16, tables.V8]{hybridTailY, hybridY}
	avx2 := versionsCode[tables.V8, tables.V8, tables.V8]{hybridTailAVX2, hybridAVX2}
	sse := []hw.Feature{hw.SHANI, hw.SSE41, hw.SSSE3}
	return []Kernel{
		{
			Name: "sha-ni", Lanes: 1, Needs: sse,
			New:  func() Engine { return &shaniByNonce{newShani(), shaniNonces} },
			Note: "SHA-NI alone, 4 nonces",
		},
		{
			Name: "sha-ni-versions", Lanes: MaxVersions, Needs: sse,
			New:  func() Engine { return &shaniByVersion{newShani(), shaniTail, shaniVersions} },
			Note: "SHA-NI alone, 4 versions, the tail's schedule shared",
		},
		{
			Name: "avx2", Lanes: 1, New: func() Engine { return newNonceLanes(1, avx2Nonces) },
			Needs: []hw.Feature{hw.AVX2},
			Note:  "8 nonces side by side",
		},
		{
			Name: "avx2-versions", Lanes: 8, New: func() Engine { return newVersionLanes(avx2Tail, avx2Versions) },
			Needs: []hw.Feature{hw.AVX2},
			Note:  "8 versions side by side, the tail's schedule shared",
		},
		{
			Name: "avx512", Lanes: 1, New: func() Engine { return newNonceLanes(2, avx512Nonces) },
			Needs: []hw.Feature{hw.AVX512F, hw.AVX512BW},
			Note:  "two interleaved groups of 16 nonces",
		},
		{
			Name: "avx512-versions", Lanes: 16, New: func() Engine { return newVersionLanes(avx512Tail, avx512Versions) },
			Needs: []hw.Feature{hw.AVX512F, hw.AVX512BW},
			Note:  "16 versions side by side, the tail's schedule shared",
		},
		{
			Name: "hybrid-avx2", Lanes: 1, Needs: withSHA(hw.AVX2),
			New:  func() Engine { return newHybridNonces[tables.V8, tables.V8](hybridNoncesAVX2) },
			Note: "rounds by SHA-NI, schedules in AVX2 vectors of 8 nonces",
		},
		{
			Name: "hybrid-avx2-versions", Lanes: MaxVersions, Needs: withSHA(hw.AVX2),
			New:  func() Engine { return newHybridVersions(avx2) },
			Note: "rounds by SHA-NI, schedules in AVX2 vectors of 8 versions",
		},
		{
			Name: "hybrid-zmm", Lanes: 1, Needs: withSHA(avx512...),
			New:  func() Engine { return newHybridNonces[uint32, tables.V16](hybridNoncesZ) },
			Note: "rounds by SHA-NI, schedules in 512-bit vectors of 16 nonces",
		},
		{
			Name: "hybrid-zmm-versions", Lanes: MaxVersions, Needs: withSHA(avx512...),
			New:  func() Engine { return newHybridVersions(zmm) },
			Note: "rounds by SHA-NI, schedules in 512-bit vectors of 16 versions",
		},
		{
			Name: "hybrid-ymm", Lanes: 1, Needs: withSHA(avx512...),
			New:  func() Engine { return newHybridNonces[uint32, tables.V8](hybridNoncesY) },
			Note: "rounds by SHA-NI, schedules in 256-bit vectors of 8 nonces",
		},
		{
			Name: "hybrid-ymm-versions", Lanes: MaxVersions, Needs: withSHA(avx512...),
			New:  func() Engine { return newHybridVersions(ymm) },
			Note: "rounds by SHA-NI, schedules in 256-bit vectors of 8 versions",
		},
	}
}
