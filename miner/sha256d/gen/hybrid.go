package main

import (
	"fmt"
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// hybrid describes a kernel of package tables' hybrid.go. The loop's body is
// one unit in every stage.
type hybrid struct {
	name string
	doc  string
	isa  avx // of stage 2
	l    hybridLayout
	// lanes1 and lanes2 are how many lanes of the first and of the second hash
	// run side by side: two registers each, of fifteen, and enough of them to
	// keep the SHA unit busy, which needs four cycles for an instruction.
	lanes1, lanes2 int
	// vectorRounds is how many of the first hash's rounds are done in vectors.
	vectorRounds int
	// nonces says that the lanes of a unit are nonces: then the schedule of the
	// tail is computed in vectors as well, in a stage before the others.
	nonces bool
	// keep is how many message words stay in registers.
	keep int
	// block is how many groups of SHA instructions go between vector
	// instructions at a time, or single instructions if fine.
	block int
	fine  bool
	file  []int
}

// hybridLayout is the memory of one form of hybrid kernel.
type hybridLayout struct {
	job, set, scratch                 reflect.Type
	jobName, scratchName, tailJobName string // in Go
	lanes                             int
	tailLayout                        layout
}

// Registers of a hybrid kernel; CX counts units down, AX counts hits up.
const (
	jobReg     = "DI"
	scratchReg = "SI"
	tailReg    = "DX"  // stage 1: the table Tail at the pair of the unit's nonce
	setReg     = "R8"  // stage 1
	setReg2    = "R9"  // stage 2: the set
	tailReg2   = "R10" // stage 2: the same of the table Tail
	pairs2     = "R11" // stage 2: Pairs
	pairs3     = "R12" // stage 3: Pairs
	setsEnd    = "R13"
	tailJob    = "R13" // with nonces
	tailReg0   = "R14" // with nonces: stage 0: the table Tail
)

func (h *hybrid) of(name string, index ...int) mem {
	return mem{jobReg, offset(h.l.job, name, index...)}
}

func (h *hybrid) konst(name string, index ...int) konst { return konst{h.of(name, index...)} }

func (h *hybrid) set(base, name string, index ...int) mem {
	return mem{base, offset(h.l.set, name, index...)}
}

func (h *hybrid) work(name string, index ...int) mem {
	return mem{scratchReg, offset(h.l.scratch, name, index...)}
}

// digest is where one half of a lane's variables is.
func (h *hybrid) digest(half, lane int) mem {
	return h.work("Digests", half, lane%4).plus(lane / 4 * 16)
}

// tail is the table of the tail's schedule at a register.
func (h *hybrid) tail(base string) pairs { return h.l.tailLayout.tail(mem{base, 0}) }

// second is the table of the second hash's schedule at a register.
func (h *hybrid) second(base string) pairs {
	return pairs{base: mem{base, 0}, vector: h.isa.width(), first: 1, start: 0, skip: 6, skipFrom: 9}
}

// rnds2 emits sha256rnds2 for some lanes, two rounds each, with K + W from
// memory, which move loads; the pair of all lanes, if shared.
func rnds2(s *stream, move string, feba, hgdc []*reg, from func(lane int) mem, shared bool) {
	const x0 = fixed("X0")
	for i := range feba {
		if i == 0 || !shared {
			s.emit(ins{op: move, args: []any{from(i), x0}})
		}
		dst := newReg(xmm)
		s.emit(ins{op: "SHA256RNDS2", args: []any{x0, feba[i], dst, hgdc[i]}, dst: dst, tied: hgdc[i]})
		hgdc[i], feba[i] = feba[i], dst
	}
}

// start emits the working variables of one lane: constant but for the word
// added to e and a.
func start(s *stream, pair, constFEBA, constHGDC mem) (feba, hgdc *reg) {
	w := &avx{stream: s, class: xmm}
	feba = w.op("VPADDD", constFEBA, w.op("VMOVDDUP", pair))
	return feba, w.op("VMOVDQA", constHGDC)
}

// stage0 computes the tail's schedule for the next nonces.
func (h *hybrid) stage0() *stream {
	v := h.isa
	v.stream = new(stream)
	l := h.l.tailLayout
	l.jobBase = tailJob
	tailSchedule(&v, l, h.tail(tailReg0), 64-h.vectorRounds)
	return v.stream
}

// stage1 is the first hash.
func (h *hybrid) stage1() *stream {
	s := new(stream)
	p := h.tail(tailReg)
	// With nonces all lanes have the first one's variables and words of their own.
	own := func(i int) (set, slot int) { return i, 0 }
	if h.nonces {
		own = func(i int) (set, slot int) { return 0, p.slot(i) }
	}
	for base := 0; base < h.l.lanes; base += h.lanes1 {
		n := min(h.lanes1, h.l.lanes-base)
		feba, hgdc := make([]*reg, n), make([]*reg, n)
		s.atomically(func() {
			for i := range n {
				set, slot := own(base + i)
				feba[i], hgdc[i] = start(s, p.row(3).plus(slot), h.set(setReg, "FEBA", set), h.set(setReg, "HGDC", set))
			}
		})
		for t := 4; t < 64-h.vectorRounds; t += 2 {
			from := func(i int) mem { _, slot := own(base + i); return p.row(t).plus(slot) }
			if t < 18 {
				from = func(int) mem { return h.of("TailPairs", (t-4)/2) }
			}
			s.atomically(func() { rnds2(s, "VMOVQ", feba, hgdc, from, !h.nonces || t < 18) })
		}
		s.atomically(func() {
			for i := range n {
				s.emit(ins{op: "VMOVDQA", args: []any{feba[i], h.digest(0, base+i)}})
				s.emit(ins{op: "VMOVDQA", args: []any{hgdc[i], h.digest(1, base+i)}})
			}
		})
	}
	return s
}

// stage3 is the second hash. It leaves the last words of the results in Last.
func (h *hybrid) stage3() *stream {
	s := new(stream)
	p := h.second(pairs3)
	v := h.isa
	v.stream, v.class = s, xmmE
	var halves []*reg
	for base := 0; base < h.l.lanes; base += h.lanes2 {
		n := min(h.lanes2, h.l.lanes-base)
		feba, hgdc := make([]*reg, n), make([]*reg, n)
		s.atomically(func() {
			for i := range n {
				feba[i], hgdc[i] = start(s, p.row(0).plus(p.slot(base+i)), h.of("SecondFEBA"), h.of("SecondHGDC"))
			}
		})
		for t := 1; t <= last; t += 2 {
			s.atomically(func() {
				if t >= 9 && t < 15 {
					rnds2(s, "VMOVQ", feba, hgdc, func(int) mem { return h.of("SecondPairs", (t-9)/2) }, true)
				} else {
					rnds2(s, "VMOVQ", feba, hgdc, func(i int) mem { return p.row(t).plus(p.slot(base + i)) }, false)
				}
			})
		}
		for i := 0; i < n; i += 2 {
			halves = append(halves, v.op("VPUNPCKLDQ", feba[i+1], feba[i])) // f f e e
			if len(halves) == 2 {
				v.store(v.op("VPUNPCKHQDQ", halves[1], halves[0]), h.work("Last").plus((base+i)/4*16))
				halves = nil
			}
		}
	}
	return s
}

// tailWord is K + W of a round that is done in vectors: one word if all lanes
// have one nonce.
func (h *hybrid) tailWord(t int) any {
	table := h.tail(tailReg2)
	if h.nonces {
		return table.row(t).plus(t % 2 * h.isa.width())
	}
	return table.word(t)
}

// stage2 turns the digests into vectors, does the last rounds of the first hash
// and computes the schedule of the second.
func (h *hybrid) stage2() *stream {
	v := h.isa
	v.stream = new(stream)
	w := &schedule{
		v: &v, ring: h.work("Words"), stride: h.isa.width(), varies: secondVaries, has: secondHas,
		constant: func(t int) konst { return h.konst("U2", t) }, keep: h.keep, newest: map[int]*reg{},
	}
	addMid := func(r *reg, t int) *reg {
		word := v.add(r, h.set(setReg2, "Mid", t))
		v.store(word, w.at(t))
		return word
	}
	var s state
	for half, order := range [2][4]int{{5, 4, 1, 0}, {7, 6, 3, 2}} {
		var r [4]*reg
		for i := range r {
			r[i] = v.load(h.work("Digests", half, i))
		}
		l01, h01 := v.pair(r[0], r[1])
		l23, h23 := v.pair(r[2], r[3])
		for i, x := range []*reg{
			v.op("VPUNPCKLQDQ", l23, l01), v.op("VPUNPCKHQDQ", l23, l01),
			v.op("VPUNPCKLQDQ", h23, h01), v.op("VPUNPCKHQDQ", h23, h01),
		} {
			if s[order[i]] = x; h.vectorRounds == 0 {
				addMid(x, order[i])
			}
		}
	}
	if h.vectorRounds > 0 {
		for t := 64 - h.vectorRounds; t < 64; t++ {
			s = round(&v, s, false, h.tailWord(t))
		}
		for t := range s {
			w.newest[t] = addMid(s[t], t) // there are registers enough for all
		}
	}

	p := h.second(pairs2)
	plusK := func(r *reg, t int) *reg { return v.add(r, h.konst("K", t)) }
	var odd *reg
	for t := range 8 {
		word := w.reg(t)
		switch {
		case t == 0:
			v.storePair(v.op("VPXOR", word, word), word, p.row(0), v.width())
		case t%2 == 1:
			odd = plusK(word, t)
		default:
			v.storePair(odd, plusK(word, t), p.row(t-1), v.width())
		}
	}
	v.storePair(odd, v.load(h.konst("KW2", 8)), p.row(7), v.width())
	odd = v.load(h.konst("KW2", 15))
	clear(w.newest)
	for t := 16; t <= last; t++ {
		word := plusK(w.next(t), t)
		if t%2 == 1 {
			odd = word
		} else {
			v.storePair(odd, word, p.row(t-1), v.width())
		}
	}
	return v.stream
}

// body is the loop's body. It ends with the zero flag set if the unit has no
// candidate.
func (h *hybrid) body() *stream {
	sha := merge(strand{h.stage1(), 1}, strand{h.stage3(), 1})
	if h.fine {
		sha = sha.singles()
	}
	end := h.isa
	end.stream = new(stream)
	top := end.swap(end.add(end.load(h.work("Last")), h.konst("IV7")), h.of("Swap"))
	end.candidates(h.of("Top"), []*reg{top})
	vectors := h.stage2()
	switch {
	case h.nonces && h.isa.evex:
		vectors = merge(strand{vectors, 1}, strand{h.stage0(), 1})
	case h.nonces: // no registers for both at a time
		vectors.then(h.stage0())
	}
	out := merge(strand{sha, h.block}, strand{vectors, 1}).then(end.stream)
	h.checkDigests(out)
	return out
}

// checkDigests panics unless stage 2 has read all digests of the last unit
// before stage 1 writes the first of this one: they have one place in memory.
func (h *hybrid) checkDigests(s *stream) {
	first := h.work("Digests").off
	size := int(reflectField(h.l.scratch, "Digests").Size())
	written := false
	for _, g := range s.groups {
		for _, in := range g {
			for _, a := range in.args {
				if m, ok := a.(mem); !ok || m.base != scratchReg || m.off < first || m.off >= first+size {
					continue
				}
				if in.dst == nil {
					written = true
				} else if written {
					panic(h.name + ": digests are overwritten before they are read")
				}
			}
		}
	}
}

func (h *hybrid) function() *function {
	f := &function{name: h.name, doc: h.doc, ret: "hits uintptr", args: kernelArgs(h.l.jobName, h.l.scratchName)}
	type saved struct{ reg, field string }
	kept := []saved{{pairs2, "Pairs2"}, {pairs3, "Pairs3"}, {tailReg2, "Tail2"}}
	var advance func()
	if h.nonces {
		f.args = append(f.args, "tail *"+h.l.tailJobName)
		f.begin(jobReg, scratchReg, "CX", tailJob)
		f.line("\tMOVQ %s, %s", jobReg, setReg) // Sets are the job's first field
		f.line("\tMOVQ %s, %s", jobReg, setReg2)
		kept = append(kept, saved{tailReg, "Tail1"}, saved{tailReg0, "Tail0"})
		advance = func() {
			f.line("\tXCHGQ %s, %s", tailReg0, tailReg2)
			f.line("\tXCHGQ %s, %s", tailReg, tailReg2)
		}
	} else {
		f.args = append(f.args, "sets uintptr", "table uintptr")
		f.begin(jobReg, scratchReg, "CX", setsEnd, tailReg)
		f.line("\tIMULQ $%d, %s", h.l.set.Size(), setsEnd)
		f.line("\tADDQ %s, %s", jobReg, setsEnd)
		f.line("\tMOVQ %s, %s", jobReg, setReg)
		f.line("\tIMULQ $%d, %s", reflectField(h.l.scratch, "Tail").Elem().Size(), tailReg)
		f.line("\tLEAQ %d(%s)(%s*1), %s", h.work("Tail").off, scratchReg, tailReg, tailReg)
		kept = append(kept, saved{setReg2, "Set2"})
		advance = func() {
			f.line("\tMOVQ %s, %s", setReg, setReg2)
			f.line("\tMOVQ %s, %s", tailReg, tailReg2)
			f.line("\tADDQ $%d, %s", h.l.set.Size(), setReg)
			f.line("\tCMPQ %s, %s", setReg, setsEnd)
			f.line("\tJNE sameNonce")
			f.line("\tMOVQ %s, %s", jobReg, setReg)
			f.line("\tADDQ $%d, %s", pairSize, tailReg)
			f.line("sameNonce:")
		}
	}
	stages := reflectField(h.l.scratch, "Stages")
	at := func(k saved) int { return h.work("Stages").off + offset(stages, k.field) }
	for _, k := range kept {
		f.line("\tMOVQ %d(%s), %s", at(k), scratchReg, k.reg)
	}
	f.unitLoop(h.work("Hits").off, func() { f.x86(h.body(), h.file, h.isa.evex) }, func() {
		f.line("\tXCHGQ %s, %s", pairs2, pairs3)
		advance()
	}, func() {
		for _, k := range kept {
			f.line("\tMOVQ %s, %d(%s)", k.reg, at(k), scratchReg)
		}
		f.line("\tVZEROUPPER")
	})
	return f
}

// newHybridLayout puts the types together: nonces of T, versions of V,
// constants of C.
func newHybridLayout[C, T, V tables.Words]() hybridLayout {
	name := func(types ...reflect.Type) (out string) {
		for i, t := range types {
			if i > 0 {
				out += ", "
			}
			if t.PkgPath() != "" {
				out += "tables."
			}
			out += t.Name()
		}
		return out
	}
	c, t, v := reflect.TypeFor[C](), reflect.TypeFor[T](), reflect.TypeFor[V]()
	scratch := reflect.TypeFor[tables.HybridScratch[T, V]]()
	return hybridLayout{
		job: reflect.TypeFor[tables.HybridJob[C, V]](), set: reflect.TypeFor[tables.HybridSet[V]](), scratch: scratch,
		jobName:     "tables.HybridJob[" + name(c, v) + "]",
		scratchName: "tables.HybridScratch[" + name(t, v) + "]",
		tailJobName: "tables.Job[" + name(c, t) + "]",
		lanes:       tables.Lanes[V](),
		// The tail's schedule is kept in this memory but computed from a Job.
		tailLayout: layout{reflect.TypeFor[tables.Job[C, T]](), scratch, "DI", scratchReg},
	}
}

func hybridSource() *source {
	wide := avx{class: zmm, evex: true, noTern: true}
	narrow := avx{class: ymm, evex: true, noTern: true}
	old := avx{class: ymm}
	z, y := newHybridLayout[uint32, tables.V16, tables.V16](), newHybridLayout[uint32, tables.V16, tables.V8]()
	yNonces := newHybridLayout[uint32, tables.V8, tables.V8]()
	avx2 := newHybridLayout[tables.V8, tables.V8, tables.V8]()
	versions := func(h hybrid) *function {
		h.doc = fmt.Sprintf("// %s hashes %d versions with one nonce of a table in each unit.\n", h.name, h.l.lanes)
		return h.function()
	}
	nonces := func(h hybrid) *function {
		h.nonces = true
		h.doc = fmt.Sprintf("// %s hashes %d nonces in each unit.\n", h.name, h.l.lanes)
		return h.function()
	}
	return &source{name: "hybrid", arch: "amd64", functions: []*function{
		hybridTail("hybridTailZ", z, wide, thirtyTwo),
		versions(hybrid{name: "hybridZ", isa: wide, l: z, lanes1: 2, lanes2: 4, keep: 2, block: 4, vectorRounds: 12, file: count(31, 1)}),
		nonces(hybrid{name: "hybridNoncesZ", isa: wide, l: z, lanes1: 2, lanes2: 4, keep: 2, block: 4, file: count(31, 1)}),
		hybridTail("hybridTailY", y, wide, thirtyTwo),
		versions(hybrid{name: "hybridY", isa: narrow, l: y, lanes1: 2, lanes2: 4, keep: 2, block: 2, fine: true, vectorRounds: 12, file: count(31, 1)}),
		nonces(hybrid{name: "hybridNoncesY", isa: narrow, l: yNonces, lanes1: 2, lanes2: 4, keep: 2, block: 4, fine: true, vectorRounds: 8, file: count(31, 1)}),
		hybridTail("hybridTailAVX2", avx2, old, sixteen),
		versions(hybrid{name: "hybridAVX2", isa: old, l: avx2, lanes1: 2, lanes2: 2, keep: 0, block: 2, file: count(15, 1)}),
		nonces(hybrid{name: "hybridNoncesAVX2", isa: old, l: avx2, lanes1: 2, lanes2: 2, keep: 0, block: 2, file: count(15, 1)}),
	}}
}

// hybridTail computes the tail's schedule for versions.
func hybridTail(name string, l hybridLayout, isa avx, file []int) *function {
	f := &function{
		name: name, args: []string{"job *" + l.tailJobName, "scratch *" + l.scratchName, "table uintptr"},
		doc: "// " + name + " writes a table of Tail for the next nonces.\n",
	}
	isa.stream = new(stream)
	tailSchedule(&isa, l.tailLayout, l.tailLayout.tail(mem{tailReg, offset(l.scratch, "Tail")}), 64)
	f.begin("DI", scratchReg, tailReg)
	f.line("\tIMULQ $%d, %s", reflectField(l.scratch, "Tail").Elem().Size(), tailReg)
	f.line("\tADDQ %s, %s", scratchReg, tailReg)
	f.x86(isa.stream, file, isa.evex)
	f.line("\tVZEROUPPER\n\tRET")
	return f
}
