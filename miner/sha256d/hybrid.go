package sha256d

import (
	"unsafe"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// hybrid drives a hybrid kernel: see package tables. T is a vector of nonces, V
// one of versions, C a constant.
type hybrid[C, T, V tables.Words] struct {
	prepared
	job     *tables.HybridJob[C, V]
	scratch *tables.HybridScratch[T, V]
	code    hybridCode[C, T, V]
	tailJob *tables.Job[uint32, T]
}

// hybridCode is the assembly of one form.
type hybridCode[C, T, V tables.Words] struct {
	// tail computes a table of the tail's schedule for as many nonces as T has
	// lanes, and moves scratch.Nonce on.
	tail func(job *tables.Job[uint32, T], scratch *tables.HybridScratch[T, V], table uintptr)
	// run does units, going through the sets and then to the next nonce of the
	// table. It returns the number of entries in scratch.Hits.
	run func(job *tables.HybridJob[C, V], scratch *tables.HybridScratch[T, V], units, sets, table uintptr) uintptr
}

func newHybrid[C, T, V tables.Words](code hybridCode[C, T, V]) *hybrid[C, T, V] {
	return &hybrid[C, T, V]{
		job: aligned[tables.HybridJob[C, V]](), scratch: aligned[tables.HybridScratch[T, V]](),
		tailJob: aligned[tables.Job[uint32, T]](), code: code,
	}
}

func feba(s state) tables.V4 { return tables.V4{s[5], s[4], s[1], s[0]} }
func hgdc(s state) tables.V4 { return tables.V4{s[7], s[6], s[3], s[2]} }

// sets is the number of units that one nonce takes.
func (e *hybrid[C, T, V]) sets() int {
	size := tables.Lanes[V]()
	return (e.lanes + size - 1) / size
}

func (e *hybrid[C, T, V]) Prepare(w *Work) {
	e.prepare(w)
	fillConstants(e.tailJob, &e.prepared)
	e.tailJob.Step = tables.Splat[T](uint32(tables.Lanes[T]()))
	fillHybrid(e.job, &e.prepared)
	size := tables.Lanes[V]()
	for i := range e.sets() * size {
		// Lanes without a version repeat the last one.
		version := min(i, e.lanes-1)
		set, lane := &e.job.Sets[i/size], i%size
		ahead := e.afterRound3(version)
		set.FEBA[lane], set.HGDC[lane] = feba(ahead), hgdc(ahead)
		for x := range set.Mid {
			tables.Set(&set.Mid[x], lane, e.mid[version][x])
		}
	}
	// The pipeline starts with what is there: nothing comes of it.
	at := func(p unsafe.Pointer) uintptr { return uintptr(p) }
	s := e.scratch
	s.SetBefore, s.TailBefore = at(unsafe.Pointer(&e.job.Sets)), at(unsafe.Pointer(&s.Tail))
	s.PairsNext = [2]uintptr{at(unsafe.Pointer(&s.Pairs[0])), at(unsafe.Pointer(&s.Pairs[1]))}
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
	job.IV7 = tables.Splat[tables.V4](iv[7])
	job.Top = tables.Splat[tables.V4](p.top)
	for lane := range job.Swap {
		job.Swap[lane] = swapLane(lane)
	}
	for t := range k {
		job.K[t] = tables.Splat[C](k[t])
	}
	fillSecond(&job.U2, &job.KW2)
}

func (e *hybrid[C, T, V]) Scan(first uint32, n int, hits []Hit) []Hit {
	nonces, sets := tables.Lanes[T](), e.sets()
	for lane := range nonces {
		tables.Set(&e.scratch.Nonce[0], lane, first+uint32(tables.PairIndex[T](lane)))
	}
	// The last units' answers come when StagesBehind more have followed.
	total := n + (tables.StagesBehind+sets-1)/sets
	for from := 0; from < total; from += nonces {
		table := uintptr(from / nonces % 2)
		e.code.tail(e.tailJob, e.scratch, table)
		units := min(total-from, nonces) * sets
		found := e.code.run(e.job, e.scratch, uintptr(units), uintptr(sets), table)
		for _, left := range e.scratch.Hits[:found] {
			unit := from*sets + units - int(left) - tables.StagesBehind
			if unit < 0 || unit/sets >= n {
				continue // before the range or after
			}
			size := tables.Lanes[V]()
			lane := unit % sets * size
			for i := lane; i < min(lane+size, e.lanes); i++ {
				hits = append(hits, Hit{e.versions[i], first + uint32(unit/sets)})
			}
		}
	}
	return hits
}
