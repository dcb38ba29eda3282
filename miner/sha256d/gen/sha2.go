package main

import (
	"fmt"
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// sha2 describes the kernels of package tables' arm64.go.
type sha2 struct {
	asimd
	l    layout
	ways int // hashes side by side
}

// hashes are the working variables of all of them.
type hashes struct{ abcd, efgh []*reg }

// each emits the same for every hash.
func (k sha2) each(f func(way int) *reg) []*reg {
	r := make([]*reg, k.ways)
	for way := range r {
		r[way] = f(way)
	}
	return r
}

// shared loads what is the same in all hashes.
func (k sha2) shared(m mem) []*reg {
	r := k.load(m)
	return k.each(func(int) *reg { return r })
}

func (k sha2) plus(h hashes, abcd, efgh []*reg) hashes {
	return hashes{
		k.each(func(i int) *reg { return k.add(h.abcd[i], abcd[i]) }),
		k.each(func(i int) *reg { return k.add(h.efgh[i], efgh[i]) }),
	}
}

// insert puts word at of one register into word lane of another.
func (k sha2) insert(to *reg, lane int, from *reg, at int) *reg {
	return k.over(to, fmt.Sprintf("VMOV V%%d.S[%d], V%%d.S[%d]", at, lane), from)
}

// fours is a message schedule, four words at a time.
type fours struct {
	words map[int][]*reg // words t … t+3 of every hash
	// early are the terms from words t−16 and t−15 of those being computed.
	early []*reg
	// constant returns these terms if they are the same in all hashes.
	constant func(t int) (m mem, ok bool)
}

// begin computes the early terms of words t … t+3.
func (w *fours) begin(k sha2, t int) {
	m, constant := w.constant(t)
	w.early = k.each(func(i int) *reg {
		if constant {
			return k.load(m)
		}
		return k.over(w.words[t-16][i], "SHA256SU0 V%d.S4, V%d.S4", w.words[t-12][i])
	})
}

// end adds the terms from words t−7 and t−2.
func (w *fours) end(k sha2, t int) {
	w.words[t] = k.each(func(i int) *reg {
		return k.over(w.early[i], "SHA256SU1 V%d.S4, V%d.S4, V%d.S4", w.words[t-4][i], w.words[t-8][i])
	})
}

// sixty does sixty rounds from round first on. kw says where K of rounds t … t+3
// is, or K+W where that is the same in all hashes. The words of w, if there is
// one, are computed as early as they can be. With eOnly the last a b c d are
// not: they will not be needed.
//
// The order is for CPUs that keep to it: nothing waits for what stands right
// before it.
func (k sha2) sixty(h hashes, first int, eOnly bool, w *fours, kw func(t int) (m mem, sum bool)) {
	const rounds = 60
	m, isSum := kw(first)
	constant := k.load(m)
	for t := first; t < first+rounds; t += 4 {
		goesOn := t+4 < first+rounds
		extends := w != nil && t+16 < first+rounds
		sum := k.each(func(i int) *reg {
			if isSum {
				return constant
			}
			return k.add(w.words[t][i], constant)
		})
		if extends {
			w.begin(k, t+16)
		}
		before := make([]*reg, k.ways)
		for i, abcd := range h.abcd {
			before[i] = abcd
			if goesOn || !eOnly {
				before[i] = k.op(copyARM64(neon), abcd)
				h.abcd[i] = k.over(abcd, "SHA256H V%d.S4, V%d, V%d", sum[i], h.efgh[i])
			}
		}
		for i, efgh := range h.efgh {
			h.efgh[i] = k.over(efgh, "SHA256H2 V%d.S4, V%d, V%d", sum[i], before[i])
			if i == 0 && goesOn { // a register has just become free
				m, isSum = kw(t + 4)
				constant = k.load(m)
			}
		}
		if extends {
			w.end(k, t+16)
		}
	}
}

// nextNonces loads the words of the next nonces and moves on.
func (k sha2) nextNonces() *reg {
	n := k.load(k.l.work("Nonce"))
	k.store(k.add(n, k.l.of("Step")), k.l.work("Nonce"))
	return k.swap(n, mem{})
}

// alone returns every hash's nonce with zeros beside it.
func (k sha2) alone(nonces *reg) []*reg {
	return k.each(func(i int) *reg { return k.op(fmt.Sprintf("VMOV V%%d.S[%d], V%%d", i), nonces) })
}

// tailFours returns the schedule of the tail as far as word 19; every hash has a
// nonce of its own.
func (k sha2) tailFours(nonces *reg) *fours {
	w := &fours{words: map[int][]*reg{}, constant: func(t int) (mem, bool) {
		if t < 20 || t > 28 {
			return mem{}, false
		}
		return k.l.of("U1", (t-20)/4), true
	}}
	w.words[0] = k.each(func(i int) *reg { return k.insert(k.load(k.l.of("Words", 0)), 3, nonces, i) })
	for t := 4; t < 16; t += 4 {
		w.words[t] = k.shared(k.l.of("Words", t/4))
	}
	w.begin(k, 16)
	w.end(k, 16)
	return w
}

// firstHash hashes the tail. version loads something of every hash's version. w
// and kw are as for sixty, from round 16 on.
func (k sha2) firstHash(nonces []*reg, version func(name string, half int) []*reg, w *fours, kw func(t int) (mem, bool)) hashes {
	h := k.plus(hashes{nonces, nonces}, version("Ahead", 0), version("Ahead", 1))
	k.sixty(h, 4, false, w, func(t int) (mem, bool) {
		if t < 16 {
			return k.l.of("KW1", (t-4)/4), true
		}
		return kw(t)
	})
	return k.plus(h, version("Mid", 0), version("Mid", 1))
}

// secondHash hashes the digests again and compares with the target.
func (k sha2) secondHash(digest hashes) {
	w := &fours{constant: func(t int) (mem, bool) { return k.l.of("W9"), t == 25 }}
	shift := func(a, b []*reg) []*reg { // out goes the first word of a, in that of b
		return k.each(func(i int) *reg { return k.op("VEXT $4, V%d.B16, V%d.B16, V%d.B16", b[i], a[i]) })
	}
	w.words = map[int][]*reg{
		1: shift(digest.abcd, digest.efgh),
		5: shift(digest.efgh, k.shared(k.l.of("W8"))),
		9: k.shared(k.l.of("W9")),
	}
	first := k.each(func(i int) *reg { return k.op("FMOVS F%d, F%d", digest.abcd[i]) }) // W0 and zeros
	w.words[13] = k.each(func(i int) *reg {
		// Of word 16, the early terms are all: words 9 and 14 are zero.
		early := k.over(digest.abcd[i], "SHA256SU0 V%d.S4, V%d.S4", digest.efgh[i])
		return k.insert(k.load(k.l.of("W13")), 3, early, 0)
	})
	h := k.plus(hashes{first, first}, k.shared(k.l.of("Head", 0)), k.shared(k.l.of("Head", 1)))
	k.sixty(h, 1, true, w, func(t int) (mem, bool) {
		return k.l.of("K2", (t-1)/4), t == 9 // words 9 … 12 are zero
	})
	e := k.op("VDUP V%d.S[0], V%d.S4", h.efgh[0])
	for i, r := range h.efgh[1:] {
		e = k.insert(e, i+1, r, 0)
	}
	k.candidates(k.l.of("Top"), []*reg{k.swap(k.add(e, k.l.of("IV7")), mem{})})
}

var (
	sha2Version = reflect.TypeFor[tables.SHA2Version]()
	sha2Tail    = reflect.TypeFor[tables.SHA2Tail]()
)

// nonces describes a unit of nonces of the first version.
func (k sha2) nonces() *stream {
	n := k.nextNonces()
	w := k.tailFours(n)
	version := func(name string, half int) []*reg {
		return k.shared(mem{armSet, offset(sha2Version, name, half)})
	}
	k.secondHash(k.firstHash(k.alone(n), version, w, func(t int) (mem, bool) {
		return k.l.of("K1", (t-16)/4), false
	}))
	return k.stream
}

// versions describes a unit of versions with one nonce.
func (k sha2) versions() *stream {
	version := func(name string, half int) []*reg {
		return k.each(func(i int) *reg {
			return k.load(mem{armSet, i*int(sha2Version.Size()) + offset(sha2Version, name, half)})
		})
	}
	nonce := k.shared(mem{armTable, offset(sha2Tail, "Nonce")})
	k.secondHash(k.firstHash(nonce, version, nil, func(t int) (mem, bool) {
		return mem{armTable, offset(sha2Tail, "KW", (t-16)/4)}, true
	}))
	return k.stream
}

// tails describes the schedule of the tail for some nonces, left in Tails.
func (k sha2) tails() *stream {
	n := k.nextNonces()
	for i, r := range k.alone(n) {
		k.store(r, k.l.work("Tails", i).plus(offset(sha2Tail, "Nonce")))
	}
	w := k.tailFours(n)
	for t := 16; ; t += 4 {
		constant := k.load(k.l.of("K1", (t-16)/4))
		for i, r := range w.words[t] {
			k.store(k.add(r, constant), k.l.work("Tails", i).plus(offset(sha2Tail, "KW", (t-16)/4)))
		}
		if t == 60 {
			return k.stream
		}
		w.begin(k, t+4)
		w.end(k, t+4)
	}
}

func sha2Source(ways int) *source {
	l := layout{reflect.TypeFor[tables.SHA2Job](), reflect.TypeFor[tables.SHA2Scratch](), armJob, armScratch}
	kernel := func() sha2 { return sha2{asimd{stream: new(stream)}, l, ways} }
	args := kernelArgs("tables.SHA2Job", "tables.SHA2Scratch")
	hits := l.work("Hits").off
	sets := fmt.Sprintf("ADD $%d, %s, %s", l.of("Sets").off, armJob, armSet)
	nonces := &function{
		name: "sha2Nonces", args: args, ret: "hits uintptr",
		doc: fmt.Sprintf("// sha2Nonces hashes %d nonces of the first version in each unit.\n", ways),
	}
	nonces.beginARM64(armJob, armScratch, armUnits)
	nonces.line("\t%s", sets)
	nonces.loopARM64(hits, kernel().nonces())

	versions := &function{
		name: "sha2Versions", args: append(args, "tail *tables.SHA2Tail"), ret: "hits uintptr",
		doc: fmt.Sprintf("// sha2Versions hashes %d versions with one nonce in each unit.\n", ways),
	}
	versions.beginARM64(armJob, armScratch, armUnits, armTable)
	versions.line("\t%s", sets)
	versions.loopARM64(hits, kernel().versions(), fmt.Sprintf("ADD $%d, %s", reflectField(l.job, "Sets").Elem().Size(), armSet))

	tails := &function{
		name: "sha2Tails", args: args[:2],
		doc: fmt.Sprintf("// sha2Tails writes the tables Tails for the next %d nonces.\n", ways),
	}
	tails.beginARM64(armJob, armScratch)
	tails.arm64(kernel().tails())
	tails.line("\tRET")
	return &source{name: "sha2", arch: "arm64", functions: []*function{nonces, versions, tails}}
}
