//go:build arm64

package sha256d

import "qcitycoin.org/qcity/miner/sha256d/tables"

// sha2 is the memory of a sha2 kernel: see package tables.
type sha2 struct {
	prepared
	job     *tables.SHA2Job
	scratch *tables.SHA2Scratch
}

func newSHA2() sha2 {
	return sha2{job: aligned[tables.SHA2Job](), scratch: aligned[tables.SHA2Scratch]()}
}

func (e *sha2) Prepare(w *Work) {
	e.prepare(w)
	job := e.job
	var tail [64]uint32
	copy(tail[:], e.tail[:])
	for t := range 64 {
		if t < 16 {
			job.Words[t/4][t%4] = tail[t]
		}
		if t >= 4 && t < 16 {
			job.KW1[t/4-1][t%4] = k[t] + tail[t]
		}
		if t >= 16 {
			job.K1[t/4-4][t%4] = k[t]
		}
		if t >= 20 && t < 32 {
			job.U1[t/4-5][t%4] = constantTerms(&tail, func(i int) bool { return i <= t-15 }, t)
		}
		if t >= 1 && t <= 60 {
			job.K2[(t-1)/4][(t-1)%4] = k[t]
		}
	}
	job.Head = quads(round0())
	job.W8[0], job.W13[15-13] = 0x80000000, 8*32 // padding; length in bits
	job.Step = tables.Splat[tables.V4](tables.SHA2Ways)
	job.IV7 = tables.Splat[tables.V4](iv[7])
	job.Top = tables.Splat[tables.V4](e.top)
}

// setVersion puts one version into its place.
func (e *sha2) setVersion(at *tables.SHA2Version, version int) {
	at.Ahead = quads(e.afterRound3(version))
	at.Mid = quads(e.mid[version])
}

// setNonces sets the first nonces of a range.
func (e *sha2) setNonces(first uint32) {
	for i := range e.scratch.Nonce {
		e.scratch.Nonce[i] = first + uint32(i)
	}
}

// quads returns a b c d and e f g h.
func quads(s state) [2]tables.V4 { return [2]tables.V4{tables.V4(s[:4]), tables.V4(s[4:])} }

// sha2ByNonce takes one version at a time.
type sha2ByNonce struct{ sha2 }

func (e *sha2ByNonce) Scan(first uint32, n int, hits []Hit) []Hit {
	for version := range e.lanes {
		e.setVersion(&e.job.Sets[0][0], version)
		hits = e.scan(version, first, n, hits)
	}
	return hits
}

func (e *sha2ByNonce) scan(version int, first uint32, n int, hits []Hit) []Hit {
	e.setNonces(first)
	return byNonce(e.versions[version], first, n, tables.SHA2Ways, 0, hits, func(units int) []uint32 {
		return e.scratch.Hits[:sha2Nonces(e.job, e.scratch, uintptr(units))]
	})
}

// sha2ByVersion takes all versions with one nonce after the other.
type sha2ByVersion struct{ sha2 }

func (e *sha2ByVersion) Prepare(w *Work) {
	e.sha2.Prepare(w)
	for i := range tables.SHA2Sets * tables.SHA2Ways {
		// Places without a version repeat the last one.
		e.setVersion(&e.job.Sets[i/tables.SHA2Ways][i%tables.SHA2Ways], min(i, e.lanes-1))
	}
}

func (e *sha2ByVersion) Scan(first uint32, n int, hits []Hit) []Hit {
	const size = tables.SHA2Ways
	sets := (e.lanes + size - 1) / size
	e.setNonces(first)
	for i := range n {
		if i%size == 0 {
			sha2Tails(e.job, e.scratch)
		}
		found := sha2Versions(e.job, e.scratch, uintptr(sets), &e.scratch.Tails[i%size])
		for _, left := range e.scratch.Hits[:found] {
			set := (sets - int(left)) * size
			for _, version := range e.versions[set:min(set+size, e.lanes)] {
				hits = append(hits, Hit{version, first + uint32(i)})
			}
		}
	}
	return hits
}
