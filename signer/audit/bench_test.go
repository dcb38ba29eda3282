package audit

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"os"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// BenchmarkAppend is the price of one acknowledged entry: a write and an fsync
// of the temporary directory's disk.
func BenchmarkAppend(b *testing.B) {
	path := b.TempDir() + "/audit.log"
	if err := Create(path, testNet, Options{}); err != nil {
		b.Fatal(err)
	}
	l := need[*Log](b)(Open(path, testNet, Options{}))
	for b.Loop() {
		if _, err := l.Append(testEntry(0)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyMillion verifies a million entries, each with a key, a digest and
// a signature, in files of the default size: seconds for the whole.
func BenchmarkVerifyMillion(b *testing.B) {
	path := b.TempDir() + "/audit.log"
	size := writeLog(b, path, 1_000_000)
	for b.Loop() {
		r, err := Verify(b.Context(), path, VerifyOptions{})
		if err != nil || r.Entries < 1_000_000 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds()/1e6, "MB/s")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/verify")
}

// BenchmarkOpen opens a log whose newest file is as large as files get.
func BenchmarkOpen(b *testing.B) {
	path := b.TempDir() + "/audit.log"
	writeLog(b, path, 100_000)
	for b.Loop() {
		l, err := Open(path, testNet, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// writeLog writes a log of n entries besides those of rotations without an fsync
// for each. It returns its size in bytes.
func writeLog(tb testing.TB, path string, n int) (total int64) {
	tb.Helper()
	table := crc32.MakeTable(crc32.Castagnoli)
	c := chain{}
	var f *os.File
	var w *bufio.Writer
	var offset int64
	put := func(json []byte) {
		r, err := c.add(c.head.Hash, json)
		if err != nil {
			tb.Fatal(err)
		}
		p := r.payload()
		var pre [20]byte
		binary.LittleEndian.PutUint64(pre[:], uint64(offset))
		binary.LittleEndian.PutUint32(pre[8:], uint32(len(p)))
		binary.LittleEndian.PutUint32(pre[12:], uint32(len(p)))
		binary.LittleEndian.PutUint32(pre[16:], crc32.Update(crc32.Checksum(pre[:12], table), table, p))
		w.Write(pre[12:])
		w.Write(p)
		offset += recordSize(p)
	}
	begin := func(number int) {
		var err error
		if f, err = os.Create(filePath(path, number)); err != nil {
			tb.Fatal(err)
		}
		w = bufio.NewWriter(f)
		w.WriteString("qcAUDT\x01\x00")
		offset = 8
		h := newHeader()
		h.Network = testNet
		if number > 1 {
			h.Continues, h.Seq = c.file, c.next()
		}
		put(h.appendTo(nil))
	}
	end := func() {
		total += offset
		if err := w.Flush(); err != nil {
			tb.Fatal(err)
		}
		if err := f.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	number := 1
	begin(number)
	e := testEntry(0)
	for i := range n {
		if offset >= defaultFileSize {
			last := Entry{Time: e.Time, Event: EventRotated}
			put(last.appendTo(nil))
			end()
			number++
			begin(number)
		}
		e.Time = testTime.Add(time.Duration(i) * time.Millisecond)
		e.Height = uint32(i)
		e.Digest = types.DoubleHash(binary.LittleEndian.AppendUint32(nil, uint32(i)))
		copy(e.Signature[:], e.Digest[:])
		put(e.appendTo(nil))
	}
	end()
	return total
}
