package main

import (
	"fmt"
	"reflect"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// layout finds the offsets of one kernel family's memory.
type layout struct {
	job, scratch         reflect.Type
	jobBase, scratchBase string // registers that point there
}

var (
	layout16 = layout{
		reflect.TypeFor[tables.Job[uint32, tables.V16]](), reflect.TypeFor[tables.Scratch[tables.V16]](), "DI", "SI",
	}
	layout8 = layout{
		reflect.TypeFor[tables.Job[tables.V8, tables.V8]](), reflect.TypeFor[tables.Scratch[tables.V8]](), "DI", "SI",
	}
)

// offset resolves a path like "Mid" and indices into it.
func offset(t reflect.Type, name string, index ...int) int {
	reflectField(t, name)
	f, _ := t.FieldByName(name)
	off, at := int(f.Offset), f.Type
	for _, i := range index {
		if at.Kind() != reflect.Array || i < 0 || i >= at.Len() {
			panic(fmt.Sprintf("%s%v is outside of %v", name, index, f.Type))
		}
		at = at.Elem()
		off += i * int(at.Size())
	}
	return off
}

func reflectField(t reflect.Type, name string) reflect.Type {
	f, ok := t.FieldByName(name)
	if !ok {
		panic(fmt.Sprintf("%v has no field %s", t, name))
	}
	return f.Type
}

// of returns a vector or other value of the job.
func (l layout) of(name string, index ...int) mem {
	return mem{l.jobBase, offset(l.job, name, index...)}
}

// konst returns a constant of the job.
func (l layout) konst(name string, index ...int) konst { return konst{l.of(name, index...)} }

// work returns a place in scratch memory.
func (l layout) work(name string, index ...int) mem {
	return mem{l.scratchBase, offset(l.scratch, name, index...)}
}

// vector is the size of a vector of lanes in bytes.
func (l layout) vector() int { f, _ := l.job.FieldByName("Swap"); return int(f.Type.Size()) }

// pairs is a table of K+W in which the words of two rounds stand side by side
// for every lane, because sha256rnds2 takes them in one 64-bit load. Row 0 is
// zero and the word that starts the hash (the tail's nonce, W0 of the second
// hash); the next is for rounds first and first+1. A row is two vectors, as
// unpckldq and unpckhdq make them.
type pairs struct {
	base   mem
	vector int // bytes
	first  int // round of row 1
	start  int // number of the word in row 0
	// Words skipFrom … skipFrom+skip−1 have no row.
	skipFrom, skip int
}

// row returns the place of the row that holds word t.
func (p pairs) row(t int) mem {
	if t == p.start {
		return p.base
	}
	if t < p.first || t >= p.skipFrom && t < p.skipFrom+p.skip {
		panic("no such row")
	}
	if p.skip > 0 && t >= p.skipFrom {
		t -= p.skip
	}
	return p.base.plus(2 * p.vector * ((t-p.first)/2 + 1))
}

// slot is how far from the first lane's pair a lane's is in every row: pairs of
// four lanes follow each other in 128 bits, two of them in the other vector
// (tables.PairIndex).
func (p pairs) slot(lane int) int { return lane/4*16 + lane%4/2*p.vector + lane%2*8 }

// tail returns the table of the tail's schedule at base.
func (l layout) tail(base mem) pairs {
	return pairs{base: base, vector: l.vector(), first: 18, start: 3}
}

// word returns word t of the first lane.
func (p pairs) word(t int) word {
	if t == p.start {
		return word{p.row(t).plus(4)}
	}
	return word{p.row(t).plus((t - p.first) % 2 * 4)}
}
