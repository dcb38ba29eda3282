package found

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/types"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// golden is the file with records 1 and 2.
func golden(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "journal.hex"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func file(records ...Record) []byte {
	data := header()
	for i := range records {
		data = appendRecord(data, &records[i])
	}
	return data
}

func TestFormat(t *testing.T) {
	want := []Record{record(1), record(2)}
	if got := file(want...); !bytes.Equal(got, golden(t)) {
		t.Errorf("written\n%x\nwant\n%x", got, golden(t))
	}
	got, err := parse(golden(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("bytes", (*types.Block).Bytes)); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// TestDamagedFile: what can be read is used, the file is put aside, and the next
// start finds a good one.
func TestDamagedFile(t *testing.T) {
	whole := file(record(1), record(2), record(3))
	flip := func(at int) []byte {
		b := slices.Clone(whole)
		b[at] ^= 1
		return b
	}
	size := (len(whole) - headerSize) / 3
	for name, tc := range map[string]struct {
		data []byte
		want int
	}{
		"cut off":                    {whole[:len(whole)-1], 2},
		"cut in a frame":             {whole[:headerSize+size+3], 1},
		"a bit of the first record":  {flip(headerSize + frameSize + 30), 2},
		"a bit of the second record": {flip(headerSize + size + frameSize + 30), 2},
		"a bit of a checksum":        {flip(headerSize + 5), 2},
		"a length":                   {flip(headerSize + size + 3), 1},
		"another file":               {[]byte("[stratum]\nlisten = 1\n"), 0},
		"empty":                      {nil, 0},
		"not a block":                {append(header(), frame([]byte("payload"))...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.chain.set(func() { r.chain.err = ErrNotNow })
				r.disk = durabletest.New()
				r.disk.SetContent("j", tc.data)
				r.start()
				if r.Len() != tc.want || r.log.with("ERROR", "damaged") != 1 {
					t.Errorf("%d records, want %d; logged %q", r.Len(), tc.want, r.log.list)
				}
				if !bytes.Equal(r.disk.Content("j.damaged"), tc.data) {
					t.Error("the damaged file is not kept")
				}
				r.submit(9, work.Held)
				r.disk = r.disk.Crash(newRand(1))
				if got := len(r.onDisk()); got != tc.want+1 {
					t.Errorf("%d records in the new file, want %d", got, tc.want+1)
				}
			})
		})
	}
}

func frame(payload []byte) []byte {
	rec := record(1)
	b := appendRecord(nil, &rec)[:frameSize]
	b[0], b[1], b[2], b[3] = byte(len(payload)), 0, 0, 0
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

func TestFileThatIsNotOurs(t *testing.T) {
	newer := header()
	newer[len(magic)]++
	for name, tc := range map[string]struct {
		prepare func(*durabletest.FS)
		want    string
	}{
		"newer version":  {func(d *durabletest.FS) { d.SetContent("j", newer) }, "newer version of this program"},
		"cannot be read": {func(d *durabletest.FS) { d.SetContent("j", header()); d.Fault = failing(durabletest.Open) }, "reading the journal of found blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := durabletest.New()
			tc.prepare(disk)
			_, err := Open(Config{Path: "j", FS: disk, Chain: newFaultyChain(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			disk.Fault = nil
			if got := disk.Content("j"); len(got) != headerSize {
				t.Errorf("the file was changed: %x", got)
			}
		})
	}
}

func failing(op durabletest.Op) func(durabletest.Op, string) *durabletest.Fault {
	return func(o durabletest.Op, _ string) *durabletest.Fault {
		if o == op {
			return &durabletest.Fault{Err: errors.New("disk on fire")}
		}
		return nil
	}
}

// FuzzParse: whatever the file holds, reading it ends, and what it yields is written
// back as it was read.
func FuzzParse(f *testing.F) {
	f.Add(golden(f))
	f.Add(golden(f)[:100])
	f.Add(header())
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := parse(data)
		again, err2 := parse(file(records...))
		if err2 != nil || len(again) != len(records) {
			t.Fatalf("%d records come back as %d: %v", len(records), len(again), err2)
		}
		if err == nil && !bytes.Equal(file(records...), data) {
			t.Fatal("a good file is written differently")
		}
	})
}
