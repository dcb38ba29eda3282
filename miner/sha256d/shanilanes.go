//go:build amd64

package sha256d

import (
	"unsafe"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// shani is the memory of a SHA-NI kernel: see package tables.
type shani struct {
	prepared
	job     *tables.ShaJob
	scratch *tables.ShaScratch
}

func newShani() shani {
	return shani{job: aligned[tables.ShaJob](), scratch: aligned[tables.ShaScratch]()}
}

func feba(s state) tables.V4 { return tables.V4{s[5], s[4], s[1], s[0]} }
func hgdc(s state) tables.V4 { return tables.V4{s[7], s[6], s[3], s[2]} }

func (e *shani) Prepare(w *Work) {
	e.prepare(w)
	job := e.job
	for q := range job.K {
		job.K[q] = tables.V4(k[4*q:])
	}
	job.Tail = tables.V4{e.tail[0], e.tail[1], e.tail[2], 0}
	for q := range job.TailRest {
		job.TailRest[q] = tables.V4(e.tail[4+4*q:])
	}
	job.Rest = [2]tables.V4{{0x80000000}, {3: 8 * 32}}
	head := round0()
	job.SecondFEBA, job.SecondHGDC = feba(head), hgdc(head)
	const ones = 1<<32 - 1
	job.High, job.Odd = tables.V4{3: ones}, tables.V4{1: ones, 3: ones}
	job.IV7, job.Top = tables.Splat[tables.V4](iv[7]), tables.Splat[tables.V4](e.top)
	for lane := range job.Swap {
		job.Swap[lane] = swapLane(lane)
	}
	job.Step = tables.Splat[tables.V4](tables.ShaLanes)

	s := e.scratch
	for i := range s.Halves {
		for lane := range tables.ShaLanes {
			for t := 4; t < 16; t++ {
				s.Halves[i].Tail[lane][t] = k[t] + e.tail[t]
			}
			for t := 8; t < 16; t++ {
				s.Halves[i].Second[lane][t] = k[t] + job.Rest[t/4-2][t%4]
			}
		}
	}
	for i := range s.Tails {
		for t := 4; t < 16; t++ {
			s.Tails[i].Words[t] = k[t] + e.tail[t]
		}
	}
	s.Out = uintptr(unsafe.Pointer(&s.Halves[0]))
}

func (e *shani) fill(at *tables.ShaVersion, version int) {
	ahead, mid := e.afterRound3(version), e.mid[version]
	*at = tables.ShaVersion{FEBA: feba(ahead), HGDC: hgdc(ahead), MidFEBA: feba(mid), MidHGDC: hgdc(mid)}
}

func (e *shani) setNonces(first uint32) {
	for lane := range e.scratch.Nonce {
		e.scratch.Nonce[lane] = first + uint32(lane)
	}
}

// shaniByNonce drives the kernel whose lanes are nonces, one version at a time.
type shaniByNonce struct {
	shani
	run func(job *tables.ShaJob, scratch *tables.ShaScratch, units uintptr) uintptr
}

func (e *shaniByNonce) Scan(first uint32, n int, hits []Hit) []Hit {
	for version := range e.lanes {
		e.fill(&e.job.Versions[0], version)
		hits = e.scan(version, first, n, hits)
	}
	return hits
}

func (e *shaniByNonce) scan(version int, first uint32, n int, hits []Hit) []Hit {
	e.setNonces(first)
	return byNonce(e.versions[version], first, n, tables.ShaLanes, tables.ShaStagesBehind+1, hits, func(units int) []uint32 {
		return e.scratch.Hits[:e.run(e.job, e.scratch, uintptr(units))]
	})
}

// shaniByVersion drives the kernel whose lanes are versions.
type shaniByVersion struct {
	shani
	tail func(job *tables.ShaJob, scratch *tables.ShaScratch, tail *tables.ShaTail)
	run  func(job *tables.ShaJob, scratch *tables.ShaScratch, units, versions uintptr) uintptr
}

func (e *shaniByVersion) Prepare(w *Work) {
	e.shani.Prepare(w)
	for i := range unitsOf(e.lanes, tables.ShaLanes) * tables.ShaLanes {
		// Lanes without a version repeat the last one.
		e.fill(&e.job.Versions[i], min(i, e.lanes-1))
	}
}

func (e *shaniByVersion) Scan(first uint32, n int, hits []Hit) []Hit {
	e.setNonces(first)
	perNonce := unitsOf(e.lanes, tables.ShaLanes)
	return byVersion(e.versions[:e.lanes], first, n, tables.ShaLanes, tables.ShaStagesBehind, tables.ShaTails, hits,
		func(_, units int) []uint32 {
			for i := 0; i < unitsOf(units, perNonce); i += tables.ShaLanes {
				e.tail(e.job, e.scratch, &e.scratch.Tails[i])
			}
			return e.scratch.Hits[:e.run(e.job, e.scratch, uintptr(units), uintptr(perNonce*tables.ShaLanes))]
		})
}
