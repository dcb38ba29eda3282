package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/types"
)

const logPath = "dir/audit.log"

var (
	testNet  = types.Hash{0xaa, 31: 0x01}
	testTime = time.Date(2026, 11, 28, 6, 40, 50, 123e6, time.UTC)
	testKey  = types.PublicKey{Algorithm: types.Secp256k1, Point: [33]byte{2, 1: 0x79, 32: 0x98}}
)

// testEntry makes one of several kinds of entries.
func testEntry(i int) Entry {
	e := Entry{Time: testTime.Add(time.Duration(i) * time.Second), Event: EventSigned, Kind: KindBlock, Height: uint32(10 * (i + 1)), Key: testKey, Digest: types.Hash{byte(i), 31: 9}, Signature: [64]byte{byte(i), 63: 7}, Actor: "uid 1000"}
	switch i % 3 {
	case 1:
		e = Entry{Time: e.Time, Event: EventRefused, Kind: KindVote, Height: e.Height, Rule: "double-sign", Actor: "uid 1000", Detail: fmt.Sprintf("block %d \"twice\"\n\\ü\x01", i)}
	case 2:
		e = Entry{Time: e.Time, Event: EventStarted}
	}
	return e
}

func need[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// memLog makes a log in memory.
func memLog(tb testing.TB, o Options) (*durabletest.FS, *Log) {
	tb.Helper()
	disk := durabletest.New()
	o.FS = disk
	if err := Create(logPath, testNet, o); err != nil {
		tb.Fatal(err)
	}
	return disk, need[*Log](tb)(Open(logPath, testNet, o))
}

// fill appends n entries.
func fill(tb testing.TB, l *Log, n int) (heads []Head) {
	tb.Helper()
	for i := range n {
		heads = append(heads, need[Head](tb)(l.Append(testEntry(i))))
	}
	return heads
}

// files returns the content of all files of the log.
func files(disk *durabletest.FS) (all [][]byte) {
	for n := 1; ; n++ {
		b := disk.Content(filePath(logPath, n))
		if b == nil {
			return all
		}
		all = append(all, b)
	}
}

// diskOf is a disk that holds these files; nil stands for a missing one.
func diskOf(all [][]byte) *durabletest.FS {
	disk := durabletest.New()
	for i, b := range all {
		if b != nil {
			disk.SetContent(filePath(logPath, i+1), b)
		}
	}
	return disk
}

func verify(tb testing.TB, disk durable.FS, o VerifyOptions) (Report, error) {
	tb.Helper()
	o.FS = disk
	return Verify(tb.Context(), logPath, o)
}

// wantBroken wants the log to be broken at this record, and says why where why is in the reason.
func wantBroken(t *testing.T, err error, seq uint64, why string) *Broken {
	t.Helper()
	var b *Broken
	if !errors.As(err, &b) || !errors.Is(err, ErrBroken) {
		t.Fatalf("got %v, want a broken log", err)
	}
	if b.Seq != seq || !strings.Contains(b.Reason, why) {
		t.Fatalf("got %v, want record %d and %q", err, seq, why)
	}
	return b
}

// payloads takes a file apart, without the code that is tested.
func payloads(tb testing.TB, file []byte) (list [][]byte) {
	tb.Helper()
	for at := 8; at < len(file); {
		n := int(binary.LittleEndian.Uint32(file[at:]))
		list = append(list, file[at+8:at+8+n])
		at += 8 + n
	}
	return list
}

// frame puts a file together, with right checksums: what somebody would write
// who knows the format and wants to forge.
func frame(list [][]byte) []byte {
	b := []byte("qcAUDT\x01\x00")
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, p := range list {
		pre := binary.LittleEndian.AppendUint64(nil, uint64(len(b)))
		pre = binary.LittleEndian.AppendUint32(pre, uint32(len(p)))
		sum := crc32.Update(crc32.Checksum(pre, table), table, p)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = binary.LittleEndian.AppendUint32(b, sum)
		b = append(b, p...)
	}
	return b
}

// offsets returns where each record of a file begins, and its end.
func offsets(tb testing.TB, file []byte) []int {
	tb.Helper()
	at := []int{8}
	for _, p := range payloads(tb, file) {
		at = append(at, at[len(at)-1]+8+len(p))
	}
	return at
}

// TestFixture: the tests' own framing is that of the files.
func TestFixture(t *testing.T) {
	disk, l := memLog(t, Options{})
	fill(t, l, 5)
	file := files(disk)[0]
	if !bytes.Equal(frame(payloads(t, file)), file) {
		t.Fatal("a file put together again is another one")
	}
}

var ctx = context.Background()
