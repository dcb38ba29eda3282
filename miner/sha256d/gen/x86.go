package main

import "fmt"

// avx emits AVX2 or AVX-512 instructions of one width.
type avx struct {
	*stream
	class  class
	evex   bool // AVX-512: rotations, ternary logic, broadcast operands, 32 registers
	noTern bool // two exclusive ors for a ternary one, see xor3
}

// width is the size of a vector in bytes.
func (v *avx) width() int { return map[class]int{xmmE: 16, ymm: 32, zmm: 64}[v.class] }

// op emits an instruction that reads args and writes a new register.
func (v *avx) op(name string, args ...any) *reg {
	dst := newReg(v.class)
	v.emit(ins{op: name, args: append(args, dst), dst: dst})
	return dst
}

func (v *avx) tern(table imm, a, b, c *reg) *reg {
	dst := newReg(v.class)
	v.emit(ins{op: "VPTERNLOGD", args: []any{table, c, b, dst, a}, dst: dst, tied: a})
	return dst
}

// operand says where an operand is in memory and whether it is one word.
func (v *avx) operand(a any) (where any, broadcast bool) {
	switch a := a.(type) {
	case word:
		return a.mem, true
	case konst:
		return a.mem, v.evex
	}
	return a, false
}

func (v *avx) load(a any) *reg {
	where, broadcast := v.operand(a)
	if broadcast {
		return v.op("VPBROADCASTD", where)
	}
	return v.op("VMOVDQA", where)
}

func (v *avx) store(r *reg, m mem) { v.emit(ins{op: "VMOVDQA", args: []any{r, m}}) }

func (v *avx) add(a *reg, b any) *reg {
	where, broadcast := v.operand(b)
	switch {
	case broadcast && v.evex:
		return v.op("VPADDD.BCST", where, a)
	case broadcast:
		where = v.load(b)
	}
	return v.op("VPADDD", where, a)
}

// pair interleaves the words of two registers, half of the lanes in each result.
func (v *avx) pair(a, b *reg) (lo, hi *reg) {
	return v.op("VPUNPCKLDQ", b, a), v.op("VPUNPCKHDQ", b, a)
}

func (v *avx) xor(a, b *reg) *reg { return v.op("VPXOR", a, b) }

// xor3 is one ternary instruction or two. Beside SHA-NI two are better: the
// ternary one was measured to cost more than its share of the pipes there.
func (v *avx) xor3(a, b, c *reg) *reg {
	if v.evex && !v.noTern {
		return v.tern(0x96, a, b, c)
	}
	return v.xor(v.xor(a, b), c)
}

func (v *avx) rotations(x *reg, r1, r2, r3 int) *reg {
	if v.evex {
		return v.xor3(v.rotate(x, r1), v.rotate(x, r2), v.rotate(x, r3))
	}
	return v.shifts(x, []int{r1, r2, r3}, []int{32 - r1, 32 - r2, 32 - r3})
}

func (v *avx) rotationsShift(x *reg, r1, r2, shift int) *reg {
	if v.evex {
		return v.xor3(v.rotate(x, r1), v.rotate(x, r2), v.op("VPSRLD", imm(shift), x))
	}
	return v.shifts(x, []int{r1, r2, shift}, []int{32 - r1, 32 - r2})
}

func (v *avx) rotate(x *reg, n int) *reg { return v.op("VPRORD", imm(n), x) }

// shifts combines shifts to the right and to the left one by one: AVX2 has no
// rotation and few registers.
func (v *avx) shifts(x *reg, right, left []int) *reg {
	sum := v.op("VPSRLD", imm(right[0]), x)
	for _, n := range right[1:] {
		sum = v.xor(sum, v.op("VPSRLD", imm(n), x))
	}
	for _, n := range left {
		sum = v.xor(sum, v.op("VPSLLD", imm(n), x))
	}
	return sum
}

func (v *avx) ch(e, f, g *reg) *reg {
	if v.evex {
		return v.tern(0xca, e, f, g)
	}
	return v.xor(v.op("VPAND", v.xor(f, g), e), g)
}

func (v *avx) maj(a, b, c *reg) *reg {
	if v.evex {
		return v.tern(0xe8, a, b, c)
	}
	// (a∧b) ⊕ (c∧(a⊕b)), the two never both one.
	return v.xor(v.op("VPAND", a, b), v.op("VPAND", c, v.xor(a, b)))
}

func (v *avx) swap(x *reg, m mem) *reg { return v.op("VPSHUFB", m, x) }

// assembler writes x86 instructions for Go's assembler.
func assembleX86(in ins, evex bool) string {
	high, wide := false, false
	for _, a := range in.args {
		if r, ok := a.(*reg); ok {
			high = high || r.phys > 15
			wide = wide || r.class == zmm
		}
	}
	op := in.op
	if evex && (high || wide) {
		// These have other names in their EVEX form; for all the rest the
		// assembler chooses by itself, and the shorter form where it can.
		switch op {
		case "VPXOR", "VPAND", "VPOR":
			op += "D"
		case "VMOVDQA":
			op = "VMOVDQA32"
		}
	}
	out := "\t" + op
	args := in.args
	if in.tied != nil {
		args = args[:len(args)-1] // the tied source is the destination by now
	}
	for i, a := range args {
		if i > 0 {
			out += ","
		}
		out += " " + x86Operand(a)
	}
	return out
}

func x86Operand(a any) string {
	switch a := a.(type) {
	case *reg:
		return fmt.Sprintf("%c%d", "XXYZ"[a.class], a.phys)
	case mem:
		if a.off == 0 {
			return "(" + a.base + ")"
		}
		return fmt.Sprintf("%d(%s)", a.off, a.base)
	case imm:
		return fmt.Sprintf("$%d", int(a))
	case fixed:
		return string(a)
	}
	panic(fmt.Sprintf("no x86 operand: %T", a))
}

func copyX86(c class) string {
	if c == xmm {
		return "MOVOA"
	}
	return "VMOVDQA"
}
