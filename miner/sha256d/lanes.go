//go:build amd64 || arm64

package sha256d

import "qcitycoin.org/qcity/miner/sha256d/tables"

// nonceLanes drives a generated kernel whose lanes are nonces. It takes one
// version at a time.
type nonceLanes[C, V tables.Words] struct {
	prepared
	job     *tables.Job[C, V]
	scratch *tables.Scratch[V]
	groups  int // vectors of nonces in a unit
	run     func(*tables.Job[C, V], *tables.Scratch[V], uintptr) uintptr
}

func newNonceLanes[C, V tables.Words](groups int, run func(*tables.Job[C, V], *tables.Scratch[V], uintptr) uintptr) *nonceLanes[C, V] {
	return &nonceLanes[C, V]{job: aligned[tables.Job[C, V]](), scratch: aligned[tables.Scratch[V]](), groups: groups, run: run}
}

func (e *nonceLanes[C, V]) Prepare(w *Work) {
	e.prepare(w)
	fillConstants(e.job, &e.prepared)
	e.job.Step = tables.Splat[V](uint32(e.groups * tables.Lanes[V]()))
}

func (e *nonceLanes[C, V]) Scan(first uint32, n int, hits []Hit) []Hit {
	for version := range e.lanes {
		for lane := range tables.Lanes[V]() {
			fillLane(e.job, &e.prepared, lane, version)
		}
		hits = e.scan(version, first, n, hits)
	}
	return hits
}

func (e *nonceLanes[C, V]) scan(version int, first uint32, n int, hits []Hit) []Hit {
	lanes := tables.Lanes[V]()
	size := e.groups * lanes
	for i := range size {
		tables.Set(&e.scratch.Nonce[i/lanes], i%lanes, first+uint32(i))
	}
	return byNonce(e.versions[version], first, n, size, 0, hits, func(units int) []uint32 {
		return e.scratch.Hits[:e.run(e.job, e.scratch, uintptr(units))]
	})
}

// versionLanes drives a generated kernel whose lanes are versions. All lanes
// have the same nonce, and therefore the same schedule of the tail, which is
// computed once for as many nonces as a vector has lanes.
type versionLanes[C, V tables.Words] struct {
	prepared
	job     *tables.Job[C, V]
	scratch *tables.Scratch[V]
	tail    func(*tables.Job[C, V], *tables.Scratch[V])
	run     func(*tables.Job[C, V], *tables.Scratch[V], uintptr) uintptr
}

func newVersionLanes[C, V tables.Words](
	tail func(*tables.Job[C, V], *tables.Scratch[V]), run func(*tables.Job[C, V], *tables.Scratch[V], uintptr) uintptr,
) *versionLanes[C, V] {
	return &versionLanes[C, V]{job: aligned[tables.Job[C, V]](), scratch: aligned[tables.Scratch[V]](), tail: tail, run: run}
}

func (e *versionLanes[C, V]) Prepare(w *Work) {
	e.prepare(w)
	fillConstants(e.job, &e.prepared)
	e.job.Step = tables.Splat[V](uint32(tables.Lanes[V]()))
}

func (e *versionLanes[C, V]) Scan(first uint32, n int, hits []Hit) []Hit {
	lanes := tables.Lanes[V]()
	for version := 0; version < e.lanes; version += lanes {
		for lane := range lanes {
			// Lanes without a version repeat the last one.
			fillLane(e.job, &e.prepared, lane, min(version+lane, e.lanes-1))
		}
		hits = e.scan(e.versions[version:min(version+lanes, e.lanes)], first, n, hits)
	}
	return hits
}

func (e *versionLanes[C, V]) scan(versions []uint32, first uint32, n int, hits []Hit) []Hit {
	lanes := tables.Lanes[V]()
	for lane := range lanes {
		tables.Set(&e.scratch.Nonce[0], lane, first+uint32(tables.PairIndex[V](lane)))
	}
	return byVersion(versions, first, n, lanes, 0, lanes, hits, func(_, units int) []uint32 {
		e.tail(e.job, e.scratch)
		return e.scratch.Hits[:e.run(e.job, e.scratch, uintptr(units))]
	})
}
