package main

// vec emits vector instructions: 32-bit words, one hash in each lane. Its
// methods return new registers. An operand is a register, a mem (a vector of
// lanes), a konst or a word.
type vec interface {
	load(m any) *reg
	store(r *reg, m mem)
	add(a *reg, b any) *reg
	// sigma functions of FIPS 180-4, 4.1.2: three rotations, or two and a
	// shift, combined by exclusive or.
	rotations(x *reg, r1, r2, r3 int) *reg
	rotationsShift(x *reg, r1, r2, shift int) *reg
	ch(e, f, g *reg) *reg
	maj(a, b, c *reg) *reg
	// swap reverses the bytes of every word, by the shuffle in m where one is
	// needed.
	swap(x *reg, m mem) *reg
}

func bigSigma0(v vec, a *reg) *reg   { return v.rotations(a, 2, 13, 22) }
func bigSigma1(v vec, e *reg) *reg   { return v.rotations(e, 6, 11, 25) }
func smallSigma0(v vec, x *reg) *reg { return v.rotationsShift(x, 7, 18, 3) }
func smallSigma1(v vec, x *reg) *reg { return v.rotationsShift(x, 17, 19, 10) }

// schedule computes message words in lanes. Words that differ between lanes
// are in a ring of memory, and the newest in registers as well; constant words
// have been summed up in the job.
type schedule struct {
	v      vec
	ring   mem
	stride int  // bytes from one word of the ring to the next
	linear bool // no ring: each word has its own place
	// varies says whether word t differs between lanes, has whether a constant
	// word t is not zero.
	varies, has func(t int) bool
	constant    func(t int) konst // sum of the constant terms of word t
	// keep is the number of newest words left in registers: word t needs t−2.
	keep   int
	newest map[int]*reg
}

func (s *schedule) at(t int) mem {
	if !s.linear {
		t %= 16
	}
	return s.ring.plus(t * s.stride)
}

// put makes r word t.
func (s *schedule) put(t int, r *reg) {
	s.newest[t] = r
	s.v.store(r, s.at(t))
	delete(s.newest, t-s.keep)
}

// word returns word t as an operand.
func (s *schedule) word(t int) any {
	if r := s.newest[t]; r != nil {
		return r
	}
	return s.at(t)
}

// reg returns word t in a register.
func (s *schedule) reg(t int) *reg {
	if r := s.newest[t]; r != nil {
		return r
	}
	return s.v.load(s.at(t))
}

// next computes word t from those before it (6.2.2 step 1).
func (s *schedule) next(t int) *reg {
	var sum *reg
	plus := func(operand any) {
		switch r, isReg := operand.(*reg); {
		case sum != nil:
			sum = s.v.add(sum, operand)
		case isReg:
			sum = r
		default:
			sum = s.v.load(operand)
		}
	}
	constant := false
	for _, term := range []struct {
		t     int
		sigma func(vec, *reg) *reg
	}{{t - 15, smallSigma0}, {t - 16, nil}, {t - 7, nil}, {t - 2, smallSigma1}} {
		switch {
		case !s.varies(term.t):
			constant = constant || s.has(term.t)
		case term.sigma != nil:
			plus(term.sigma(s.v, s.reg(term.t)))
		default:
			plus(s.word(term.t))
		}
	}
	if constant {
		plus(s.constant(t))
	}
	s.put(t, sum)
	return sum
}

// state is the working variables a … h. A nil h has been added into the
// constant of the round that reads it.
type state [8]*reg

// round is one round of 6.2.2 step 3. terms are what is added to T1: W, K, sums
// of them. With eOnly the new a is not computed: it will not be needed.
func round(v vec, s state, eOnly bool, terms ...any) state {
	t1 := v.ch(s[4], s[5], s[6])
	if s[7] != nil {
		t1 = v.add(t1, s[7])
	}
	for _, t := range terms {
		t1 = v.add(t1, t)
	}
	t1 = v.add(t1, bigSigma1(v, s[4]))
	e := v.add(s[3], t1)
	var a *reg
	if !eOnly {
		a = v.add(v.add(t1, v.maj(s[0], s[1], s[2])), bigSigma0(v, s[0]))
	}
	return state{a, s[0], s[1], s[2], e, s[4], s[5], s[6]}
}
