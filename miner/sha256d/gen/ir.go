package main

import (
	"fmt"
	"slices"
)

// class is the width of a virtual register. All share one register file.
type class int

const (
	xmm  class = iota // 128 bits, in the sixteen registers legacy encodings reach
	xmmE              // 128 bits, any register
	ymm
	zmm
	neon
)

// reg is a virtual register: it is written once (or, when tied, takes over a
// register that dies) and lives until its last use.
type reg struct {
	class class
	phys  int // −1 until allocated
	last  int // index of the last instruction that reads it
}

func newReg(c class) *reg { return &reg{class: c, phys: -1, last: -1} }

// mem is a memory operand.
type mem struct {
	base string
	off  int
}

func (m mem) plus(off int) mem { m.off += off; return m }

// konst is a constant that an instruction may take from memory in the job's
// form: broadcast from one word, or a whole vector.
type konst struct{ mem }

// word is one 32-bit word in memory, to be broadcast.
type word struct{ mem }

type imm int

// fixed is a register named by hand: a mask, or X0, which sha256rnds2 implies.
type fixed string

// ins is one instruction. Operands are in the assembler's order, destination
// last.
type ins struct {
	op   string
	args []any
	dst  *reg
	// tied is the source that the instruction overwrites. It gives its register
	// to dst if it dies here and is copied first if not.
	tied *reg
}

// stream is a straight line of instruction groups. Merging streams never
// splits a group.
type stream struct {
	groups [][]ins
	open   bool // the last group takes further instructions
}

// emit appends an instruction.
func (s *stream) emit(i ins) *reg {
	if !s.open {
		s.groups = append(s.groups, nil)
	}
	last := len(s.groups) - 1
	s.groups[last] = append(s.groups[last], i)
	return i.dst
}

// atomically appends what f emits as one group.
func (s *stream) atomically(f func()) {
	s.groups = append(s.groups, nil)
	s.open = true
	f()
	s.open = false
}

// then appends other streams.
func (s *stream) then(others ...*stream) *stream {
	for _, o := range others {
		s.groups = append(s.groups, o.groups...)
	}
	return s
}

// singles returns the stream with every instruction a group of its own.
func (s *stream) singles() *stream {
	out := new(stream)
	for _, g := range s.groups {
		for _, i := range g {
			out.groups = append(out.groups, []ins{i})
		}
	}
	return out
}

func (s *stream) size() (n int) {
	for _, g := range s.groups {
		n += len(g)
	}
	return n
}

// strand is one stream of a merge, dealt block groups at a time.
type strand struct {
	*stream
	block int
}

// merge interleaves streams so that all progress evenly. The order within each
// is kept; what one stream leaves in memory for another must therefore be a
// unit apart.
func merge(strands ...strand) *stream {
	out := new(stream)
	at := make([]int, len(strands))
	done := make([]int, len(strands)) // instructions
	for {
		next := -1
		for i, s := range strands {
			if at[i] == len(s.groups) {
				continue
			}
			if next < 0 || done[i]*strands[next].size() < done[next]*s.size() {
				next = i
			}
		}
		if next < 0 {
			return out
		}
		s := strands[next]
		for range s.block {
			if at[next] < len(s.groups) {
				out.groups = append(out.groups, s.groups[at[next]])
				done[next] += len(s.groups[at[next]])
				at[next]++
			}
		}
	}
}

// allocate gives every virtual register of a stream a physical one by linear
// scan and returns the instructions, copies included. Registers are taken in
// the order of file, those for legacy encodings lowest first, so that one file
// serves both. It panics when registers run out: the kernel must be described
// anew.
func (s *stream) allocate(file []int, copyOp func(class) string) []ins {
	var all []ins
	for _, g := range s.groups {
		all = append(all, g...)
	}
	for i, in := range all {
		for _, a := range in.args {
			if r, ok := a.(*reg); ok && r != in.dst {
				r.last = i
			}
		}
	}
	free := map[int]bool{}
	for _, n := range file {
		free[n] = true
	}
	lowest := slices.Sorted(slices.Values(file))
	take := func(c class, at int) int {
		order := file
		if c == xmm {
			order = lowest
		}
		for _, n := range order {
			if free[n] && (c != xmm || n < 16) {
				delete(free, n)
				return n
			}
		}
		panic(fmt.Sprintf("no register left at instruction %d of %d", at, len(all)))
	}
	var out []ins
	for i, in := range all {
		dying := map[*reg]bool{}
		for _, a := range in.args {
			if r, ok := a.(*reg); ok && r != in.dst && r.last == i {
				dying[r] = true
			}
		}
		if t := in.tied; t != nil && dying[t] {
			in.dst.phys = t.phys
			delete(dying, t)
		} else if t != nil {
			in.dst.phys = take(in.dst.class, i)
			out = append(out, ins{op: copyOp(in.dst.class), args: []any{t, in.dst}, dst: in.dst})
		}
		for r := range dying {
			free[r.phys] = true
		}
		if in.dst != nil && in.tied == nil {
			in.dst.phys = take(in.dst.class, i)
		}
		if in.dst != nil && in.dst.last < i { // written, never read
			free[in.dst.phys] = true
		}
		out = append(out, in)
	}
	return out
}
