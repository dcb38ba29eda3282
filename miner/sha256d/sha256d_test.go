package sha256d

import (
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/work"
)

// eachKernel runs a test for every kernel this machine can run.
func eachKernel(t *testing.T, test func(*testing.T, Kernel)) {
	ran := 0
	for _, k := range Kernels() {
		if missing := k.Missing(hw.Features()); len(missing) > 0 {
			t.Logf("kernel %s needs %v: not run here", k.Name, missing)
			continue
		}
		ran++
		t.Run(k.Name, func(t *testing.T) { test(t, k) })
	}
	if ran == 0 {
		t.Fatal("no kernel runs on this machine")
	}
}

func TestSelfTestPasses(t *testing.T) {
	eachKernel(t, func(t *testing.T, k Kernel) {
		if err := SelfTest(k); err != nil {
			t.Fatal(err)
		}
	})
}

// TestMatchesReference compares whole answers on random work.
func TestMatchesReference(t *testing.T) {
	eachKernel(t, func(t *testing.T, k Kernel) {
		s := NewScanner(k) // one for all: no state may leak from work to work
		rapid.Check(t, func(t *rapid.T) {
			w := Work{
				Header:   work.Header(rapid.SliceOfN(rapid.Byte(), 80, 80).Draw(t, "header")),
				Versions: rapid.SliceOfNDistinct(rapid.Uint32(), 1, MaxVersions, rapid.ID).Draw(t, "versions"),
			}
			n := rapid.IntRange(1, 100).Draw(t, "n")
			first := uint32(rapid.Uint64Range(0, NonceSpace-uint64(n)).Draw(t, "first"))
			w.Target = drawTarget(t, &w, first, n)
			checkScan(t, s, &w, first, n)
		})
	})
}

func drawTarget(t *rapid.T, w *Work, first uint32, n int) work.Target {
	best := bestHash(*w, first, n)
	one := big.NewInt(1)
	return rapid.OneOf(
		rapid.Just(work.TargetFromBig(best)),
		rapid.Just(work.TargetFromBig(new(big.Int).Sub(best, one))),
		rapid.Map(rapid.UintRange(200, 256), func(n uint) work.Target {
			return work.TargetFromBig(new(big.Int).Sub(new(big.Int).Lsh(one, n), one))
		}),
	).Draw(t, "target")
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func checkScan(t fataler, s *Scanner, w *Work, first uint32, n int) {
	t.Helper()
	if err := s.Prepare(w); err != nil {
		t.Fatal(err)
	}
	keep := Hit{7, 7} // what was in the slice before stays
	hashes, hits := s.Scan(first, n, []Hit{keep})
	if want := uint64(n * len(w.Versions)); hashes != want {
		t.Fatalf("%d hashes counted, want %d", hashes, want)
	}
	if hits[0] != keep {
		t.Fatalf("earlier hits were overwritten: %v", hits)
	}
	got := slices.Clone(hits[1:])
	sortHits(got)
	if want := reference(w, first, n); !slices.Equal(got, want) {
		t.Fatalf("found %v, want %v", got, want)
	}
}

func FuzzKernels(f *testing.F) {
	f.Add(genesis[:], uint32(genesisNonce-5), uint8(20), uint8(1), uint16(224))
	f.Add(make([]byte, 80), uint32(NonceSpace-1), uint8(1), uint8(16), uint16(256))
	f.Add(make([]byte, 80), uint32(0), uint8(255), uint8(3), uint16(250))
	f.Fuzz(func(t *testing.T, header []byte, first uint32, n, versions uint8, bits uint16) {
		if len(header) != 80 || n == 0 || uint64(first)+uint64(n) > NonceSpace {
			t.Skip()
		}
		one := big.NewInt(1)
		target := new(big.Int).Sub(new(big.Int).Lsh(one, uint(bits%257)), one)
		base := binary.LittleEndian.Uint32(header) &^ work.VersionMask
		w := Work{
			Header: work.Header(header), Versions: versionsFrom(base, 1+int(versions%MaxVersions)),
			Target: work.TargetFromBig(target),
		}
		for _, k := range Kernels() {
			if len(k.Missing(hw.Features())) == 0 {
				checkScan(t, NewScanner(k), &w, first, int(n))
			}
		}
	})
}

func TestPrepareRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		versions []uint32
		want     string
	}{
		{"no version", nil, "0 header versions"},
		{"too many versions", versionsFrom(0, MaxVersions+1), "65 header versions"},
		{"a version twice", []uint32{1, 0x20, 1}, "00000001 twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewScanner(Kernels()[0])
			err := s.Prepare(&Work{Versions: c.versions})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			mustPanic(t, func() { s.Scan(0, 1, nil) })
		})
	}
}

func TestScanRefusesBadRanges(t *testing.T) {
	for _, c := range []struct {
		name  string
		first uint32
		n     int
	}{
		{"empty", 0, 0},
		{"negative", 0, -1},
		{"one past the end", NonceSpace - 1, 2},
		{"whole space from 1", 1, NonceSpace},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewScanner(Kernels()[0])
			if err := s.Prepare(&Work{Versions: []uint32{1}}); err != nil {
				t.Fatal(err)
			}
			mustPanic(t, func() { s.Scan(c.first, c.n, nil) })
		})
	}
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	f()
}

func BenchmarkKernel(b *testing.B) {
	for _, k := range Kernels() {
		if len(k.Missing(hw.Features())) > 0 {
			continue
		}
		b.Run(k.Name, func(b *testing.B) {
			s := NewScanner(k)
			if err := s.Prepare(&Work{Header: genesis, Versions: versionsFrom(1, k.Lanes)}); err != nil {
				b.Fatal(err)
			}
			var hashes uint64
			for b.Loop() {
				n, _ := s.Scan(0, callHashes/k.Lanes, nil)
				hashes += n
			}
			b.ReportMetric(float64(hashes)/b.Elapsed().Seconds()/1e6, "MH/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// reference answers a scan with crypto/sha256 alone, sorted.
func reference(w *Work, first uint32, n int) []Hit {
	return meeting(w.Target, allHashes(w, first, n))
}

// bestHash returns the smallest hash of a range.
func bestHash(w Work, first uint32, n int) *big.Int { return lowest(allHashes(&w, first, n)) }
