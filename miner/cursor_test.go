package miner

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

type pair struct {
	extranonce [work.ExtranonceSize]byte
	version    uint32
}

// TestCursorsNeverRepeat: whatever workers do, in whatever order, no two of
// their pairs are the same, and all of them are legal.
func TestCursorsNeverRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lanes := uint32(rapid.IntRange(1, sha256d.MaxVersions).Draw(t, "lanes"))
		// Starts just before every place where something wraps.
		start := rapid.SampledFrom([]uint64{0, 1<<counterBits - 3, 1<<64 - 2, 12345}).Draw(t, "start")
		group := rapid.SampledFrom([]uint32{0, versionCount/lanes - 2}).Draw(t, "group")
		cursors := make([]cursor, rapid.IntRange(1, 4).Draw(t, "workers"))
		for i := range cursors {
			cursors[i] = cursor{worker: uint16(i), counter: start, group: group, lanes: lanes}
		}
		base := rapid.Uint32().Draw(t, "base")
		job := work.Job{Version: base &^ work.VersionMask}

		seen := map[pair]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c := &cursors[rapid.IntRange(0, len(cursors)-1).Draw(t, "worker")]
			if rapid.IntRange(0, 4).Draw(t, "skip") == 0 {
				c.skip()
				continue
			}
			var space [sha256d.MaxVersions]uint32
			extranonce, versions := c.next(base, space[:])
			if len(versions) != int(lanes) || !bytes.HasPrefix(extranonce[:], work.LocalPrefix[:]) {
				t.Fatalf("%d versions, extranonce %x", len(versions), extranonce)
			}
			for _, v := range versions {
				if err := job.CheckVersion(v); err != nil {
					t.Fatal(err)
				}
				if p := (pair{extranonce, v}); seen[p] {
					t.Fatalf("extranonce %x with version %08x came twice", extranonce, v)
				} else {
					seen[p] = true
				}
			}
		}
	})
}

// TestCursorOrder: all versions, then the next extranonce, with no gap.
func TestCursorOrder(t *testing.T) {
	c := cursor{worker: 3, counter: 7, lanes: 16, group: versionCount/16 - 1}
	var space [sha256d.MaxVersions]uint32
	first, versions := c.next(1, space[:])
	if last := versions[15]; last != 1|work.VersionMask {
		t.Errorf("last version %08x", last)
	}
	second, versions := c.next(1, space[:])
	if versions[0] != 1 || versions[1] != 1|1<<versionShift {
		t.Errorf("versions after the last: %08x", versions)
	}
	for i, e := range [][work.ExtranonceSize]byte{first, second} {
		if got, want := binary.BigEndian.Uint64(e[work.PrefixSize:]), uint64(3<<counterBits+7+i); got != want {
			t.Errorf("extranonce %d is %x, want %x", i, got, want)
		}
	}
}
