package main

import "fmt"

// Registers of the x86 kernels. CX counts units down, AX counts hits up.
var (
	thirtyTwo = count(31, 0)
	sixteen   = count(15, 0)
)

func count(from, to int) (n []int) {
	for i := from; i >= to; i-- {
		n = append(n, i)
	}
	return n
}

var kernelArgs = func(job, scratch string) []string {
	return []string{"job *" + job, "scratch *" + scratch, "units uintptr"}
}

const (
	job16, scratch16 = "tables.Job[uint32, tables.V16]", "tables.Scratch[tables.V16]"
	job8, scratch8   = "tables.Job[tables.V8, tables.V8]", "tables.Scratch[tables.V8]"
)

// candidates compares the most significant words of a unit's hashes with the
// target and leaves the answer in K1, or with AVX2 in a register.
func (v *avx) candidates(target mem, top []*reg) {
	if v.evex {
		const lessOrEqual = 2
		k1 := fixed("K1")
		for i, t := range top {
			k := fixed(fmt.Sprintf("K%d", i+1))
			v.emit(ins{op: "VPCMPUD.BCST", args: []any{imm(lessOrEqual), target, t, k}})
			if i > 0 {
				v.emit(ins{op: "KORW", args: []any{k1, k, k1}})
			}
		}
		v.emit(ins{op: "KORTESTW", args: []any{k1, k1}})
		return
	}
	var found *reg
	for _, t := range top {
		// t ≤ top exactly if min(t, top) = t: AVX2 compares for equality only.
		m := v.op("VPCMPEQD", t, v.op("VPMINUD", target, t))
		if found == nil {
			found = m
		} else {
			found = v.op("VPOR", m, found)
		}
	}
	v.emit(ins{op: "VPTEST", args: []any{found, found}})
}

// unitLoop writes the rest of a function that runs body once for each unit, CX
// in all. The body ends with the zero flag set if the unit has no candidate.
func (f *function) unitLoop(hits int, body, advance, end func()) {
	f.line("\tXORL AX, AX")
	f.line("\tPCALIGN $64")
	f.line("loop:")
	body()
	f.line("\tJEQ next")
	f.line("\tMOVL CX, %d(SI)(AX*4)", hits)
	f.line("\tINCQ AX")
	f.line("next:")
	advance()
	f.line("\tDECQ CX")
	f.line("\tJNE loop")
	end()
	f.line("\tMOVQ AX, hits+%d(FP)", 8*len(f.args))
	f.line("\tRET")
}

// lanesLoop is unitLoop for the kernels that work in vectors alone.
func (f *function) lanesLoop(l layout, body *stream, file []int, evex bool, advance ...string) {
	f.unitLoop(offset(l.scratch, "Hits"), func() { f.x86(body, file, evex) }, func() {
		for _, a := range advance {
			f.line("\t%s", a)
		}
	}, func() { f.line("\tVZEROUPPER") })
}

// tailSchedule describes the schedule of the tail for a vector of nonces, left
// in a table of pairs; from round plainFrom on a row holds both words as they
// are, for rounds that are done in vectors.
func tailSchedule(v *avx, l layout, table pairs, plainFrom int) {
	n := v.load(l.work("Nonce", 0))
	v.store(v.add(n, l.of("Step")), l.work("Nonce", 0))
	w := tailWords(v, l, 0)
	swapped := v.swap(n, l.of("Swap"))
	w.put(3, swapped)
	v.storePair(v.op("VPXOR", n, n), swapped, table.row(3), l.vector())
	for t := 18; t < 64; t += 2 {
		even := v.add(w.next(t), l.konst("K", t))
		if t >= plainFrom {
			v.store(even, table.row(t))
			v.store(v.add(w.next(t+1), l.konst("K", t+1)), table.row(t).plus(l.vector()))
			continue
		}
		v.storePair(even, v.add(w.next(t+1), l.konst("K", t+1)), table.row(t), l.vector())
	}
}

// storePair stores a row of a table of pairs.
func (v *avx) storePair(a, b *reg, row mem, vector int) {
	lo, hi := v.pair(a, b)
	v.store(lo, row)
	v.store(hi, row.plus(vector))
}

// nonceUnit merges groups of lanes with nonces of their own.
func nonceUnit(l layout, isa avx, groups int) *stream {
	return unit(l, isa, groups, func(v *avx, g int) [8]*reg { return nonceLanes(v, l, g) })
}

// versionUnit merges groups that have one nonce each, next to each other in the
// table of pairs at DX.
func versionUnit(l layout, isa avx, groups int) *stream {
	return unit(l, isa, groups, func(v *avx, g int) [8]*reg {
		return versionLanes(v, l, l.tail(mem{"DX", g * pairSize}))
	})
}

const pairSize = 8

func unit(l layout, isa avx, groups int, first func(v *avx, g int) [8]*reg) *stream {
	var strands []strand
	var top []*reg
	for g := range groups {
		v := isa
		v.stream = new(stream)
		top = append(top, secondHash(&v, l, g, first(&v, g)))
		strands = append(strands, strand{v.stream, 1})
	}
	isa.stream = new(stream)
	isa.candidates(l.of("Top"), top)
	return merge(strands...).then(isa.stream)
}

// lanesSource has the three functions of a set of kernels that work in vectors
// alone: lanes of nonces, and for lanes of versions the tail's schedule and the
// rest.
func lanesSource(name, job, scratch string, l layout, isa avx, groups int, file []int) *source {
	lanes := l.vector() / 4
	nonces := &function{
		name: name + "Nonces", args: kernelArgs(job, scratch), ret: "hits uintptr",
		doc: fmt.Sprintf("// %sNonces hashes %d nonces in each unit.\n", name, groups*lanes),
	}
	nonces.begin("DI", "SI", "CX")
	nonces.lanesLoop(l, nonceUnit(l, isa, groups), file, isa.evex)

	versions := &function{
		name: name + "Versions", args: kernelArgs(job, scratch), ret: "hits uintptr",
		doc: fmt.Sprintf("// %sVersions hashes %d versions with one nonce of the table Tail in each unit.\n", name, lanes),
	}
	versions.begin("DI", "SI", "CX")
	versions.line("\tLEAQ %d(SI), DX", l.work("Tail").off)
	versions.lanesLoop(l, versionUnit(l, isa, 1), file, isa.evex, "ADDQ $8, DX")

	tail := &function{
		name: name + "Tail", args: []string{"job *" + job, "scratch *" + scratch},
		doc: fmt.Sprintf("// %sTail writes the table Tail for the next %d nonces.\n", name, lanes),
	}
	isa.stream = new(stream)
	tailSchedule(&isa, l, l.tail(l.work("Tail")), 64)
	tail.begin("DI", "SI")
	tail.x86(isa.stream, file, isa.evex)
	tail.line("\tVZEROUPPER\n\tRET")
	return &source{name: name, arch: "amd64", functions: []*function{nonces, tail, versions}}
}

func avx512Source() *source {
	return lanesSource("avx512", job16, scratch16, layout16, avx{class: zmm, evex: true}, 2, thirtyTwo)
}

func avx2Source() *source {
	return lanesSource("avx2", job8, scratch8, layout8, avx{class: ymm}, 1, sixteen)
}
