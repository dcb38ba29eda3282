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
	size := e.groups * tables.Lanes[V]()
	for from := 0; from < n; {
		units := min((n-from+size-1)/size, tables.MaxUnits)
		for i := range size {
			tables.Set(&e.scratch.Nonce[i/tables.Lanes[V]()], i%tables.Lanes[V](), first+uint32(from+i))
		}
		found := e.run(e.job, e.scratch, uintptr(units))
		for _, left := range e.scratch.Hits[:found] {
			unit := from + (units-int(left))*size
			// The last unit may reach past the range.
			for i := unit; i < min(unit+size, n); i++ {
				hits = append(hits, Hit{e.versions[version], first + uint32(i)})
			}
		}
		from += units * size
	}
	return hits
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
	for from := 0; from < n; from += lanes {
		e.tail(e.job, e.scratch)
		units := min(n-from, lanes)
		found := e.run(e.job, e.scratch, uintptr(units))
		for _, left := range e.scratch.Hits[:found] {
			nonce := first + uint32(from+units-int(left))
			for _, version := range versions {
				hits = append(hits, Hit{version, nonce})
			}
		}
	}
	return hits
}
