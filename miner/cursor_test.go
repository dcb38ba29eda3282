package miner

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

// piece is a range of nonces of one extranonce and version.
type piece struct {
	extranonce [work.ExtranonceSize]byte
	version    uint32
	first, end uint64
}

// overlaps returns two pieces that share a header, if there are any.
func overlaps(pieces []piece) []piece {
	sorted := slices.Clone(pieces)
	slices.SortFunc(sorted, func(a, b piece) int {
		if c := bytes.Compare(a.extranonce[:], b.extranonce[:]); c != 0 {
			return c
		}
		if a.version != b.version {
			return int(int64(a.version) - int64(b.version))
		}
		return int(int64(a.first) - int64(b.first))
	})
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.extranonce == b.extranonce && a.version == b.version && b.first < a.end {
			return []piece{a, b}
		}
	}
	return nil
}

// TestCursorsNeverRepeat: whatever workers do, in whatever order, with kernels
// of any width, no two of their pieces share a header, and all of them are legal.
func TestCursorsNeverRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, sha256d.MaxVersions)
		// Starts just before every place where something wraps.
		start := rapid.SampledFrom([]uint64{0, 1<<counterBits - 3, 1<<64 - 2, 12345}).Draw(t, "start")
		version := rapid.SampledFrom([]uint32{0, versionCount - 40}).Draw(t, "version")
		cursors := make([]cursor, rapid.IntRange(1, 4).Draw(t, "workers"))
		for i := range cursors {
			cursors[i] = cursor{worker: uint16(i), counter: start, version: version}
			cursors[i].setWidth(width.Draw(t, "width"))
		}
		base := rapid.Uint32().Draw(t, "base")
		job := work.Job{Version: base &^ work.VersionMask}

		var pieces []piece
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c := &cursors[rapid.IntRange(0, len(cursors)-1).Draw(t, "worker")]
			if rapid.IntRange(0, 9).Draw(t, "other kernel") == 0 {
				c.setWidth(width.Draw(t, "width"))
			}
			var space [sha256d.MaxVersions]uint32
			extranonce, versions := c.pair(base, space[:])
			if len(versions) != int(c.width) || !bytes.HasPrefix(extranonce[:], work.LocalPrefix[:]) {
				t.Fatalf("%d versions, extranonce %x", len(versions), extranonce)
			}
			for range rapid.IntRange(0, 3).Draw(t, "calls") {
				hashes := rapid.SampledFrom([]int{1, 256, 8192, sha256d.NonceSpace / 2, sha256d.NonceSpace * 16}).Draw(t, "hashes")
				first, n := c.take(hashes)
				for _, v := range versions[:min(n, len(versions))] { // none for n == 0
					if err := job.CheckVersion(v); err != nil {
						t.Fatal(err)
					}
					pieces = append(pieces, piece{extranonce, v, uint64(first), uint64(first) + uint64(n)})
				}
				if n > 1 && n*len(versions) > hashes || n == 0 && c.nonce != sha256d.NonceSpace {
					t.Fatalf("%d nonces of %d versions for %d hashes, next nonce %d", n, len(versions), hashes, c.nonce)
				}
				if uint64(first)+uint64(n) > sha256d.NonceSpace {
					t.Fatalf("%d nonces from %d on", n, first)
				}
			}
		}
		if twice := overlaps(pieces); twice != nil {
			t.Fatalf("hashed twice: %+v", twice)
		}
	})
}

// TestCursorOrder: all nonces, then the next versions, then the next extranonce,
// with no gap.
func TestCursorOrder(t *testing.T) {
	c := cursor{worker: 3, counter: 7, version: versionCount - 32, width: 16, nonce: sha256d.NonceSpace - 3}
	var space [sha256d.MaxVersions]uint32
	for i, want := range []struct {
		extranonce  uint64
		low, high   uint32 // versions
		first, last uint64 // nonces dealt in one go
	}{
		{7, versionCount - 32, versionCount - 17, sha256d.NonceSpace - 3, sha256d.NonceSpace - 1},
		{7, versionCount - 16, versionCount - 1, 0, sha256d.NonceSpace - 1},
		{8, 0, 15, 0, sha256d.NonceSpace - 1},
		{8, 16, 31, 0, sha256d.NonceSpace - 1},
	} {
		extranonce, versions := c.pair(1, space[:])
		if got := binary.BigEndian.Uint64(extranonce[work.PrefixSize:]); got != 3<<counterBits+want.extranonce {
			t.Errorf("step %d: extranonce %x", i, got)
		}
		if versions[0] != 1|want.low<<versionShift || versions[15] != 1|want.high<<versionShift {
			t.Errorf("step %d: versions %08x", i, versions)
		}
		// Asked again before anything is taken, it says the same.
		if again, _ := c.pair(1, space[:]); again != extranonce {
			t.Errorf("step %d: extranonce %x became %x", i, extranonce, again)
		}
		first, n := c.take(sha256d.NonceSpace * 16)
		if uint64(first) != want.first || uint64(first)+uint64(n)-1 != want.last {
			t.Errorf("step %d: %d nonces from %d", i, n, first)
		}
		if _, n := c.take(256); n != 0 {
			t.Errorf("step %d: %d more nonces", i, n)
		}
	}
}

// TestCursorWidth: a kernel of another width gets versions nobody has had.
func TestCursorWidth(t *testing.T) {
	for _, c := range []struct {
		name   string
		before cursor
		width  int
		want   cursor
	}{
		{"first kernel", cursor{}, 4, cursor{width: 4}},
		{"same width", cursor{version: 8, width: 4, nonce: 5}, 4, cursor{version: 8, width: 4, nonce: 5}},
		{"wider, in the middle", cursor{version: 8, width: 4, nonce: 5}, 16, cursor{version: 12, width: 16}},
		{"narrower, in the middle", cursor{version: 8, width: 4, nonce: 5}, 1, cursor{version: 12, width: 1}},
		{"wider, nothing taken yet", cursor{version: 8, width: 4}, 16, cursor{version: 8, width: 16}},
		{"more than there may be", cursor{}, 99, cursor{width: sha256d.MaxVersions}},
		{"none", cursor{}, 0, cursor{width: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.before
			if got.setWidth(c.width); got != c.want {
				t.Fatalf("%+v, want %+v", got, c.want)
			}
		})
	}
}
