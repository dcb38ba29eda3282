package main

import (
	"fmt"
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// asimd emits NEON instructions. A vector of 8 lanes is two registers: two
// streams, one for each half, describe a unit.
type asimd struct {
	*stream
	half int
}

// neonWidth is the size of a register in bytes.
const neonWidth = 16

// mine is where this half of a vector is.
func (v asimd) mine(m mem) mem { return m.plus(v.half * neonWidth) }

// op emits an instruction that reads args and writes a new register.
func (v asimd) op(format string, args ...any) *reg {
	dst := newReg(neon)
	v.emit(ins{op: format, args: append(args, dst), dst: dst})
	return dst
}

// over emits an instruction that overwrites one of its sources.
func (v asimd) over(old *reg, format string, args ...any) *reg {
	dst := newReg(neon)
	v.emit(ins{op: format, args: append(args, dst, old), dst: dst, tied: old})
	return dst
}

func (v asimd) load(a any) *reg {
	switch a := a.(type) {
	case konst:
		return v.op("FMOVQ %s, F%d", a.mem)
	case word: // vld1r would take the place of both, but has no offset
		return v.op("VDUP V%d.S[0], V%d.S4", v.op("FMOVS %s, F%d", a.mem))
	}
	return v.op("FMOVQ %s, F%d", v.mine(a.(mem)))
}

func (v asimd) store(r *reg, m mem) {
	v.emit(ins{op: "FMOVQ F%d, %s", args: []any{r, v.mine(m)}})
}

func (v asimd) add(a *reg, b any) *reg {
	r, ok := b.(*reg)
	if !ok {
		r = v.load(b)
	}
	return v.op("VADD V%d.S4, V%d.S4, V%d.S4", r, a)
}

func (v asimd) xor(a, b *reg) *reg { return v.op("VEOR V%d.B16, V%d.B16, V%d.B16", b, a) }

// rotate returns rotations of x. Each is a shift to the left, into which what
// fell out is inserted; all shifts go first, as the insertions wait for them.
func (v asimd) rotate(x *reg, by ...int) []*reg {
	r := make([]*reg, len(by))
	for i, n := range by {
		r[i] = v.op("VSHL $%d, V%d.S4, V%d.S4", 32-n, x)
	}
	for i, n := range by {
		r[i] = v.over(r[i], "VSRI $%d, V%d.S4, V%d.S4", n, x)
	}
	return r
}

func (v asimd) rotations(x *reg, r1, r2, r3 int) *reg {
	r := v.rotate(x, r1, r2, r3)
	return v.xor(v.xor(r[0], r[1]), r[2])
}

func (v asimd) rotationsShift(x *reg, r1, r2, shift int) *reg {
	r := v.rotate(x, r1, r2)
	shifted := v.op("VUSHR $%d, V%d.S4, V%d.S4", shift, x)
	return v.xor(v.xor(r[0], r[1]), shifted)
}

// choose takes the bits of yes where mask is one and those of no elsewhere.
func (v asimd) choose(mask, yes, no *reg) *reg {
	return v.over(mask, "VBSL V%d.B16, V%d.B16, V%d.B16", no, yes)
}

func (v asimd) ch(e, f, g *reg) *reg { return v.choose(e, f, g) }

// maj is what a and b agree on, and else c.
func (v asimd) maj(a, b, c *reg) *reg { return v.choose(v.xor(a, b), c, b) }

func (v asimd) swap(x *reg, _ mem) *reg { return v.op("VREV32 V%d.B16, V%d.B16", x) }

// candidates finds out whether a unit's most significant words hold one that is
// not above the target's.
func (v asimd) candidates(target mem, top []*reg) {
	least := top[0]
	for _, t := range top[1:] {
		least = v.op("VUMIN V%d.S4, V%d.S4, V%d.S4", t, least)
	}
	// Equal lanes are all ones; so their sum is zero only without any.
	lower := v.op("VUMIN V%d.S4, V%d.S4, V%d.S4", v.load(target), least)
	found := v.op("VADDV V%d.S4, V%d", v.op("VCMEQ V%d.S4, V%d.S4, V%d.S4", lower, least))
	v.emit(ins{op: "FMOVS F%d, %s", args: []any{found, fixed(armFound)}})
}

var neonLayout = layout{
	reflect.TypeFor[tables.Job[tables.V4, tables.V8]](), reflect.TypeFor[tables.Scratch[tables.V8]](), armJob, armScratch,
}

// neonUnit merges the halves of a unit, each described by first as far as the
// digests of the first hash.
func neonUnit(l layout, first func(v vec) [8]*reg) *stream {
	var halves []strand
	var top []*reg
	for half := range 2 {
		v := asimd{new(stream), half}
		top = append(top, secondHash(v, l, 0, first(v)))
		halves = append(halves, strand{v.stream, 1})
	}
	end := asimd{stream: new(stream)}
	end.candidates(l.of("Top"), top)
	return merge(halves...).then(end.stream)
}

// neonTail describes the schedule of the tail for a vector of nonces, left in a
// table of pairs.
func neonTail(l layout, table pairs) *stream {
	var halves []strand
	for half := range 2 {
		v := asimd{new(stream), half}
		storePair := func(a, b *reg, row mem) {
			v.store(v.op("VZIP1 V%d.S4, V%d.S4, V%d.S4", b, a), row)
			v.store(v.op("VZIP2 V%d.S4, V%d.S4, V%d.S4", b, a), row.plus(l.vector()))
		}
		n := v.load(l.work("Nonce", 0))
		v.store(v.add(n, l.of("Step")), l.work("Nonce", 0))
		w := tailWords(v, l, 0)
		swapped := v.swap(n, l.of("Swap"))
		w.put(3, swapped)
		storePair(swapped, swapped, table.row(3)) // only the second one is read
		for t := 18; t < 64; t += 2 {
			even := v.add(w.next(t), l.konst("K", t))
			storePair(even, v.add(w.next(t+1), l.konst("K", t+1)), table.row(t))
		}
		halves = append(halves, strand{v.stream, 1})
	}
	return merge(halves...)
}

func neonSource() *source {
	l := neonLayout
	args := kernelArgs("tables.Job[tables.V4, tables.V8]", "tables.Scratch[tables.V8]")
	hits := l.work("Hits").off
	nonces := &function{
		name: "neonNonces", args: args, ret: "hits uintptr",
		doc: "// neonNonces hashes 8 nonces in each unit.\n",
	}
	nonces.beginARM64(armJob, armScratch, armUnits)
	nonces.loopARM64(hits, neonUnit(l, func(v vec) [8]*reg { return nonceLanes(v, l, 0) }))

	versions := &function{
		name: "neonVersions", args: args, ret: "hits uintptr",
		doc: "// neonVersions hashes 8 versions with one nonce of the table Tail in each unit.\n",
	}
	versions.beginARM64(armJob, armScratch, armUnits)
	versions.line("\tADD $%d, %s, %s", l.work("Tail").off, armScratch, armTable)
	versions.loopARM64(hits, neonUnit(l, func(v vec) [8]*reg {
		return versionLanes(v, l, l.tail(mem{armTable, 0}))
	}), fmt.Sprintf("ADD $%d, %s", pairSize, armTable))

	tail := &function{
		name: "neonTail", args: args[:2],
		doc: "// neonTail writes the table Tail for the next 8 nonces.\n",
	}
	tail.beginARM64(armJob, armScratch)
	tail.arm64(neonTail(l, l.tail(l.work("Tail"))))
	tail.line("\tRET")
	return &source{name: "neon", arch: "arm64", functions: []*function{nonces, versions, tail}}
}
