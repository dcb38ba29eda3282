package main

// tailVaries and secondVaries say which words of the two blocks differ between
// lanes; tailHas and secondHas which constant words are not zero.
func tailVaries(t int) bool   { return t == 3 || t >= 18 }
func tailHas(t int) bool      { return t <= 2 || t == 4 || t >= 15 && t <= 17 }
func secondVaries(t int) bool { return t < 8 || t >= 16 }
func secondHas(t int) bool    { return t == 8 || t == 15 }

func tailWords(v vec, l layout, g int) *schedule {
	return &schedule{
		v: v, ring: l.work("Ring", g), stride: l.vector(), varies: tailVaries, has: tailHas,
		constant: func(t int) konst { return l.konst("U1", t) }, keep: 2, newest: map[int]*reg{},
	}
}

func secondWords(v vec, l layout, g int) *schedule {
	return &schedule{
		v: v, ring: l.work("Ring", g), stride: l.vector(), varies: secondVaries, has: secondHas,
		constant: func(t int) konst { return l.konst("U2", t) }, keep: 2, newest: map[int]*reg{},
	}
}

// last is the round after which the decision is made: e moves on unchanged and
// is the last word of the hash.
const last = 60

// nonceLanes describes one unit in which every lane has its own nonce and the
// schedule of the tail is computed in lanes too: group g of the scratch memory.
func nonceLanes(v vec, l layout, g int) (digest [8]*reg) {
	n := v.load(l.work("Nonce", g))
	v.store(v.add(n, l.of("Step")), l.work("Nonce", g))
	w := tailWords(v, l, g)
	swapped := v.swap(n, l.of("Swap"))
	w.put(3, swapped)
	return firstHash(v, l, swapped, func(t int) []any { return []any{w.next(t), l.konst("K", t)} })
}

// versionLanes describes one unit in which every lane has its own version and
// all have one nonce, whose K+W are in a table of pairs.
func versionLanes(v vec, l layout, table pairs) (digest [8]*reg) {
	return firstHash(v, l, v.load(table.word(3)), func(t int) []any { return []any{table.word(t)} })
}

// firstHash does rounds 4 … 63 of the tail. terms gives K+W of rounds from 18 on.
func firstHash(v vec, l layout, nonce *reg, terms func(t int) []any) (digest [8]*reg) {
	var s state
	for i := range 7 {
		if i == 0 || i == 4 {
			s[i] = v.add(nonce, l.of("Ahead", i))
		} else {
			s[i] = v.load(l.of("Ahead", i))
		}
	}
	for t := 4; t < 64; t++ {
		switch {
		case t < 7:
			s[7] = nil
			s = round(v, s, false, l.of("Early1", t))
		case t < 18:
			s = round(v, s, false, l.konst("KW1", t))
		default:
			s = round(v, s, false, terms(t)...)
		}
	}
	for i := range s {
		digest[i] = v.add(s[i], l.of("Mid", i))
	}
	return digest
}

// secondHash hashes the digests of a unit again, as far as the decision needs,
// and returns the most significant word of the result, bytes in order.
func secondHash(v vec, l layout, g int, digest [8]*reg) *reg {
	w := secondWords(v, l, g)
	for t, d := range digest {
		w.put(t, d)
	}
	var s state
	for i := range 7 {
		if i == 0 || i == 4 {
			s[i] = v.add(digest[0], l.konst("Head", i))
		} else {
			s[i] = v.load(l.konst("Head", i))
		}
	}
	for t := 1; t <= last; t++ {
		switch {
		case t < 4:
			s[7] = nil
			s = round(v, s, false, w.reg(t), l.konst("Early2", t))
		case t < 8:
			s = round(v, s, false, w.word(t), l.konst("K", t))
		case t < 16:
			s = round(v, s, false, l.konst("KW2", t))
		default:
			// The a of rounds after 56 would only reach the decision later.
			s = round(v, s, t > 56, w.next(t), l.konst("K", t))
		}
	}
	return v.swap(v.add(s[4], l.konst("IV7")), l.of("Swap"))
}
