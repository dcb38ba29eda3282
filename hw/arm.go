package hw

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// armImplementers and armParts are from Arm's Main ID Register documentation
// and the Linux kernel's arch/arm64/include/asm/cputype.h.
var (
	armImplementers = map[uint64]string{
		0x41: "ARM", 0x42: "Broadcom", 0x43: "Cavium", 0x46: "Fujitsu", 0x48: "HiSilicon",
		0x4e: "NVIDIA", 0x51: "Qualcomm", 0x53: "Samsung", 0x61: "Apple", 0xc0: "Ampere",
	}
	armParts = map[uint64]string{ // of implementer 0x41
		0xd03: "Cortex-A53", 0xd04: "Cortex-A35", 0xd05: "Cortex-A55", 0xd07: "Cortex-A57",
		0xd08: "Cortex-A72", 0xd09: "Cortex-A73", 0xd0a: "Cortex-A75", 0xd0b: "Cortex-A76",
		0xd0c: "Neoverse-N1", 0xd0d: "Cortex-A77", 0xd40: "Neoverse-V1", 0xd41: "Cortex-A78",
		0xd44: "Cortex-X1", 0xd46: "Cortex-A510", 0xd47: "Cortex-A710", 0xd49: "Neoverse-N2",
		0xd4f: "Neoverse-V2",
	}
)

// armModel names the kinds of core in an arm64 machine, "+" between them, and
// their maker, from the Main ID Register that Linux shows for every CPU. A part
// that is not in the table is given by its number.
func armModel(fsys fs.FS, cpus []LogicalCPU) (vendor, model Reading[string]) {
	var vendors, models []string
	for _, c := range cpus {
		text := readText(fsys, fmt.Sprintf("%s/cpu%d/regs/identification/midr_el1", cpuRoot, c.ID)).Or("")
		midr, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 64)
		if err != nil {
			continue
		}
		implementer, part := midr>>24&0xff, midr>>4&0xfff
		maker, ok := armImplementers[implementer]
		if !ok {
			maker = fmt.Sprintf("implementer 0x%02x", implementer)
		}
		name, ok := armParts[part]
		if !ok || implementer != 0x41 {
			name = fmt.Sprintf("%s part 0x%03x", maker, part)
		}
		vendors, models = append(vendors, maker), append(models, name)
	}
	return nonEmpty(strings.Join(distinct(vendors), " + ")), nonEmpty(strings.Join(distinct(models), " + "))
}

func distinct(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
