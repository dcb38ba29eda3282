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

// schedule function: no loop.
func tailFunction(name, doc, job, scratch string, l layout, isa avx, file []int) *function {
	f := &function{name: name, doc: doc, args: []string{"job *" + job, "scratch *" + scratch}}
	isa.stream = new(stream)
	tailSchedule(&isa, l, l.tail(l.work("Tail")), 64)
	f.begin("DI", "SI")
	f.x86(isa.stream, file, isa.evex)
	f.line("\tVZEROUPPER\n\tRET")
	return f
}

func avx512Source() *source {
	isa := avx{class: zmm, evex: true}
	nonces := &function{
		name: "avx512Nonces", args: kernelArgs(job16, scratch16), ret: "hits uintptr",
		doc: "// avx512Nonces hashes 32 nonces in each unit, in two groups of lanes.\n",
	}
	nonces.begin("DI", "SI", "CX")
	nonces.lanesLoop(layout16, nonceUnit(layout16, isa, 2), thirtyTwo, true)

	versions := &function{
		name: "avx512Versions", args: kernelArgs(job16, scratch16), ret: "hits uintptr",
		doc: "// avx512Versions hashes 16 versions with one nonce of the table Tail in each unit.\n",
	}
	versions.begin("DI", "SI", "CX")
	versions.line("\tLEAQ %d(SI), DX", layout16.work("Tail").off)
	versions.lanesLoop(layout16, versionUnit(layout16, isa, 1), thirtyTwo, true, "ADDQ $8, DX")

	tail := tailFunction("avx512Tail", "// avx512Tail writes the table Tail for the next 16 nonces.\n", job16, scratch16, layout16, isa, thirtyTwo)
	return &source{name: "avx512", arch: "amd64", functions: []*function{nonces, tail, versions}}
}

func avx2Source() *source {
	isa := avx{class: ymm}
	nonces := &function{
		name: "avx2Nonces", args: kernelArgs(job8, scratch8), ret: "hits uintptr",
		doc: "// avx2Nonces hashes 8 nonces in each unit.\n",
	}
	nonces.begin("DI", "SI", "CX")
	nonces.lanesLoop(layout8, nonceUnit(layout8, isa, 1), sixteen, false)

	versions := &function{
		name: "avx2Versions", args: kernelArgs(job8, scratch8), ret: "hits uintptr",
		doc: "// avx2Versions hashes 8 versions with one nonce of the table Tail in each unit.\n",
	}
	versions.begin("DI", "SI", "CX")
	versions.line("\tLEAQ %d(SI), DX", layout8.work("Tail").off)
	versions.lanesLoop(layout8, versionUnit(layout8, isa, 1), sixteen, false, "ADDQ $8, DX")

	tail := tailFunction("avx2Tail", "// avx2Tail writes the table Tail for the next 8 nonces.\n", job8, scratch8, layout8, isa, sixteen)
	return &source{name: "avx2", arch: "amd64", functions: []*function{nonces, tail, versions}}
}
