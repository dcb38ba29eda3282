package sha256d

import (
	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d/tables"
)

//go:generate go run ./gen

// vectorKernels returns the kernels written for this architecture.
func vectorKernels() []Kernel {
	zmm := hybridCode[uint32, tables.V16, tables.V16]{hybridTailZ, hybridZ}
	ymm := hybridCode[uint32, tables.V16, tables.V8]{hybridTailY, hybridY}
	return []Kernel{
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
			Name: "hybrid-zmm", Lanes: MaxVersions, New: func() Engine { return newHybrid(zmm) },
			Needs: []hw.Feature{hw.SHANI, hw.AVX512F, hw.AVX512BW, hw.AVX512VL},
			Note:  "SHA-NI rounds, schedules in 512-bit vectors; 16 versions side by side, 64 to a nonce",
		},
		{
			Name: "hybrid-ymm", Lanes: MaxVersions, New: func() Engine { return newHybrid(ymm) },
			Needs: []hw.Feature{hw.SHANI, hw.AVX512F, hw.AVX512BW, hw.AVX512VL},
			Note:  "SHA-NI rounds, schedules in 256-bit vectors; 8 versions side by side, 64 to a nonce",
		},
	}
}
