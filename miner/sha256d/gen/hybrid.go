package main

import (
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// hybrid describes the kernels of package tables' hybrid.go: one trip round the
// loop is one quarter of a unit in every stage.
type hybrid struct {
	name string
	doc  string
	isa  avx // how the schedule is computed
	job  reflect.Type
	// lanes1 and lanes2 are how many lanes of the first and of the second hash
	// run side by side: two registers each, of fifteen, and enough of them to
	// keep the SHA unit busy, which needs four cycles for an instruction.
	lanes1, lanes2 int
	// block is how many groups of SHA instructions go between vector
	// instructions at a time.
	block int
	file  []int
}

// Registers of a hybrid kernel.
const (
	jobReg     = "DI"
	tailReg    = "DX" // the table Tail at the pair of the unit's nonce
	set1       = "R8"
	set2       = "R9"
	digestsOut = "R10"
	digestsIn  = "R11"
	wordsOut   = "R12"
	wordsReg   = "R13"
	constReg   = "BX" // K
	pairsA     = "SI"
	pairsB     = "R14"
	pairsC     = "R15"
)

var (
	hybridSet     = reflect.TypeFor[tables.HybridSet]()
	hybridScratch = reflect.TypeFor[tables.HybridScratch]()
	stages        = reflect.TypeFor[tables.Stages]()
)

func (h *hybrid) of(name string, index ...int) mem { return mem{jobReg, offset(h.job, name, index...)} }

// second is the table of the second hash's schedule at a register.
type second struct{ base string }

const vector16 = 64

// row returns the place of the row that holds round t, which is not one of 9 … 14.
func (p second) row(t int) mem {
	switch {
	case t == 0:
		return mem{p.base, 0}
	case t < 9:
		return mem{p.base, 2 * vector16 * ((t-1)/2 + 1)}
	}
	return mem{p.base, 2 * vector16 * ((t-15)/2 + 5)}
}

// lane is where the pair of lane i of a quarter is, from the first one's.
func slotOf(i int) int { return i%4/2*vector16 + i%2*8 }

// digestAt is where a quarter's lane i of the first hash's result is.
func digestAt(base string, half, i int) mem {
	return mem{base, 256*half + 64*i}
}

// rnds2 emits sha256rnds2 for some lanes, two rounds each, with K + W from
// memory; the pair of all lanes, if shared.
func rnds2(s *stream, feba, hgdc []*reg, from func(lane int) mem, shared bool) {
	const x0 = fixed("X0")
	for i := range feba {
		if i == 0 || !shared {
			s.emit(ins{op: "VMOVQ", args: []any{from(i), x0}})
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
	return feba, w.op("VMOVDQU", constHGDC)
}

// first is the first hash of a quarter.
func (h *hybrid) first() *stream {
	s := new(stream)
	for base := 0; base < 4; base += h.lanes1 {
		n := min(h.lanes1, 4-base)
		feba, hgdc := make([]*reg, n), make([]*reg, n)
		s.atomically(func() {
			for i := range n {
				feba[i], hgdc[i] = start(s, mem{tailReg, 0},
					mem{set1, offset(hybridSet, "FEBA", base+i)}, mem{set1, offset(hybridSet, "HGDC", base+i)})
			}
		})
		for t := 4; t < 64; t += 2 {
			from := mem{tailReg, 2 * vector16 * ((t-18)/2 + 1)}
			if t < 18 {
				from = h.of("TailPairs", (t-4)/2)
			}
			s.atomically(func() { rnds2(s, feba, hgdc, func(int) mem { return from }, true) })
		}
		s.atomically(func() {
			for i := range n {
				s.emit(ins{op: "VMOVDQU", args: []any{feba[i], digestAt(digestsOut, 0, base+i)}})
				s.emit(ins{op: "VMOVDQU", args: []any{hgdc[i], digestAt(digestsOut, 1, base+i)}})
			}
		})
	}
	return s
}

// second is the second hash of a quarter and returns where the decision is.
func (h *hybrid) second() (s *stream, feba []*reg) {
	s = new(stream)
	p := second{pairsC}
	for base := 0; base < 4; base += h.lanes2 {
		n := min(h.lanes2, 4-base)
		ours, hgdc := make([]*reg, n), make([]*reg, n)
		s.atomically(func() {
			for i := range n {
				ours[i], hgdc[i] = start(s, p.row(0).plus(slotOf(base+i)), h.of("SecondFEBA"), h.of("SecondHGDC"))
			}
		})
		for t := 1; t <= last; t += 2 {
			s.atomically(func() {
				if t >= 9 && t < 15 {
					rnds2(s, ours, hgdc, func(int) mem { return h.of("SecondPairs", (t-9)/2) }, true)
				} else {
					rnds2(s, ours, hgdc, func(i int) mem { return p.row(t).plus(slotOf(base + i)) }, false)
				}
			})
		}
		feba = append(feba, ours...)
	}
	return s, feba
}

// decide compares the last words of four hashes with the target.
func (h *hybrid) decide(feba []*reg) *stream {
	v := h.narrow()
	lo := v.op("VPUNPCKLDQ", feba[1], feba[0])
	hi := v.op("VPUNPCKLDQ", feba[3], feba[2])
	e := v.op("VPADDD", h.of("IV7"), v.op("VPUNPCKHQDQ", hi, lo))
	v.candidates(h.of("Top"), []*reg{v.swap(e, h.of("Swap"))})
	return v.stream
}

// narrow returns an emitter for vectors of one quarter.
func (h *hybrid) narrow() *avx {
	v := h.isa
	v.stream, v.class = new(stream), xmmE
	return &v
}

// turn turns a quarter's four results of the first hash into vectors, adds the
// hash value before, and starts the second hash with them.
func (h *hybrid) turn() *stream {
	v := h.narrow()
	var w [8]*reg
	for half, order := range [2][4]int{{5, 4, 1, 0}, {7, 6, 3, 2}} {
		var r [4]*reg
		for i := range r {
			r[i] = v.load(digestAt(digestsIn, half, i))
		}
		l01, h01 := v.pair(r[0], r[1])
		l23, h23 := v.pair(r[2], r[3])
		for i, x := range []*reg{
			v.op("VPUNPCKLQDQ", l23, l01), v.op("VPUNPCKHQDQ", l23, l01),
			v.op("VPUNPCKLQDQ", h23, h01), v.op("VPUNPCKHQDQ", h23, h01),
		} {
			t := order[i]
			w[t] = v.add(x, mem{set2, offset(hybridSet, "Mid", t)})
			v.store(w[t], mem{wordsOut, vector16 * t})
		}
	}
	p := second{pairsA}
	v.storePair(v.op("VPXOR", w[0], w[0]), w[0], p.row(0), vector16)
	for t := 1; t < 8; t += 2 {
		odd := v.add(w[t], h.of("K4", t))
		even := v.load(h.of("KW8"))
		if t < 7 {
			even = v.add(w[t+1], h.of("K4", t+1))
		}
		v.storePair(odd, even, p.row(t), vector16)
	}
	return v.stream
}

// wordsPerQuarter is how many schedule words one trip computes: 16 … 63 in four.
const wordsPerQuarter = 12

// words computes a quarter of the schedule of the second hash: words 16 … 27,
// counted from where the registers stand.
func (h *hybrid) words(half int) *stream {
	v := h.isa
	v.stream = new(stream)
	shift := half * v.width()
	konstSize := int(reflectField(h.job, "K").Elem().Size())
	kOf := func(t int) konst { return konst{mem{constReg, konstSize * t}} }
	always := func(int) bool { return true }
	w := &schedule{
		v: &v, ring: mem{wordsReg, shift}, stride: vector16, linear: true, varies: always, newest: map[int]*reg{},
	}
	p := second{pairsB}
	odd := v.add(w.reg(15), kOf(15))
	for t := 16; t < 16+wordsPerQuarter; t++ {
		word := v.add(w.next(t), kOf(t))
		if t%2 == 0 {
			v.storePair(odd, word, p.row(t-1).plus(shift), vector16)
		} else {
			odd = word
		}
	}
	return v.stream
}

// quarter is the loop body.
func (h *hybrid) quarter() *stream {
	secondHash, feba := h.second()
	sha := merge(strand{h.first(), 1}, strand{secondHash, 1})
	schedule := h.turn()
	for half := range vector16 / h.isa.width() {
		schedule.then(h.words(half))
	}
	return merge(strand{sha, h.block}, strand{schedule, 1}).then(h.decide(feba))
}

func (h *hybrid) function() *function {
	job := "tables.HybridJob[uint32]"
	if !h.isa.evex {
		job = "tables.HybridJob[tables.V8]"
	}
	f := &function{name: h.name, doc: h.doc, args: append(kernelArgs(job, "tables.HybridScratch"), "sets uintptr"), ret: "hits uintptr"}
	const locals = 16
	f.text(locals)
	f.line("\tMOVQ job+0(FP), %s", jobReg)
	f.line("\tMOVQ scratch+8(FP), AX")
	f.line("\tMOVQ units+16(FP), CX")
	f.line("\tSHLQ $2, CX")
	f.line("\tMOVQ AX, 0(SP)")
	f.line("\tMOVQ sets+24(FP), %s", set1)
	f.line("\tIMULQ $%d, %s", hybridSet.Size(), set1)
	f.line("\tADDQ %s, %s", jobReg, set1)
	f.line("\tMOVQ %s, 8(SP)", set1)
	stagesAt := offset(hybridScratch, "Stages")
	kept := []struct{ reg, field string }{
		{set1, "Set"}, {set2, "SetBefore"}, {digestsOut, "DigestsOut"}, {digestsIn, "DigestsIn"},
		{wordsOut, "WordsOut"}, {wordsReg, "Words"}, {pairsA, "PairsA"}, {pairsB, "PairsB"}, {pairsC, "PairsC"},
	}
	for _, k := range kept {
		f.line("\tMOVQ %d(AX), %s", stagesAt+offset(stages, k.field), k.reg)
	}
	f.line("\tLEAQ %d(AX), %s", offset(hybridScratch, "Tail"), tailReg)
	f.line("\tADDQ $%d, AX", offset(hybridScratch, "Hits"))
	f.line("unit:")
	f.line("\tLEAQ %d(%s), %s", offset(h.job, "K"), jobReg, constReg)
	f.line("quarter:")
	f.x86(h.quarter(), h.file, h.isa.evex)
	f.line("\tJEQ next")
	f.line("\tMOVL CX, (AX)")
	f.line("\tADDQ $4, AX")
	f.line("next:")
	konstSize := int(reflectField(h.job, "K").Elem().Size())
	steps := []struct {
		reg  string
		step int
	}{
		{set1, 16}, {set2, 16}, {digestsOut, 16}, {digestsIn, 16}, {wordsOut, 16}, {pairsA, 16}, {pairsC, 16},
		{wordsReg, wordsPerQuarter * vector16}, {pairsB, wordsPerQuarter / 2 * 2 * vector16}, {constReg, wordsPerQuarter * konstSize},
	}
	for _, s := range steps {
		f.line("\tADDQ $%d, %s", s.step, s.reg)
	}
	f.line("\tDECQ CX")
	f.line("\tTESTQ $3, CX")
	f.line("\tJNE quarter")
	for _, s := range steps {
		if s.reg != set2 && s.reg != constReg {
			f.line("\tSUBQ $%d, %s", 4*s.step, s.reg)
		}
	}
	f.line("\tMOVQ %s, %s", set1, set2)
	f.line("\tADDQ $%d, %s", hybridSet.Size(), set1)
	f.line("\tCMPQ %s, 8(SP)", set1)
	f.line("\tJNE sameNonce")
	f.line("\tMOVQ %s, %s", jobReg, set1)
	f.line("\tADDQ $%d, %s", pairSize, tailReg)
	f.line("sameNonce:")
	f.line("\tXCHGQ %s, %s", digestsOut, digestsIn)
	f.line("\tXCHGQ %s, %s", wordsOut, wordsReg)
	f.line("\tXCHGQ %s, %s", pairsA, pairsC)
	f.line("\tXCHGQ %s, %s", pairsB, pairsC)
	f.line("\tTESTQ CX, CX")
	f.line("\tJNE unit")
	f.line("\tMOVQ 0(SP), %s", constReg)
	for _, k := range kept {
		f.line("\tMOVQ %s, %d(%s)", k.reg, stagesAt+offset(stages, k.field), constReg)
	}
	f.line("\tSUBQ $%d, AX", offset(hybridScratch, "Hits"))
	f.line("\tSUBQ %s, AX", constReg)
	f.line("\tSHRQ $2, AX")
	f.line("\tVZEROUPPER")
	f.line("\tMOVQ AX, hits+32(FP)")
	f.line("\tRET")
	return f
}

func hybridSource() *source {
	zmmForm := &hybrid{
		name: "hybridZ", doc: "// hybridZ hashes 16 versions with one nonce in each unit; schedule in 512-bit vectors.\n",
		isa: avx{class: zmm, evex: true, noTern: true}, job: reflect.TypeFor[tables.HybridJob[uint32]](),
		lanes1: 2, lanes2: 4, block: 2, file: count(31, 1),
	}
	ymmForm := &hybrid{
		name: "hybridY", doc: "// hybridY is hybridZ with 256-bit vectors.\n",
		isa: avx{class: ymm, evex: true, noTern: true}, job: reflect.TypeFor[tables.HybridJob[uint32]](),
		lanes1: 2, lanes2: 4, block: 2, file: count(31, 1),
	}
	tail := tailFunction("hybridTail", "// hybridTail writes the table Tail for the next 16 nonces.\n",
		job16, "tables.HybridScratch", layoutHybrid, avx{class: zmm, evex: true}, thirtyTwo)
	return &source{name: "hybrid", arch: "amd64", functions: []*function{tail, zmmForm.function(), ymmForm.function()}}
}
