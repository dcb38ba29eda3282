package main

import (
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
	// block is how many groups of SHA instructions go between vector
	// instructions at a time.
	block int
	file  []int
}

// hybridLayout is the memory of one form of hybrid kernel.
type hybridLayout struct {
	job, set, scratch                reflect.Type
	jobName, scratchName, tailVector string
	lanes                            int
	tailLayout                       layout
}

// Registers of a hybrid kernel; CX counts units down, AX counts hits up.
const (
	jobReg   = "DI"
	scratch  = "SI"
	tailReg  = "DX"  // stage 1: the table Tail at the pair of the unit's nonce
	setReg   = "R8"  // stage 1
	setReg2  = "R9"  // stage 2: the set
	tailReg2 = "R10" // stage 2: the same of the table Tail
	pairs2   = "R11" // stage 2: Pairs
	pairs3   = "R12" // stage 3: Pairs
	setsEnd  = "R13"
)

func (h *hybrid) of(name string, index ...int) mem {
	return mem{jobReg, offset(h.l.job, name, index...)}
}

func (h *hybrid) konst(name string, index ...int) konst { return konst{h.of(name, index...)} }

func (h *hybrid) set(base, name string, index ...int) mem {
	return mem{base, offset(h.l.set, name, index...)}
}

func (h *hybrid) work(name string, index ...int) mem {
	return mem{scratch, offset(h.l.scratch, name, index...)}
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
	return feba, w.op("VMOVDQA", constHGDC)
}

// stage1 is the first hash.
func (h *hybrid) stage1() *stream {
	s := new(stream)
	p := h.tail(tailReg)
	for base := 0; base < h.l.lanes; base += h.lanes1 {
		n := min(h.lanes1, h.l.lanes-base)
		feba, hgdc := make([]*reg, n), make([]*reg, n)
		s.atomically(func() {
			for i := range n {
				feba[i], hgdc[i] = start(s, p.row(3), h.set(setReg, "FEBA", base+i), h.set(setReg, "HGDC", base+i))
			}
		})
		for t := 4; t < 64-h.vectorRounds; t += 2 {
			from := p.row
			if t < 18 {
				from = func(t int) mem { return h.of("TailPairs", (t-4)/2) }
			}
			s.atomically(func() { rnds2(s, feba, hgdc, func(int) mem { return from(t) }, true) })
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

// stage3 is the second hash; tops are the most significant words of the
// results, four lanes in each.
func (h *hybrid) stage3() (s *stream, tops []*reg) {
	s = new(stream)
	p := h.second(pairs3)
	var feba []*reg
	for base := 0; base < h.l.lanes; base += h.lanes2 {
		n := min(h.lanes2, h.l.lanes-base)
		ours, hgdc := make([]*reg, n), make([]*reg, n)
		s.atomically(func() {
			for i := range n {
				ours[i], hgdc[i] = start(s, p.row(0).plus(p.slot(base+i)), h.of("SecondFEBA"), h.of("SecondHGDC"))
			}
		})
		for t := 1; t <= last; t += 2 {
			s.atomically(func() {
				if t >= 9 && t < 15 {
					rnds2(s, ours, hgdc, func(int) mem { return h.of("SecondPairs", (t-9)/2) }, true)
				} else {
					rnds2(s, ours, hgdc, func(i int) mem { return p.row(t).plus(p.slot(base + i)) }, false)
				}
			})
		}
		for feba = append(feba, ours...); len(feba) >= 4; feba = feba[4:] {
			v := h.isa
			v.stream, v.class = s, xmmE
			lo := v.op("VPUNPCKLDQ", feba[1], feba[0])
			hi := v.op("VPUNPCKLDQ", feba[3], feba[2])
			e := v.op("VPADDD", h.of("IV7"), v.op("VPUNPCKHQDQ", hi, lo))
			tops = append(tops, v.swap(e, h.of("Swap")))
		}
	}
	return s, tops
}

// stage2 turns the digests into vectors, does the last rounds of the first hash
// and computes the schedule of the second.
func (h *hybrid) stage2() *stream {
	v := h.isa
	v.stream = new(stream)
	var s state
	for half, order := range [2][4]int{{5, 4, 1, 0}, {7, 6, 3, 2}} {
		var r [4]*reg
		for i := range r {
			r[i] = v.load(h.work("Digests", half, i))
		}
		l01, h01 := v.pair(r[0], r[1])
		l23, h23 := v.pair(r[2], r[3])
		s[order[0]], s[order[1]] = v.op("VPUNPCKLQDQ", l23, l01), v.op("VPUNPCKHQDQ", l23, l01)
		s[order[2]], s[order[3]] = v.op("VPUNPCKLQDQ", h23, h01), v.op("VPUNPCKHQDQ", h23, h01)
	}
	for t := 64 - h.vectorRounds; t < 64; t++ {
		s = round(&v, s, false, h.tail(tailReg2).word(t))
	}

	w := &schedule{
		v: &v, ring: h.work("Words"), stride: h.isa.width(), varies: secondVaries, has: secondHas,
		constant: func(t int) konst { return h.konst("U2", t) }, newest: map[int]*reg{},
	}
	p := h.second(pairs2)
	plusK := func(r *reg, t int) *reg { return v.add(r, h.konst("K", t)) }
	var odd *reg
	for t := range 8 {
		word := v.add(s[t], h.set(setReg2, "Mid", t))
		w.put(t, word)
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
	third, tops := h.stage3()
	sha := merge(strand{h.stage1(), 1}, strand{third, 1})
	end := h.isa
	end.stream = new(stream)
	end.candidates(h.of("Top"), tops)
	return merge(strand{sha, h.block}, strand{h.stage2(), 1}).then(end.stream)
}

func (h *hybrid) function() *function {
	f := &function{
		name: h.name, doc: h.doc, ret: "hits uintptr",
		args: append(kernelArgs(h.l.jobName, h.l.scratchName), "sets uintptr", "table uintptr"),
	}
	at := func(name string, index ...int) int { return h.work(name, index...).off }
	f.begin(jobReg, scratch, "CX", setsEnd, tailReg)
	f.line("\tIMULQ $%d, %s", h.l.set.Size(), setsEnd)
	f.line("\tADDQ %s, %s", jobReg, setsEnd)
	f.line("\tMOVQ %s, %s", jobReg, setReg) // Sets are the job's first field
	f.line("\tIMULQ $%d, %s", reflectField(h.l.scratch, "Tail").Elem().Size(), tailReg)
	f.line("\tLEAQ %d(%s)(%s*1), %s", at("Tail"), scratch, tailReg, tailReg)
	kept := []struct {
		reg string
		at  int
	}{{setReg2, at("SetBefore")}, {tailReg2, at("TailBefore")}, {pairs2, at("PairsNext", 0)}, {pairs3, at("PairsNext", 1)}}
	for _, k := range kept {
		f.line("\tMOVQ %d(%s), %s", k.at, scratch, k.reg)
	}
	f.unitLoop(at("Hits"), func() { f.x86(h.body(), h.file, h.isa.evex) }, func() {
		f.line("\tMOVQ %s, %s", setReg, setReg2)
		f.line("\tMOVQ %s, %s", tailReg, tailReg2)
		f.line("\tXCHGQ %s, %s", pairs2, pairs3)
		f.line("\tADDQ $%d, %s", h.l.set.Size(), setReg)
		f.line("\tCMPQ %s, %s", setReg, setsEnd)
		f.line("\tJNE sameNonce")
		f.line("\tMOVQ %s, %s", jobReg, setReg)
		f.line("\tADDQ $%d, %s", pairSize, tailReg)
		f.line("sameNonce:")
	}, func() {
		for _, k := range kept {
			f.line("\tMOVQ %s, %d(%s)", k.reg, k.at, scratch)
		}
	})
	return f
}

var (
	hybrid512Y = hybridLayout{
		job: reflect.TypeFor[tables.HybridJob[uint32, tables.V8]](), set: reflect.TypeFor[tables.HybridSet[tables.V8]](),
		scratch: reflect.TypeFor[tables.HybridScratch[tables.V16, tables.V8]](), lanes: 8,
		jobName: "tables.HybridJob[uint32, tables.V8]", scratchName: "tables.HybridScratch[tables.V16, tables.V8]",
	}
	hybrid512Z = hybridLayout{
		job: reflect.TypeFor[tables.HybridJob[uint32, tables.V16]](), set: reflect.TypeFor[tables.HybridSet[tables.V16]](),
		scratch: reflect.TypeFor[tables.HybridScratch[tables.V16, tables.V16]](), lanes: 16,
		jobName: "tables.HybridJob[uint32, tables.V16]", scratchName: "tables.HybridScratch[tables.V16, tables.V16]",
	}
)

// tailTable is the layout of a tail schedule that is kept in a hybrid kernel's
// memory but computed from a Job.
func tailTable(scratch reflect.Type) layout {
	return layout{reflect.TypeFor[tables.Job[uint32, tables.V16]](), scratch, "DI", "SI"}
}

func hybridSource() *source {
	isa := avx{evex: true, noTern: true}
	zmmForm := &hybrid{
		name: "hybridZ", doc: "// hybridZ hashes 16 versions with one nonce in each unit; vectors have 512 bits.\n",
		isa: isa, l: hybrid512Z, lanes1: 2, lanes2: 4, block: 4, vectorRounds: 0, file: count(31, 1),
	}
	zmmForm.isa.class = zmm
	ymmForm := &hybrid{
		name: "hybridY", doc: "// hybridY hashes 8 versions with one nonce in each unit; vectors have 256 bits.\n",
		isa: isa, l: hybrid512Y, lanes1: 2, lanes2: 4, block: 2, vectorRounds: 12, file: count(31, 1),
	}
	ymmForm.isa.class = ymm
	zmmForm.l.tailLayout, ymmForm.l.tailLayout = tailTable(hybrid512Z.scratch), tailTable(hybrid512Y.scratch)
	return &source{name: "hybrid", arch: "amd64", functions: []*function{
		hybridTail("hybridTailZ", zmmForm.l), zmmForm.function(), hybridTail("hybridTailY", ymmForm.l), ymmForm.function(),
	}}
}

func hybridTail(name string, l hybridLayout) *function {
	f := &function{
		name: name, args: []string{"job *" + job16, "scratch *" + l.scratchName, "table uintptr"},
		doc: "// " + name + " writes a table of Tail for the next nonces.\n",
	}
	v := &avx{stream: new(stream), class: zmm, evex: true}
	tailSchedule(v, l.tailLayout, l.tailLayout.tail(mem{"DX", offset(l.scratch, "Tail")}))
	f.begin("DI", "SI", "DX")
	f.line("\tIMULQ $%d, DX", reflectField(l.scratch, "Tail").Elem().Size())
	f.line("\tADDQ SI, DX")
	f.x86(v.stream, thirtyTwo, true)
	f.line("\tVZEROUPPER\n\tRET")
	return f
}
