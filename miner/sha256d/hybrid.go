package sha256d

import (
	"unsafe"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// setSize is the number of versions that go through a hybrid kernel side by
// side; up to tables.MaxSets sets share one nonce.
const setSize = 16

// hybridVersions drives a hybrid kernel whose lanes are versions.
type hybridVersions struct {
	prepared
	job     *tables.HybridJob
	scratch *tables.HybridScratch
	tailJob *tables.Job[uint32, tables.V16]
	tail    func(job *tables.Job[uint32, tables.V16], scratch *tables.HybridScratch, table uintptr)
	run     func(job *tables.HybridJob, scratch *tables.HybridScratch, units, sets, table uintptr) uintptr
}

func newHybridVersions(
	tail func(job *tables.Job[uint32, tables.V16], scratch *tables.HybridScratch, table uintptr),
	run func(job *tables.HybridJob, scratch *tables.HybridScratch, units, sets, table uintptr) uintptr,
) *hybridVersions {
	return &hybridVersions{
		job: aligned[tables.HybridJob](), scratch: aligned[tables.HybridScratch](),
		tailJob: aligned[tables.Job[uint32, tables.V16]](), tail: tail, run: run,
	}
}

func feba(s state) tables.V4 { return tables.V4{s[5], s[4], s[1], s[0]} }
func hgdc(s state) tables.V4 { return tables.V4{s[7], s[6], s[3], s[2]} }

func (e *hybridVersions) sets() int { return (e.lanes + setSize - 1) / setSize }

func (e *hybridVersions) Prepare(w *Work) {
	e.prepare(w)
	fillConstants(e.tailJob, &e.prepared)
	e.tailJob.Step = tables.Splat[tables.V16](16)
	fillHybrid(e.job, &e.prepared)
	for i := range e.sets() * setSize {
		// Lanes without a version repeat the last one.
		version := min(i, e.lanes-1)
		set, lane := &e.job.Sets[i/setSize], i%setSize
		ahead := e.afterRound3(version)
		set.FEBA[lane%tables.Lanes4][lane/tables.Lanes4] = feba(ahead)
		set.HGDC[lane%tables.Lanes4][lane/tables.Lanes4] = hgdc(ahead)
		for x := range set.Mid {
			set.Mid[x][lane] = e.mid[version][x]
		}
	}
	fillStages(e.job, e.scratch)
}

// fillHybrid sets what does not depend on the version.
func fillHybrid(job *tables.HybridJob, p *prepared) {
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
	for t := range job.K4 {
		job.K4[t] = tables.Splat[tables.V4](k[t])
	}
	job.KW8 = tables.Splat[tables.V4](k[8] + 0x80000000)
	job.KW15 = tables.Splat[tables.V4](k[15] + 8*32)
	job.K16 = tables.Splat[tables.V4](k[16])
	job.IV7 = tables.Splat[tables.V4](iv[7])
	job.Top = tables.Splat[tables.V4](p.top)
	for lane := range job.Swap {
		job.Swap[lane] = swapLane(lane)
	}
}

// fillStages sets the pipeline to its start. What it computes before real work
// has reached its end is of no consequence.
func fillStages(job *tables.HybridJob, s *tables.HybridScratch) {
	for t := range k {
		s.K[t] = tables.Splat[tables.V16](k[t])
	}
	s.Words[8] = tables.Splat[tables.V16](0x80000000)
	s.Words[15] = tables.Splat[tables.V16](8 * 32)
	at := func(p unsafe.Pointer) uintptr { return uintptr(p) }
	set, tail := at(unsafe.Pointer(&job.Sets[0])), at(unsafe.Pointer(&s.Tail[0]))
	s.Stages = tables.Stages{
		SetBefore:  [3]uintptr{set, set, set},
		TailBefore: [2]uintptr{tail, tail},
		Digests:    [2]uintptr{at(unsafe.Pointer(&s.Digests[0])), at(unsafe.Pointer(&s.Digests[1]))},
		States:     [2]uintptr{at(unsafe.Pointer(&s.States[0])), at(unsafe.Pointer(&s.States[1]))},
		Pairs:      [2]uintptr{at(unsafe.Pointer(&s.Pairs[0])), at(unsafe.Pointer(&s.Pairs[1]))},
	}
}

func (e *hybridVersions) Scan(first uint32, n int, hits []Hit) []Hit {
	const nonces = 16 // of a table
	sets := e.sets()
	for lane := range e.scratch.Nonce[0] {
		e.scratch.Nonce[0][lane] = first + uint32(tables.PairIndex[tables.V16](lane))
	}
	// The last units' answers come when StagesBehind more have followed.
	total := n + (tables.StagesBehind+sets-1)/sets
	for from := 0; from < total; from += nonces {
		table := uintptr(from / nonces % 2)
		e.tail(e.tailJob, e.scratch, table)
		units := min(total-from, nonces) * sets
		found := e.run(e.job, e.scratch, uintptr(units), uintptr(sets), table)
		for _, left := range e.scratch.Hits[:found] {
			quarters := units*tables.Quarters - int(left)
			unit := from*sets + quarters/tables.Quarters - tables.StagesBehind
			if unit < 0 || unit/sets >= n {
				continue // before the range or after
			}
			lane := unit%sets*setSize + quarters%tables.Quarters*tables.Lanes4
			for i := lane; i < min(lane+tables.Lanes4, e.lanes); i++ {
				hits = append(hits, Hit{e.versions[i], first + uint32(unit/sets)})
			}
		}
	}
	return hits
}
