package main

import (
	"fmt"
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// hybrid describes the kernels of package tables' hybrid.go: one trip round the
// loop is one quarter of a unit in every stage.
type hybrid struct {
	name string
	doc  string
	isa  avx // how the schedule is computed
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

// Registers of a hybrid kernel; CX counts quarters down, AX points to the next
// entry of Hits.
const (
	jobReg    = "DI"
	tailReg   = "DX"  // stage 1: the table Tail at the pair of the unit's nonce
	setReg    = "R8"  // stage 1: the set, at the quarter
	setReg4   = "R9"  // stage 4: the same
	quarters  = "R10" // scratch memory, at the quarter
	statesReg = "R11" // stages 2 and 4: States, at the quarter
	states3   = "R12" // stage 3: States
	tailReg3  = "SI"  // stage 3: the table Tail at the next round
	digests1  = "BX"  // stage 1: Digests, at the quarter
	digests2  = "BP"  // stage 2: Digests, at the quarter
	wordsReg  = "R13" // stage 5: Words and K
	pairs5    = "R14" // stage 5: Pairs
	pairs6    = "R15" // stages 4 and 6: Pairs, at the quarter
)

var (
	hybridJob     = reflect.TypeFor[tables.HybridJob]()
	hybridSet     = reflect.TypeFor[tables.HybridSet]()
	hybridScratch = reflect.TypeFor[tables.HybridScratch]()
	stages        = reflect.TypeFor[tables.Stages]()
)

func (h *hybrid) of(name string, index ...int) mem {
	return mem{jobReg, offset(hybridJob, name, index...)}
}

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

// digestAt is where one half of lane i's variables is.
func digestAt(base string, half, i int) mem {
	return mem{base, half*int(reflect.TypeFor[tables.Digests]().Elem().Size()) + 64*i}
}

// ofQuarter is a place in scratch memory, for the quarter at hand.
func ofQuarter(name string, index ...int) mem {
	return mem{quarters, offset(hybridScratch, name, index...)}
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
					mem{setReg, offset(hybridSet, "FEBA", base+i)}, mem{setReg, offset(hybridSet, "HGDC", base+i)})
			}
		})
		for t := 4; t < 64-h.vectorRounds; t += 2 {
			from := mem{tailReg, 2 * vector16 * ((t-18)/2 + 1)}
			if t < 18 {
				from = h.of("TailPairs", (t-4)/2)
			}
			s.atomically(func() { rnds2(s, feba, hgdc, func(int) mem { return from }, true) })
		}
		s.atomically(func() {
			for i := range n {
				s.emit(ins{op: "VMOVDQU", args: []any{feba[i], digestAt(digests1, 0, base+i)}})
				s.emit(ins{op: "VMOVDQU", args: []any{hgdc[i], digestAt(digests1, 1, base+i)}})
			}
		})
	}
	return s
}

// second is the second hash of a quarter and returns where the decision is.
func (h *hybrid) second() (s *stream, feba []*reg) {
	s = new(stream)
	p := second{pairs6}
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

// turn turns a quarter's working variables into vectors.
func (h *hybrid) turn() *stream {
	v := h.narrow()
	for half, order := range [2][4]int{{5, 4, 1, 0}, {7, 6, 3, 2}} {
		var r [4]*reg
		for i := range r {
			r[i] = v.load(digestAt(digests2, half, i))
		}
		l01, h01 := v.pair(r[0], r[1])
		l23, h23 := v.pair(r[2], r[3])
		for i, x := range []*reg{
			v.op("VPUNPCKLQDQ", l23, l01), v.op("VPUNPCKHQDQ", l23, l01),
			v.op("VPUNPCKLQDQ", h23, h01), v.op("VPUNPCKHQDQ", h23, h01),
		} {
			v.store(x, mem{statesReg, vector16 * order[i]})
		}
	}
	return v.stream
}

// lastRounds does a trip's part of the first hash's last rounds in vectors.
func (h *hybrid) lastRounds() *stream {
	v := h.isa
	v.stream = new(stream)
	n := h.roundsPerTrip()
	if n == 0 {
		return v.stream
	}
	var s state
	for i := range s {
		s[i] = v.load(mem{states3, vector16 * i})
	}
	for t := range n {
		s = round(&v, s, false, word{mem{tailReg3, t/2*2*vector16 + t%2*4}})
	}
	for i := range s {
		v.store(s[i], mem{states3, vector16 * i})
	}
	return v.stream
}

// roundsPerTrip is even: two rounds share a row of the tail's schedule.
func (h *hybrid) roundsPerTrip() int {
	n := h.vectorRounds * h.parts() / 4
	if n%2 != 0 {
		panic(fmt.Sprintf("%s: %d rounds cannot be dealt out evenly", h.name, h.vectorRounds))
	}
	return n
}

// begin starts the second hash of a quarter.
func (h *hybrid) begin() *stream {
	v := h.narrow()
	var w [8]*reg
	for t := range w {
		w[t] = v.add(v.load(mem{statesReg, vector16 * t}), mem{setReg4, offset(hybridSet, "Mid", t)})
		v.store(w[t], ofQuarter("Words", t))
	}
	p := second{pairs6}
	v.storePair(v.op("VPXOR", w[0], w[0]), w[0], p.row(0), vector16)
	for t := 1; t < 8; t += 2 {
		odd := v.add(w[t], h.of("K4", t))
		even := v.load(h.of("KW8"))
		if t < 7 {
			even = v.add(w[t+1], h.of("K4", t+1))
		}
		v.storePair(odd, even, p.row(t), vector16)
	}
	if h.firstWord() > 16 {
		w16 := v.add(w[0], smallSigma0(v, w[1])) // words 9 and 14 are zero
		v.store(w16, ofQuarter("Words", 16))
		v.storePair(v.load(h.of("KW15")), v.add(w16, h.of("K16")), p.row(15), vector16)
	}
	return v.stream
}

// parts is into how many parts a vector of sixteen lanes falls. A trip works on
// one of them, and on the same one for 4/parts trips.
func (h *hybrid) parts() int { return vector16 / h.isa.width() }

// firstWord is the first schedule word that words computes. Word 16 is simple:
// begin does it in passing, so that the rest falls into whole pairs. With one
// part that is not possible, because the second trip still reads word 16 when
// the next unit's is written.
func (h *hybrid) firstWord() int {
	if h.parts() == 1 {
		return 16
	}
	return 17
}

// wordsPerTrip is even, and enough for words up to 60.
func (h *hybrid) wordsPerTrip() int {
	trips := 4 / h.parts()
	return (last + 1 - h.firstWord() + 2*trips - 1) / (2 * trips) * 2
}

// words computes a trip's words of the second hash's schedule, the first ones
// as seen from where the registers stand.
func (h *hybrid) words() *stream {
	v := h.isa
	v.stream = new(stream)
	toK := offset(hybridScratch, "K") - offset(hybridScratch, "Words")
	w := &schedule{
		v: &v, ring: mem{wordsReg, 0}, stride: vector16, linear: true,
		varies: func(int) bool { return true }, newest: map[int]*reg{},
	}
	plusK := func(r *reg, t int) *reg { return v.add(r, mem{wordsReg, toK + vector16*t}) }
	var odd *reg
	from := h.firstWord()
	if from%2 == 0 {
		odd = plusK(w.reg(from-1), from-1)
	}
	for t := from; t < from+h.wordsPerTrip(); t++ {
		word := plusK(w.next(t), t)
		if t%2 == 1 {
			odd = word
		} else {
			v.storePair(odd, word, second{pairs5}.row(t-1), vector16)
		}
	}
	return v.stream
}

// quarter is the loop body. The order of the vector stages matters: begin reads
// the states of a quarter before turn writes them, words the message words
// before begin does. First and second hash read and write early and late enough
// in their own stream; checkOrder proves it.
func (h *hybrid) quarter() *stream {
	secondHash, feba := h.second()
	sha := merge(strand{h.first(), 1}, strand{secondHash, 1})
	vectors := new(stream)
	vectors.then(h.words(), h.lastRounds(), h.begin(), h.turn())
	return merge(strand{sha, h.block}, strand{vectors, 1}).then(h.decide(feba))
}

func (h *hybrid) function() *function {
	f := &function{
		name: h.name, doc: h.doc, ret: "hits uintptr",
		args: append(kernelArgs("tables.HybridJob", "tables.HybridScratch"), "sets uintptr", "table uintptr"),
	}
	at := func(name string, index ...int) int {
		return offset(hybridScratch, "Stages") + offset(stages, name, index...)
	}
	const setsEnd, locals = "0(SP)", 8

	f.text(locals)
	f.line("\tMOVQ job+0(FP), %s", jobReg)
	f.line("\tMOVQ scratch+8(FP), AX")
	f.line("\tMOVQ units+16(FP), CX")
	f.line("\tSHLQ $2, CX")
	f.line("\tMOVQ sets+24(FP), %s", setReg)
	f.line("\tIMULQ $%d, %s", hybridSet.Size(), setReg)
	f.line("\tADDQ %s, %s", jobReg, setReg)
	f.line("\tMOVQ %s, %s", setReg, setsEnd)
	f.line("\tMOVQ %s, %s", jobReg, setReg) // Sets are the job's first field
	f.line("\tMOVQ table+32(FP), %s", tailReg)
	f.line("\tIMULQ $%d, %s", reflectField(hybridScratch, "Tail").Elem().Size(), tailReg)
	f.line("\tLEAQ %d(AX)(%s*1), %s", offset(hybridScratch, "Tail"), tailReg, tailReg)
	f.line("\tMOVQ AX, %s", quarters)
	f.line("\tLEAQ %d(AX), %s", offset(hybridScratch, "Words"), wordsReg)
	kept := []struct {
		reg string
		at  int
	}{{digests1, at("Digests", 0)}, {digests2, at("Digests", 1)}, {statesReg, at("States", 0)}, {states3, at("States", 1)}, {pairs5, at("Pairs", 0)}, {pairs6, at("Pairs", 1)}}
	for _, k := range kept {
		f.line("\tMOVQ %d(AX), %s", k.at, k.reg)
	}
	firstRow := h.rowOfRound(64 - h.vectorRounds)
	// behind loads what lags behind: the set and the table of earlier units.
	behind := func(base string) {
		f.line("\tMOVQ %d(%s), %s", at("SetBefore", 2), base, setReg4)
		f.line("\tMOVQ %d(%s), %s", at("TailBefore", 1), base, tailReg3)
		f.line("\tADDQ $%d, %s", firstRow, tailReg3)
	}
	behind("AX")
	f.line("\tADDQ $%d, AX", offset(hybridScratch, "Hits"))

	f.line("\tPCALIGN $64")
	f.line("quarter:")
	f.x86(h.quarter(), h.file, h.isa.evex)
	f.line("\tJEQ next")
	f.line("\tMOVL CX, (AX)")
	f.line("\tADDQ $4, AX")
	f.line("next:")
	steps := []struct {
		reg  string
		step int
	}{
		{setReg, 16}, {setReg4, 16}, {quarters, 16}, {digests1, 16}, {digests2, 16}, {statesReg, 16}, {pairs6, 16},
	}
	for _, s := range steps {
		f.line("\tADDQ $%d, %s", s.step, s.reg)
	}
	// What stands at a part: after its trips on to the next part.
	inParts := []struct {
		reg  string
		step int
	}{
		{tailReg3, h.roundsPerTrip() * vector16}, {wordsReg, h.wordsPerTrip() * vector16}, {pairs5, h.wordsPerTrip() * vector16},
	}
	f.line("\tDECQ CX")
	if h.parts() > 1 {
		f.line("\tTESTQ $1, CX")
		f.line("\tJEQ part")
	}
	for _, p := range inParts {
		f.line("\tADDQ $%d, %s", p.step, p.reg)
	}
	if h.parts() > 1 {
		f.line("\tJMP quarter")
		f.line("part:")
		f.line("\tSUBQ $%d, %s", inParts[0].step, tailReg3)
		f.line("\tADDQ $%d, %s", h.isa.width(), states3)
		for _, p := range inParts[1:] {
			f.line("\tSUBQ $%d, %s", p.step-h.isa.width(), p.reg)
		}
	}
	f.line("\tTESTQ $3, CX")
	f.line("\tJNE quarter")

	for _, s := range steps {
		if s.reg != setReg4 {
			f.line("\tSUBQ $%d, %s", 4*s.step, s.reg)
		}
	}
	for _, p := range inParts[1:] {
		if h.parts() > 1 {
			f.line("\tSUBQ $%d, %s", vector16, p.reg)
		} else {
			f.line("\tSUBQ $%d, %s", 4*p.step, p.reg)
		}
	}
	if h.parts() > 1 {
		f.line("\tSUBQ $%d, %s", vector16, states3)
	}
	// quarters is the start of scratch memory now.
	for _, q := range []struct {
		name   string
		length int
		newest string
	}{{"SetBefore", 3, setReg}, {"TailBefore", 2, tailReg}} {
		for i := q.length - 1; i > 0; i-- {
			f.line("\tMOVQ %d(%s), %s", at(q.name, i-1), quarters, setReg4)
			f.line("\tMOVQ %s, %d(%s)", setReg4, at(q.name, i), quarters)
		}
		f.line("\tMOVQ %s, %d(%s)", q.newest, at(q.name, 0), quarters)
	}
	behind(quarters)
	f.line("\tADDQ $%d, %s", hybridSet.Size(), setReg)
	f.line("\tCMPQ %s, %s", setReg, setsEnd)
	f.line("\tJNE sameNonce")
	f.line("\tMOVQ %s, %s", jobReg, setReg)
	f.line("\tADDQ $%d, %s", pairSize, tailReg)
	f.line("sameNonce:")
	f.line("\tXCHGQ %s, %s", digests1, digests2)
	f.line("\tXCHGQ %s, %s", statesReg, states3)
	f.line("\tXCHGQ %s, %s", pairs5, pairs6)
	f.line("\tTESTQ CX, CX")
	f.line("\tJNE quarter")

	for _, k := range kept {
		f.line("\tMOVQ %s, %d(%s)", k.reg, k.at, quarters)
	}
	f.line("\tSUBQ $%d, AX", offset(hybridScratch, "Hits"))
	f.line("\tSUBQ %s, AX", quarters)
	f.line("\tSHRQ $2, AX")
	f.line("\tVZEROUPPER")
	f.line("\tMOVQ AX, hits+%d(FP)", 8*len(f.args))
	f.line("\tRET")
	return f
}

// rowOfRound is how far from the first row the tail's schedule for round t is.
func (h *hybrid) rowOfRound(t int) int { return 2 * vector16 * ((t-18)/2 + 1) }

func hybridSource() *source {
	zmmForm := &hybrid{
		name: "hybridZ", doc: "// hybridZ hashes 16 versions with one nonce in each unit; vectors have 512 bits.\n",
		isa:    avx{class: zmm, evex: true, noTern: true},
		lanes1: 2, lanes2: 4, block: 4, vectorRounds: 0, file: count(31, 1),
	}
	ymmForm := &hybrid{
		name: "hybridY", doc: "// hybridY is hybridZ with vectors of 256 bits.\n",
		isa:    avx{class: ymm, evex: true, noTern: true},
		lanes1: 2, lanes2: 4, block: 2, vectorRounds: 12, file: count(31, 1),
	}
	tail := hybridTail()
	return &source{name: "hybrid", arch: "amd64", functions: []*function{tail, zmmForm.function(), ymmForm.function()}}
}

func hybridTail() *function {
	f := &function{
		name: "hybridTail", args: []string{"job *" + job16, "scratch *tables.HybridScratch", "table uintptr"},
		doc: "// hybridTail writes a table of Tail for the next 16 nonces.\n",
	}
	v := &avx{stream: new(stream), class: zmm, evex: true}
	tailSchedule(v, layoutHybrid, layoutHybrid.tail(mem{"DX", offset(hybridScratch, "Tail")}))
	f.begin("DI", "SI", "DX")
	f.line("\tIMULQ $%d, DX", reflectField(hybridScratch, "Tail").Elem().Size())
	f.line("\tADDQ SI, DX")
	f.x86(v.stream, thirtyTwo, true)
	f.line("\tVZEROUPPER\n\tRET")
	return f
}
