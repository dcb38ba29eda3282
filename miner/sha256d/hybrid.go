package sha256d

import (
	"unsafe"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// setSize is the number of versions that go through a hybrid kernel side by
// side; up to tables.MaxSets sets share one nonce.
const setSize = 16

// stagesBehind is how many units lie between a unit's first stage and its
// answer.
const stagesBehind = 3

// hybridVersions drives a hybrid kernel whose lanes are versions.
type hybridVersions[C tables.Words] struct {
	prepared
	job     *tables.HybridJob[C]
	scratch *tables.HybridScratch
	tailJob *tables.Job[uint32, tables.V16]
	tail    func(*tables.Job[uint32, tables.V16], *tables.HybridScratch)
	run     func(job *tables.HybridJob[C], scratch *tables.HybridScratch, units, sets uintptr) uintptr
}

func newHybridVersions[C tables.Words](
	tail func(*tables.Job[uint32, tables.V16], *tables.HybridScratch),
	run func(job *tables.HybridJob[C], scratch *tables.HybridScratch, units, sets uintptr) uintptr,
) *hybridVersions[C] {
	return &hybridVersions[C]{
		job: aligned[tables.HybridJob[C]](), scratch: aligned[tables.HybridScratch](),
		tailJob: aligned[tables.Job[uint32, tables.V16]](), tail: tail, run: run,
	}
}

func feba(s state) tables.V4 { return tables.V4{s[5], s[4], s[1], s[0]} }
func hgdc(s state) tables.V4 { return tables.V4{s[7], s[6], s[3], s[2]} }

func (e *hybridVersions[C]) sets() int { return (e.lanes + setSize - 1) / setSize }

func (e *hybridVersions[C]) Prepare(w *Work) {
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
func fillHybrid[C tables.Words](job *tables.HybridJob[C], p *prepared) {
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
	job.IV7 = tables.Splat[tables.V4](iv[7])
	job.Top = tables.Splat[tables.V4](p.top)
	for lane := range job.Swap {
		job.Swap[lane] = swapLane(lane)
	}
	for t := range job.K {
		job.K[t] = tables.Splat[C](k[t])
	}
}

// fillStages sets the pipeline to its start. What it computes before real work
// has reached its end is of no consequence.
func fillStages[C tables.Words](job *tables.HybridJob[C], s *tables.HybridScratch) {
	for i := range s.Words {
		s.Words[i][8] = tables.Splat[tables.V16](0x80000000)
		s.Words[i][15] = tables.Splat[tables.V16](8 * 32)
	}
	at := func(p unsafe.Pointer) uintptr { return uintptr(p) }
	s.Stages = tables.Stages{
		Set: at(unsafe.Pointer(&job.Sets[0])), SetBefore: at(unsafe.Pointer(&job.Sets[0])),
		DigestsOut: at(unsafe.Pointer(&s.Digests[0])), DigestsIn: at(unsafe.Pointer(&s.Digests[1])),
		WordsOut: at(unsafe.Pointer(&s.Words[0])), Words: at(unsafe.Pointer(&s.Words[1])),
		PairsA: at(unsafe.Pointer(&s.Pairs[0])), PairsB: at(unsafe.Pointer(&s.Pairs[1])), PairsC: at(unsafe.Pointer(&s.Pairs[2])),
	}
}

func (e *hybridVersions[C]) Scan(first uint32, n int, hits []Hit) []Hit {
	const nonces = 16 // of a table
	sets := e.sets()
	for lane := range e.scratch.Nonce[0] {
		e.scratch.Nonce[0][lane] = first + uint32(tables.PairIndex[tables.V16](lane))
	}
	// The last units' answers come when stagesBehind more have followed.
	total := n + (stagesBehind+sets-1)/sets
	for from := 0; from < total; from += nonces {
		e.tail(e.tailJob, e.scratch)
		units := min(total-from, nonces) * sets
		found := e.run(e.job, e.scratch, uintptr(units), uintptr(sets))
		for _, left := range e.scratch.Hits[:found] {
			quarters := units*tables.Quarters - int(left)
			unit := from*sets + quarters/tables.Quarters - stagesBehind
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
