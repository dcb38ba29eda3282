package consensus

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holiman/uint256"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/types"
)

// TestASERTVectors runs the published vectors of Bitcoin Cash and those of an
// independent port; the file says which are which.
func TestASERTVectors(t *testing.T) {
	file, err := os.Open("testdata/asert.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var (
		name               string
		anchor             asertAnchor
		interval, halfLife int64
		limit              uint32
		runs, vectors      int
	)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "run "):
			scan(t, line, "run %s %d %d %d %d %x %x", &name, &interval, &halfLife, &anchor.height, &anchor.parentTime, &anchor.bits, &limit)
			runs++
		default:
			var height, want uint32
			var time int64
			scan(t, line, "%d %d %x", &height, &time, &want)
			if got := asert(anchor, height, time, interval, halfLife, limit); got != want {
				t.Errorf("%s: height %d, time %d: %08x, want %08x", name, height, time, got, want)
			}
			vectors++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if runs != 22 || vectors < 7000 {
		t.Errorf("read %d runs with %d vectors", runs, vectors)
	}
}

func scan(t *testing.T, line, format string, into ...any) {
	t.Helper()
	if _, err := fmt.Sscanf(line, format, into...); err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
}

func TestASERTProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]uint32{0x207fffff, 0x1d00ffff, 0x1f00ffff}).Draw(t, "limit")
		anchor := asertAnchor{
			bits:       rapid.SampledFrom([]uint32{0x1d00ffff, 0x1b00ffff, 0x17034219, 0x03010001, 0x01010000}).Draw(t, "anchor"),
			parentTime: rapid.Int64Range(0, 1<<32-1).Draw(t, "parentTime"),
		}
		interval := rapid.Int64Range(1, maxInterval).Draw(t, "interval")
		halfLife := rapid.Int64Range(1, 1<<32-1).Draw(t, "halfLife")
		height := rapid.Uint32().Draw(t, "height")
		early := rapid.Int64Range(0, 1<<32-1).Draw(t, "early")
		late := rapid.Int64Range(early, 1<<32-1).Draw(t, "late")

		max := expand(t, limit)
		a := expand(t, asert(anchor, height, early, interval, halfLife, limit))
		b := expand(t, asert(anchor, height, late, interval, halfLife, limit))
		if a.IsZero() || b.IsZero() {
			t.Fatal("a target is zero")
		}
		if a.Gt(&max) || b.Gt(&max) {
			t.Fatal("a target is above the limit")
		}
		if a.Gt(&b) {
			t.Fatalf("a later block is harder: %s at %d, %s at %d", &a, early, &b, late)
		}
		onTime := anchor.parentTime + interval*(int64(height)+1)
		if got := asert(anchor, height, onTime, interval, halfLife, 0x207fffff); got != anchor.bits {
			t.Fatalf("on schedule: %08x, want the anchor's %08x", got, anchor.bits)
		}
	})
}

func expand(t *rapid.T, bits uint32) uint256.Int {
	target, err := types.CompactToTarget(bits)
	if err != nil {
		t.Fatalf("%08x: %v", bits, err)
	}
	return target
}
