package sha256d

import (
	"fmt"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d/tables"
)

//go:generate go run ./gen

// vectorKernels returns the kernels written for this architecture.
func vectorKernels() []Kernel {
	return []Kernel{
		{
			Name: "neon", Lanes: 1, New: func() Engine { return newNonceLanes(1, neonNonces) },
			Needs: []hw.Feature{hw.ASIMD},
			Note:  "8 nonces side by side",
		},
		{
			Name: "neon-versions", Lanes: 8, New: func() Engine { return newVersionLanes(neonTail, neonVersions) },
			Needs: []hw.Feature{hw.ASIMD},
			Note:  "8 versions side by side, the tail's schedule shared",
		},
		{
			Name: "sha2", Lanes: 1, New: func() Engine { return &sha2ByNonce{newSHA2()} },
			Needs: []hw.Feature{hw.ASIMD, hw.ARMSHA2},
			Note:  fmt.Sprintf("SHA-256 instructions, %d nonces side by side", tables.SHA2Ways),
		},
		{
			Name: "sha2-versions", Lanes: MaxVersions, New: func() Engine { return &sha2ByVersion{newSHA2()} },
			Needs: []hw.Feature{hw.ASIMD, hw.ARMSHA2},
			Note:  fmt.Sprintf("SHA-256 instructions, %d versions side by side, the tail's schedule shared", tables.SHA2Ways),
		},
	}
}
