package main

import "fmt"

// Registers of the arm64 kernels. The table is that of the tail's schedule.
const (
	armJob     = "R0"
	armScratch = "R1"
	armUnits   = "R2" // units left
	armHits    = "R3" // where the next hit goes
	armFound   = "R4" // not zero: the unit has a candidate
	armTable   = "R5"
	armSet     = "R6" // versions of a unit
)

// arm64 appends a stream. All 32 vector registers are free.
func (f *function) arm64(s *stream) {
	for _, in := range s.allocate(thirtyTwo, copyARM64) {
		f.line("\t%s", assembleARM64(in))
	}
}

// assembleARM64 writes an instruction for Go's assembler. What registers are
// called differs from instruction to instruction (V1.S4, V1.B16, F1), so op is
// a format into which the operands go.
func assembleARM64(in ins) string {
	args := in.args
	if in.tied != nil {
		args = args[:len(args)-1] // the tied source is the destination by now
	}
	operands := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case *reg:
			operands[i] = a.phys
		case mem:
			operands[i] = fmt.Sprintf("%d(%s)", a.off, a.base)
		default:
			operands[i] = a
		}
	}
	return fmt.Sprintf(in.op, operands...)
}

func copyARM64(class) string { return "VMOV V%d.B16, V%d.B16" }

// beginARM64 opens the function and loads the arguments into registers.
func (f *function) beginARM64(regs ...string) { f.beginWith("MOVD", regs) }

// loopARM64 writes the rest of a function that runs body once for each unit.
// The body leaves in armFound whether the unit has a candidate.
func (f *function) loopARM64(hits int, body *stream, advance ...string) {
	f.line("\tADD $%d, %s, %s", hits, armScratch, armHits)
	f.line("\tPCALIGN $64")
	f.line("loop:")
	f.arm64(body)
	f.line("\tCBZ %s, next", armFound)
	f.line("\tMOVW.P %s, 4(%s)", armUnits, armHits)
	f.line("next:")
	for _, a := range advance {
		f.line("\t%s", a)
	}
	f.line("\tSUB $1, %s", armUnits)
	f.line("\tCBNZ %s, loop", armUnits)
	f.line("\tSUB %s, %s", armScratch, armHits)
	f.line("\tSUB $%d, %s", hits, armHits)
	f.line("\tLSR $2, %s", armHits)
	f.line("\tMOVD %s, hits+%d(FP)", armHits, 8*len(f.args))
	f.line("\tRET")
}
