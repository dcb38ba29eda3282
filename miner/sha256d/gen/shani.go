package main

import (
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// sse emits legacy-encoded instructions, which overwrite their last operand:
// there are CPUs with SHA-NI and no AVX.
type sse struct{ *stream }

func (v sse) load(m mem) *reg {
	dst := newReg(xmm)
	v.emit(ins{op: "MOVOA", args: []any{m, dst}, dst: dst})
	return dst
}

func (v sse) store(r *reg, m mem) { v.emit(ins{op: "MOVOA", args: []any{r, m}}) }

// op overwrites a; more operands come before b.
func (v sse) op(name string, a *reg, b any, more ...any) *reg {
	dst := newReg(xmm)
	v.emit(ins{op: name, args: append(more, b, dst, a), dst: dst, tied: a})
	return dst
}

func (v sse) shuffle(order imm, a *reg) *reg {
	dst := newReg(xmm)
	v.emit(ins{op: "PSHUFD", args: []any{order, a, dst}, dst: dst})
	return dst
}

// shani describes the kernels of package tables' shani.go.
type shani struct {
	name, doc string
	nonces    bool
	// lanes run side by side in each of the two hashes.
	lanes int
	block int
}

var (
	shaJob     = reflect.TypeFor[tables.ShaJob]()
	shaHalf    = reflect.TypeFor[tables.ShaHalf]()
	shaScratch = reflect.TypeFor[tables.ShaScratch]()
	shaVersion = reflect.TypeFor[tables.ShaVersion]()
	shaTail    = reflect.TypeFor[tables.ShaTail]()
)

// Registers of a SHA-NI kernel, besides those of all.
const (
	outReg     = "R8"
	inReg      = "R9"
	versionReg = "R10" // the unit's first version
	versionEnd = "R11"
	nonceReg   = "DX" // with versions: the nonce's ShaTail
)

func ofSha(name string, index ...int) mem { return mem{jobReg, offset(shaJob, name, index...)} }
func ofScratch(name string, index ...int) mem {
	return mem{scratchReg, offset(shaScratch, name, index...)}
}

func ofHalf(half, name string, index ...int) mem {
	return mem{half, offset(shaHalf, name, index...)}
}

// quads extends a message of sixteen words, four in a register, to 64 and stores
// K + W of all that are not constant.
func (v sse) quads(w [4]*reg, constant func(q int) bool, store func(q int) mem) {
	for q := range 16 {
		if q >= 4 {
			// FIPS 180-4, 6.2.2 step 1 for words 4q … 4q+3.
			sum := v.op("SHA256MSG1", w[q%4], w[(q+1)%4])
			sum = v.op("PADDL", sum, v.op("PALIGNR", w[(q+3)%4], w[(q+2)%4], imm(4)))
			w[q%4] = v.op("SHA256MSG2", sum, w[(q+3)%4])
		}
		if !constant(q) {
			v.store(v.op("PADDL", w[q%4], ofSha("K", q)), store(q))
		}
	}
}

// stage0 computes the tail's schedule of four nonces.
func (s *shani) stage0(start, tail func(lane int) mem) *stream {
	v := sse{new(stream)}
	n := v.load(ofScratch("Nonce"))
	v.store(v.op("PADDL", n, ofSha("Step")), ofScratch("Nonce"))
	swapped := v.op("PSHUFB", n, ofSha("Swap"))
	for lane := range tables.ShaLanes {
		nonce := v.shuffle(imm(lane*0x55), swapped)
		v.store(v.op("PAND", nonce, ofSha("Odd")), start(lane))
		w := [4]*reg{v.op("POR", v.op("PAND", nonce, ofSha("High")), ofSha("Tail"))}
		for q := 1; q < 4; q++ {
			w[q] = v.load(ofSha("TailRest", q-1))
		}
		v.quads(w, func(q int) bool { return q < 4 }, func(q int) mem { return tail(lane).plus(16 * q) })
	}
	return v.stream
}

// hash does rounds from … to (an even number) of some lanes, given where the
// variables and K + W are.
func (s *shani) hash(v sse, feba, hgdc []*reg, from, to int, pair func(i, t int) mem, shared bool) {
	for t := from; t < to; t += 2 {
		v.atomically(func() { rnds2(v.stream, "MOVQ", feba, hgdc, func(i int) mem { return pair(i, t) }, shared) })
	}
}

// stage1 is the first hash.
func (s *shani) stage1() *stream {
	v := sse{new(stream)}
	version := func(name string, lane int) mem {
		return mem{versionReg, offset(shaVersion, name) + lane*int(shaVersion.Size())}
	}
	start := func(int) mem { return mem{nonceReg, offset(shaTail, "Start")} }
	pair := func(_, t int) mem { return mem{nonceReg, offset(shaTail, "Words", t)} }
	if s.nonces {
		version = func(name string, _ int) mem { return mem{versionReg, offset(shaVersion, name)} }
		start = func(lane int) mem { return ofHalf(inReg, "Start", lane) }
		pair = func(lane, t int) mem { return ofHalf(inReg, "Tail", lane, t) }
	}
	for base := 0; base < tables.ShaLanes; base += s.lanes {
		feba, hgdc := make([]*reg, s.lanes), make([]*reg, s.lanes)
		v.atomically(func() {
			for i := range s.lanes {
				feba[i] = v.op("PADDL", v.load(start(base+i)), version("FEBA", base+i))
				hgdc[i] = v.load(version("HGDC", base+i))
			}
		})
		s.hash(v, feba, hgdc, 4, 64, func(i, t int) mem { return pair(base+i, t) }, !s.nonces)
		for i := range s.lanes {
			lane := base + i
			abef := v.shuffle(0x1b, v.op("PADDL", feba[i], version("MidFEBA", lane)))
			cdgh := v.shuffle(0x1b, v.op("PADDL", hgdc[i], version("MidHGDC", lane)))
			v.store(v.op("PUNPCKLQDQ", abef, cdgh), ofHalf(outReg, "Words", lane, 0))
			v.store(v.op("PUNPCKHQDQ", abef, cdgh), ofHalf(outReg, "Words", lane, 1))
		}
	}
	return v.stream
}

// stage2 computes the schedule of the second hash.
func (s *shani) stage2() *stream {
	v := sse{new(stream)}
	for lane := range tables.ShaLanes {
		w := [4]*reg{v.load(ofHalf(inReg, "Words", lane, 0)), v.load(ofHalf(inReg, "Words", lane, 1))}
		w0 := v.shuffle(0, w[0])
		v.store(v.op("PAND", w0, ofSha("Odd")), ofHalf(outReg, "First", lane))
		w[2], w[3] = v.load(ofSha("Rest", 0)), v.load(ofSha("Rest", 1))
		v.quads(w, func(q int) bool { return q == 2 || q == 3 }, func(q int) mem { return ofHalf(outReg, "Second", lane, 4*q) })
	}
	return v.stream
}

// stage3 is the second hash. It leaves the zero flag set if there is no
// candidate.
func (s *shani) stage3() (*stream, *stream) {
	v := sse{new(stream)}
	var halves []*reg
	for base := 0; base < tables.ShaLanes; base += s.lanes {
		feba, hgdc := make([]*reg, s.lanes), make([]*reg, s.lanes)
		v.atomically(func() {
			for i := range s.lanes {
				feba[i] = v.op("PADDL", v.load(ofHalf(inReg, "First", base+i)), ofSha("SecondFEBA"))
				hgdc[i] = v.load(ofSha("SecondHGDC"))
			}
		})
		s.hash(v, feba, hgdc, 1, last+1, func(i, t int) mem { return ofHalf(inReg, "Second", base+i, t) }, false)
		for i := 0; i < s.lanes; i += 2 {
			halves = append(halves, v.op("PUNPCKLLQ", feba[i], feba[i+1])) // f f e e
		}
	}
	end := sse{new(stream)}
	e := end.op("PADDL", end.op("PUNPCKHQDQ", halves[0], halves[1]), ofSha("IV7"))
	top := end.op("PSHUFB", e, ofSha("Swap"))
	found := end.op("PCMPEQL", end.op("PMINUD", top, ofSha("Top")), top)
	end.emit(ins{op: "PTEST", args: []any{found, found}})
	return v.stream, end.stream
}

func (s *shani) function() *function {
	f := &function{name: s.name, doc: s.doc, ret: "hits uintptr", args: kernelArgs("tables.ShaJob", "tables.ShaScratch")}
	advance := func() {}
	if s.nonces {
		f.begin(jobReg, scratchReg, "CX")
		f.line("\tMOVQ %s, %s", jobReg, versionReg) // Versions are the job's first field
	} else {
		f.args = append(f.args, "versions uintptr")
		f.begin(jobReg, scratchReg, "CX", versionEnd)
		f.line("\tMOVQ %s, %s", jobReg, versionReg)
		f.line("\tIMULQ $%d, %s", shaVersion.Size(), versionEnd)
		f.line("\tADDQ %s, %s", jobReg, versionEnd)
		f.line("\tLEAQ %d(%s), %s", ofScratch("Tails").off, scratchReg, nonceReg)
		advance = func() {
			f.line("\tADDQ $%d, %s", tables.ShaLanes*shaVersion.Size(), versionReg)
			f.line("\tCMPQ %s, %s", versionReg, versionEnd)
			f.line("\tJNE sameNonce")
			f.line("\tMOVQ %s, %s", jobReg, versionReg)
			f.line("\tADDQ $%d, %s", shaTail.Size(), nonceReg)
			f.line("sameNonce:")
		}
	}
	// in is the other half: the sum of both addresses less out.
	f.line("\tMOVQ %d(%s), %s", ofScratch("Out").off, scratchReg, outReg)
	f.line("\tLEAQ %d(%s), %s", 2*ofScratch("Halves").off+int(shaHalf.Size()), scratchReg, inReg)
	f.line("\tADDQ %s, %s", scratchReg, inReg)
	f.line("\tSUBQ %s, %s", outReg, inReg)
	third, end := s.stage3()
	rounds := merge(strand{s.stage1(), 1}, strand{third, 1})
	schedules := s.stage2()
	if s.nonces {
		schedules = s.stage0(func(lane int) mem { return ofHalf(outReg, "Start", lane) },
			func(lane int) mem { return ofHalf(outReg, "Tail", lane) }).then(schedules)
	}
	body := merge(strand{rounds, s.block}, strand{schedules, 1}).then(end)
	f.unitLoop(ofScratch("Hits").off, func() { f.x86(body, count(15, 1), false) }, func() {
		f.line("\tXCHGQ %s, %s", outReg, inReg)
		advance()
	}, func() { f.line("\tMOVQ %s, %d(%s)", outReg, ofScratch("Out").off, scratchReg) })
	return f
}

// shaniTail computes the tail's schedule of four nonces for versions.
func shaniTail() *function {
	f := &function{
		name: "shaniTail", args: []string{"job *tables.ShaJob", "scratch *tables.ShaScratch", "tail *tables.ShaTail"},
		doc: "// shaniTail writes the schedules of the tail for the next four nonces to tail and the three after it.\n",
	}
	at := func(lane int, name string) mem {
		return mem{nonceReg, lane*int(shaTail.Size()) + offset(shaTail, name)}
	}
	f.begin(jobReg, scratchReg, nonceReg)
	f.x86((&shani{}).stage0(
		func(lane int) mem { return at(lane, "Start") }, func(lane int) mem { return at(lane, "Words") },
	), count(15, 1), false)
	f.line("\tRET")
	return f
}

func shaniSource() *source {
	nonces := &shani{
		name: "shaniNonces", doc: "// shaniNonces hashes four nonces in each unit.\n", nonces: true, lanes: 2, block: 1,
	}
	versions := &shani{
		name: "shaniVersions", doc: "// shaniVersions hashes four versions with one nonce in each unit.\n", lanes: 2, block: 1,
	}
	return &source{name: "shani", arch: "amd64", functions: []*function{nonces.function(), shaniTail(), versions.function()}}
}
