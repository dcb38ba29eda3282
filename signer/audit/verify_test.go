package audit

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/types"
)

// smallLog is a log of three files with three entries each, and its heads.
func smallLog(t *testing.T) (all [][]byte, heads []Head) {
	t.Helper()
	return logOf(t, 3)
}

// logOf is a log of three files and its heads.
func logOf(t *testing.T, perFile int) (all [][]byte, heads []Head) {
	t.Helper()
	disk, l := memLog(t, Options{})
	for i := range 3 * perFile {
		if i == perFile || i == 2*perFile {
			if err := l.Rotate(testEntry(i).Time); err != nil {
				t.Fatal(err)
			}
		}
		need[Head](t)(l.Append(testEntry(i)))
	}
	for r, err := range l.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, r.Head)
	}
	if all = files(disk); len(all) != 3 || len(heads) != 3*perFile+5 {
		t.Fatalf("%d files, %d records", len(all), len(heads))
	}
	return all, heads
}

// TestEveryFlippedBit flips every bit of every file. Each is found, at the record
// it is in; the file's own header is at offset 0.
func TestEveryFlippedBit(t *testing.T) {
	t.Parallel()
	all, heads := logOf(t, 1)
	seq := uint64(0) // of the file's first record
	bits := 0
	for n, good := range all {
		at := offsets(t, good)
		for bit := range 8 * len(good) {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			hurt := slices.Clone(all)
			hurt[n] = bad
			disk := diskOf(hurt)
			report, err := verify(t, disk, VerifyOptions{})
			record, offset := 0, int64(0)
			if bit/8 >= 8 {
				for record = len(at) - 2; at[record] > bit/8; record-- {
				}
				offset = int64(at[record])
			}
			want := seq + uint64(record)
			b := wantBroken(t, err, want, "")
			if b.File != filePath(logPath, n+1) || b.Offset != offset {
				t.Fatalf("file %d, bit %d: %v; want offset %d", n+1, bit, b, offset)
			}
			if want > 0 && report.Head != heads[want-1] {
				t.Fatalf("file %d, bit %d: good up to %v, want %v", n+1, bit, report.Head, heads[want-1])
			}
			if n == len(all)-1 || record == 0 {
				if _, err := Open(logPath, testNet, Options{FS: disk}); err == nil {
					t.Fatalf("file %d, bit %d: it was opened", n+1, bit)
				}
			}
			bits++
		}
		seq += uint64(len(at) - 1)
	}
	t.Logf("%d bits", bits)
}

// TestEveryFlippedBitWithRightChecksums flips every bit of every record and
// repairs the checksum, as a forger would. Each is found at the record or at the
// one that follows it, but for those of the last record: nothing follows that,
// so only a head or an anchor shows them.
func TestEveryFlippedBitWithRightChecksums(t *testing.T) {
	t.Parallel()
	all, heads := logOf(t, 1)
	last := heads[len(heads)-1]
	seq, hidden := uint64(0), 0
	for n, good := range all {
		for i, p := range payloads(t, good) {
			for bit := range 8 * len(p) {
				list := payloads(t, good)
				list[i] = bytes.Clone(p)
				list[i][bit/8] ^= 1 << (bit % 8)
				forged := slices.Clone(all)
				forged[n] = frame(list)
				_, err := verify(t, diskOf(forged), VerifyOptions{})
				if err == nil && seq == last.Seq {
					hidden++
					_, err = verify(t, diskOf(forged), VerifyOptions{Head: &last})
					wantBroken(t, err, seq, "expected was")
					_, err = verify(t, diskOf(forged), VerifyOptions{Anchors: heads})
					wantBroken(t, err, seq, "an anchor says")
					continue
				}
				var b *Broken
				if !errors.As(err, &b) || b.Seq != seq && b.Seq != seq+1 {
					t.Fatalf("record %d, bit %d: %v", seq, bit, err)
				}
			}
			seq++
		}
	}
	if hidden == 0 {
		t.Fatal("no flipped bit of the last record was hidden: the test does not reach it")
	}
}

// TestRecordsMoved removes, doubles, swaps and replaces records, with right
// checksums.
func TestRecordsMoved(t *testing.T) {
	all, heads := smallLog(t)
	last := heads[len(heads)-1]
	base := uint64(0)
	for n, good := range all {
		count := len(payloads(t, good))
		for i := range count {
			seq := base + uint64(i)
			check := func(what string, change func([][]byte) [][]byte, at uint64) {
				t.Helper()
				forged := slices.Clone(all)
				forged[n] = frame(change(slices.Clone(payloads(t, good))))
				_, err := verify(t, diskOf(forged), VerifyOptions{Head: &last})
				var b *Broken
				if !errors.As(err, &b) || b.Seq != at {
					t.Fatalf("%s record %d: got %v, want record %d", what, seq, err, at)
				}
			}
			check("removed", func(l [][]byte) [][]byte { return slices.Delete(l, i, i+1) }, seq)
			check("doubled", func(l [][]byte) [][]byte { return slices.Insert(l, i, l[i]) }, seq+1)
			if i+1 < count {
				check("swapped", func(l [][]byte) [][]byte { l[i], l[i+1] = l[i+1], l[i]; return l }, seq)
			}
			if i > 0 {
				check("cut off from", func(l [][]byte) [][]byte { return l[:i] }, seq)
				// An entry that is right in itself, chained to the one before: a new
				// past. It shows at the record after it, or by the head.
				at := seq + 1
				if seq == last.Seq {
					at = seq
				}
				check("replaced", func(l [][]byte) [][]byte {
					e := testEntry(0)
					e.Detail = "never happened"
					l[i] = append(bytes.Clone(l[i][:32]), e.appendTo(nil)...)
					return l
				}, at)
			}
		}
		base += uint64(count)
	}
}

// TestFilesMoved: whole files removed, swapped, doubled or taken from another log.
func TestFilesMoved(t *testing.T) {
	all, heads := smallLog(t)
	foreign, _ := smallLog(t)
	first := payloads(t, all[0])
	for name, c := range map[string]struct {
		files [][]byte
		seq   uint64
		why   string
	}{
		"second gone":    {[][]byte{all[0], nil, all[2]}, heads[5].Seq, "the file is missing"},
		"last gone":      {all[:2], heads[10].Seq, "the file is missing"},
		"first replaced": {[][]byte{foreign[0], all[1], all[2]}, 5, "was replaced"},
		"last replaced":  {[][]byte{all[0], all[1], foreign[2]}, 10, "was replaced"},
		"swapped":        {[][]byte{all[0], all[2], all[1]}, 5, "was replaced"},
		"doubled":        {[][]byte{all[0], all[1], all[1], all[2]}, 10, "was replaced"},
		"second first":   {[][]byte{all[1], all[2]}, 0, "which is missing"},
		"second emptied": {[][]byte{all[0], {}, all[2]}, 5, "its header is missing"},
		"a gap":          {[][]byte{frame(first[:len(first)-1]), nil, all[2]}, 4, "nothing is in the file"},
		"a torn gap":     {[][]byte{all[0][:len(all[0])-3], nil, all[2]}, 4, "nothing is in the file"},
		"an empty gap":   {[][]byte{frame(first[:len(first)-1]), all[1][:8], all[2]}, 4, "nothing is in the file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify(t, diskOf(c.files), VerifyOptions{})
			wantBroken(t, err, c.seq, c.why)
		})
	}
	if _, err := verify(t, diskOf([][]byte{nil, all[1], all[2]}), VerifyOptions{}); !errors.Is(err, ErrMissing) {
		t.Fatalf("first gone: %v", err)
	}
}

// TestTwoNetworks: a file of another network does not go on with a log, whatever else fits.
func TestTwoNetworks(t *testing.T) {
	all, _ := smallLog(t)
	list := payloads(t, all[1])
	h, err := decodeHeader(list[0][32:], new([]byte))
	if err != nil {
		t.Fatal(err)
	}
	seq := h.Seq
	h.Network[0]++
	list[0] = append(slices.Clone(list[0][:32]), h.appendTo(nil)...)
	all[1] = frame(list[:1])
	_, err = verify(t, diskOf(all[:2]), VerifyOptions{})
	wantBroken(t, err, seq, "belongs to network")
}

// TestTruncation cuts the last file at every byte. Within a record that shows as an
// unfinished record, which a crash may leave; at its border it does not show at
// all, unless an anchor or the expected head is given.
func TestTruncation(t *testing.T) {
	all, heads := smallLog(t)
	last := heads[len(heads)-1]
	file := all[2]
	at := offsets(t, file)
	for cut := range file {
		forged := [][]byte{all[0], all[1], file[:cut]}
		left, border := 10, slices.Contains(at, cut) // records of the first two files
		for _, o := range at[1:] {
			if o <= cut {
				left++
			}
		}
		report, err := verify(t, diskOf(forged), VerifyOptions{})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if report.Head != heads[left-1] || (report.Unfinished == 0) != (border || cut < 8) {
			t.Fatalf("cut at %d: %+v, want %d records", cut, report, left)
		}
		_, err = verify(t, diskOf(forged), VerifyOptions{Head: &last})
		wantBroken(t, err, uint64(left), "cut off")
		_, err = verify(t, diskOf(forged), VerifyOptions{Anchors: []Head{heads[3], last}})
		wantBroken(t, err, uint64(left), "cut off")
		need[Report](t)(verify(t, diskOf(forged), VerifyOptions{Anchors: heads[:left]}))
	}
	// A file that another follows must be whole to the last byte.
	for cut := range all[1] {
		_, err := verify(t, diskOf([][]byte{all[0], all[1][:cut], all[2]}), VerifyOptions{})
		var b *Broken
		if !errors.As(err, &b) || b.File != filePath(logPath, 2) || b.Offset > int64(cut) {
			t.Fatalf("second file cut at %d: %v", cut, err)
		}
	}
	// A log that never had a first record is none.
	for cut := range offsets(t, all[0])[1] {
		_, err := verify(t, diskOf([][]byte{all[0][:cut]}), VerifyOptions{})
		wantBroken(t, err, 0, "interrupted")
	}
	// A file that was made and not begun is what an interrupted rotation leaves.
	for _, rest := range [][]byte{{}, file[:5], file[:8], file[:60]} {
		need[Report](t)(verify(t, diskOf([][]byte{all[0], all[1], rest}), VerifyOptions{}))
	}
}

func TestAnchors(t *testing.T) {
	all, heads := smallLog(t)
	disk := diskOf(all)
	last := heads[len(heads)-1]
	wrong := Head{7, types.Hash{1}}
	shuffled := slices.Clone(heads)
	slices.Reverse(shuffled)
	report := need[Report](t)(verify(t, disk, VerifyOptions{Anchors: append(shuffled, heads[4])}))
	if report.Anchors != len(heads)+1 || *report.Anchored != last {
		t.Fatalf("%+v", report)
	}
	_, err := verify(t, disk, VerifyOptions{Anchors: []Head{heads[2], wrong}})
	wantBroken(t, err, 7, "an anchor says")
	_, err = verify(t, disk, VerifyOptions{Anchors: []Head{{100, types.Hash{}}}})
	wantBroken(t, err, 14, "there is an anchor at record 100")
	_, err = verify(t, disk, VerifyOptions{Head: &heads[5]})
	wantBroken(t, err, 6, "give it as an anchor")
	if _, err := verify(t, disk, VerifyOptions{Network: types.Hash{9}}); !errors.Is(err, ErrNetwork) {
		t.Fatal(err)
	}
	for _, h := range heads {
		if back := need[Head](t)(ParseHead(h.String())); back != h {
			t.Fatalf("%v, %v", h, back)
		}
	}
	for _, s := range []string{"", "7", ":", "7:", "-1:" + heads[0].Hash.String(), "7:" + heads[0].Hash.String()[1:], "x:" + heads[0].Hash.String()} {
		if h, err := ParseHead(s); err == nil {
			t.Errorf("%q is %v", s, h)
		}
	}
}

func TestVerifyTellsOfTheClock(t *testing.T) {
	disk, l := memLog(t, Options{})
	for _, seconds := range []int{0, 5, 4, 4, 9, 1} {
		e := testEntry(0)
		e.Time = testTime.Add(time.Duration(seconds) * time.Second)
		need[Head](t)(l.Append(e))
	}
	report := need[Report](t)(verify(t, disk, VerifyOptions{}))
	if report.StepsBack != 2 || !report.Last.Equal(testTime.Add(time.Second)) {
		t.Fatalf("%+v", report)
	}
}

func TestVerifyStops(t *testing.T) {
	all, _ := smallLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, logPath, VerifyOptions{Options: Options{FS: diskOf(all)}}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), logPath, VerifyOptions{Options: Options{FS: durabletest.New()}}); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
}

// TestProgress: it grows, and ends at the whole.
func TestProgress(t *testing.T) {
	path := t.TempDir() + "/audit.log"
	size := writeLog(t, path, 10_000)
	last, calls := int64(0), 0
	need[Report](t)(Verify(t.Context(), path, VerifyOptions{Progress: func(done, of int64) {
		if calls++; done < last || done > of {
			t.Fatalf("%d of %d after %d", done, of, last)
		}
		last = done
	}}))
	if calls < 3 || last > size || last < size-100 {
		t.Fatalf("%d calls, the last at %d of %d", calls, last, size)
	}
}

// TestVerifySignatures: on request, a signature must be one of the key beside it
// over the digest beside it.
func TestVerifySignatures(t *testing.T) {
	private := secp256k1.PrivKeyFromBytes([]byte("a key for a test, 32 bytes long!"))
	key := need[types.PublicKey](t)(types.NewPublicKey(types.Secp256k1, private.PubKey().SerializeCompressed()))
	good := testEntry(0)
	good.Key = key
	compact := ecdsa.SignCompact(private, good.Digest[:], true)
	copy(good.Signature[:], compact[1:])
	signed := func(entries ...Entry) (Report, error) {
		disk, l := memLog(t, Options{})
		for _, e := range entries {
			need[Head](t)(l.Append(e))
		}
		need[Report](t)(verify(t, disk, VerifyOptions{}))
		return verify(t, disk, VerifyOptions{Signatures: true})
	}
	if report, err := signed(good, testEntry(1), good); err != nil || report.Signatures != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	for name, change := range map[string]func(*Entry){
		"another digest": func(e *Entry) { e.Digest[5] ^= 1 },
		"another key":    func(e *Entry) { e.Key = testKey },
		"no key":         func(e *Entry) { e.Key = types.PublicKey{} },
		"no point":       func(e *Entry) { e.Key.Point[1] ^= 1 },
		"flipped bit":    func(e *Entry) { e.Signature[40] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			_, err := signed(good, bad)
			wantBroken(t, err, 2, "the signature in it")
		})
	}
}
