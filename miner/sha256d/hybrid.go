//go:build amd64

package sha256d

import (
	"unsafe"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// hybrid is the memory of a hybrid kernel: see package tables. T is a vector of
// nonces, V one of lanes, C a constant.
type hybrid[C, T, V tables.Words] struct {
	prepared
	job     *tables.HybridJob[C, V]
	scratch *tables.HybridScratch[T, V]
	tail    *tables.Job[C, T]
}

func newHybrid[C, T, V tables.Words]() hybrid[C, T, V] {
	return hybrid[C, T, V]{
		job: aligned[tables.HybridJob[C, V]](), scratch: aligned[tables.HybridScratch[T, V]](), tail: aligned[tables.Job[C, T]](),
	}
}

func (e *hybrid[C, T, V]) Prepare(w *Work) {
	e.prepare(w)
	fillConstants(e.tail, &e.prepared)
	e.tail.Step = tables.Splat[T](uint32(tables.Lanes[T]()))
	fillHybrid(e.job, &e.prepared)
	// The pipeline starts with what is there: nothing comes of it.
	at := func(p unsafe.Pointer) uintptr { return uintptr(p) }
	s := e.scratch
	s.Stages = tables.Stages{
		Tail0: at(unsafe.Pointer(&s.Tail[0])), Tail1: at(unsafe.Pointer(&s.Tail[1])), Tail2: at(unsafe.Pointer(&s.Tail[2])),
		Set2:   at(unsafe.Pointer(&e.job.Sets)),
		Pairs2: at(unsafe.Pointer(&s.Pairs[0])), Pairs3: at(unsafe.Pointer(&s.Pairs[1])),
	}
}

// fillLane puts a version into a lane of a set.
func (e *hybrid[C, T, V]) fillLane(set *tables.HybridSet[V], lane, version int) {
	ahead := e.afterRound3(version)
	set.FEBA[lane], set.HGDC[lane] = feba(ahead), hgdc(ahead)
	for x := range set.Mid {
		tables.Set(&set.Mid[x], lane, e.mid[version][x])
	}
}

// fillHybrid sets what does not depend on the version.
func fillHybrid[C, V tables.Words](job *tables.HybridJob[C, V], p *prepared) {
	for i := range job.TailPairs {
		t := 4 + 2*i
		job.TailPairs[i] = [2]uint32{k[t] + p.tail[t], k[t+1] + p.tail[t+1]}
	}
	for i := range job.SecondPairs {
		t := 9 + 2*i // words 9 … 14 are zero
		job.SecondPairs[i] = [2]uint32{k[t], k[t+1]}
	}
	head := round0()
	job.SecondFEBA, job.SecondHGDC = feba(head), hgdc(head)
	job.IV7 = tables.Splat[C](iv[7])
	job.Top = tables.Splat[V](p.top)
	for lane := range tables.Lanes[V]() {
		tables.Set(&job.Swap, lane, swapLane(lane))
	}
	for t := range k {
		job.K[t] = tables.Splat[C](k[t])
	}
	fillSecond(&job.U2, &job.KW2)
}

// hybridVersions drives a hybrid kernel whose lanes are versions.
type hybridVersions[C, T, V tables.Words] struct {
	hybrid[C, T, V]
	code versionsCode[C, T, V]
}

// versionsCode is the assembly of one form.
type versionsCode[C, T, V tables.Words] struct {
	// tail computes a table of the tail's schedule for as many nonces as T has
	// lanes, and moves scratch.Nonce on.
	tail func(job *tables.Job[C, T], scratch *tables.HybridScratch[T, V], table uintptr)
	// run does units, going through the sets and then to the next nonce of the
	// table. It returns the number of entries in scratch.Hits.
	run func(job *tables.HybridJob[C, V], scratch *tables.HybridScratch[T, V], units, sets, table uintptr) uintptr
}

func newHybridVersions[C, T, V tables.Words](code versionsCode[C, T, V]) *hybridVersions[C, T, V] {
	return &hybridVersions[C, T, V]{newHybrid[C, T, V](), code}
}

func (e *hybridVersions[C, T, V]) Prepare(w *Work) {
	e.hybrid.Prepare(w)
	size := tables.Lanes[V]()
	for i := range unitsOf(e.lanes, size) * size {
		// Lanes without a version repeat the last one.
		e.fillLane(&e.job.Sets[i/size], i%size, min(i, e.lanes-1))
	}
}

func (e *hybridVersions[C, T, V]) Scan(first uint32, n int, hits []Hit) []Hit {
	e.setNonces(first)
	sets := uintptr(unitsOf(e.lanes, tables.Lanes[V]()))
	return byVersion(e.versions[:e.lanes], first, n, tables.Lanes[V](), tables.StagesBehind, tables.Lanes[T](), hits,
		func(table, units int) []uint32 {
			at := uintptr(table % 2)
			e.code.tail(e.tail, e.scratch, at)
			return e.scratch.Hits[:e.code.run(e.job, e.scratch, uintptr(units), sets, at)]
		})
}

// setNonces sets the first nonces of a range.
func (e *hybrid[C, T, V]) setNonces(first uint32) {
	for lane := range tables.Lanes[T]() {
		tables.Set(&e.scratch.Nonce[0], lane, first+uint32(tables.PairIndex[T](lane)))
	}
}

// hybridNonces drives a hybrid kernel whose lanes are nonces. It takes one
// version at a time.
type hybridNonces[C, V tables.Words] struct {
	hybrid[C, V, V]
	run noncesCode[C, V]
}

// noncesCode is the assembly of one form.
type noncesCode[C, V tables.Words] func(
	job *tables.HybridJob[C, V], scratch *tables.HybridScratch[V, V], units uintptr, tail *tables.Job[C, V],
) uintptr

func newHybridNonces[C, V tables.Words](run noncesCode[C, V]) *hybridNonces[C, V] {
	return &hybridNonces[C, V]{newHybrid[C, V, V](), run}
}

func (e *hybridNonces[C, V]) Scan(first uint32, n int, hits []Hit) []Hit {
	for version := range e.lanes {
		for lane := range tables.Lanes[V]() {
			e.fillLane(&e.job.Sets[0], lane, version)
		}
		hits = e.scan(version, first, n, hits)
	}
	return hits
}

func (e *hybridNonces[C, V]) scan(version int, first uint32, n int, hits []Hit) []Hit {
	e.setNonces(first)
	return byNonce(e.versions[version], first, n, tables.Lanes[V](), tables.NonceStagesBehind, hits, func(units int) []uint32 {
		return e.scratch.Hits[:e.run(e.job, e.scratch, uintptr(units), e.tail)]
	})
}
