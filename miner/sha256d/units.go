//go:build amd64 || arm64

package sha256d

import "qcitycoin.org/qcity/miner/sha256d/tables"

// A generated kernel works in units of some hashes and tells, for each unit with
// a candidate, how many units were left then, that one included. A kernel that
// works in stages answers some units later. These two say which headers that
// means.

// byNonce is for units of size nonces. run does a number of units, at most
// tables.MaxUnits.
func byNonce(version, first uint32, n, size, behind int, hits []Hit, run func(units int) (left []uint32)) []Hit {
	total := unitsOf(n, size) + behind
	for from := 0; from < total; {
		units := min(total-from, tables.MaxUnits)
		for _, left := range run(units) {
			unit := from + units - int(left) - behind
			// The first may lie before the range, the last reach past it.
			for i := max(unit*size, 0); i < min((unit+1)*size, n); i++ {
				hits = append(hits, Hit{version, first + uint32(i)})
			}
		}
		from += units
	}
	return hits
}

// byVersion is for units of size versions with one nonce, and one nonce after
// the other. run does a number of units with the nonces of one table of the
// tail's schedule; tables are counted from 0.
func byVersion(versions []uint32, first uint32, n, size, behind, perTable int, hits []Hit, run func(table, units int) (left []uint32)) []Hit {
	perNonce := unitsOf(len(versions), size)
	total := n*perNonce + behind // the last answers come when some more units have followed
	for from := 0; from < total; from += perTable * perNonce {
		units := min(total-from, perTable*perNonce)
		for _, left := range run(from/(perTable*perNonce), units) {
			unit := from + units - int(left) - behind
			if unit < 0 || unit >= n*perNonce {
				continue // before the range or after
			}
			at := unit % perNonce * size
			for _, version := range versions[at:min(at+size, len(versions))] {
				hits = append(hits, Hit{version, first + uint32(unit/perNonce)})
			}
		}
	}
	return hits
}

// unitsOf is how many units of size it takes for n.
func unitsOf(n, size int) int { return (n + size - 1) / size }
