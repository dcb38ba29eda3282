package audit

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/types"
)

func TestAppendAndOpen(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/audit.log"
	if err := Create(path, testNet, Options{}); err != nil {
		t.Fatal(err)
	}
	l := need[*Log](t)(Open(path, testNet, Options{}))
	if l.Head().Seq != 0 || l.Head().Hash.IsZero() {
		t.Fatalf("new log: %v", l.Head())
	}
	heads := append([]Head{l.Head()}, fill(t, l, 200)...)
	if _, err := Open(path, testNet, Options{}); !errors.Is(err, durable.ErrInUse) {
		t.Fatalf("opened twice: %v", err)
	}
	check := func(l *Log) {
		t.Helper()
		if l.Head() != heads[200] {
			t.Fatalf("head %v, want %v", l.Head(), heads[200])
		}
		n := uint64(0)
		for r, err := range l.Records(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Seq != n || r.Head != heads[n] || (r.Header == nil) != (n > 0) || n > 0 && r.Entry != testEntry(int(n)-1) {
				t.Fatalf("record %d: %+v", n, r)
			}
			if hash, err := l.HashAt(n); err != nil || hash != r.Hash {
				t.Fatalf("record %d: HashAt says %s, %v", n, hash, err)
			}
			n++
		}
		if n != 201 {
			t.Fatalf("%d records", n)
		}
		for _, seq := range []uint64{201, 1 << 40, 1<<64 - 1} {
			if _, err := l.HashAt(seq); !errors.Is(err, ErrSequence) {
				t.Fatalf("hash of record %d: %v", seq, err)
			}
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = need[*Log](t)(Open(path, testNet, Options{}))
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report := need[Report](t)(Verify(t.Context(), path, VerifyOptions{Network: testNet, Anchors: heads, Head: &heads[200]}))
	if report.Entries != 200 || report.Head != heads[200] || report.Anchors != 201 || !report.First.Equal(testTime) || report.StepsBack != 0 || report.Unfinished != 0 || len(report.Files) != 1 {
		t.Fatalf("%+v", report)
	}
}

func TestCreate(t *testing.T) {
	path := t.TempDir() + "/audit.log"
	if err := Create(path, testNet, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, testNet, Options{}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "move the old one away") {
		t.Fatalf("made twice: %v", err)
	}
	// A later file without the first one is what is left of a log, too.
	disk, l := memLog(t, Options{})
	fill(t, l, 2)
	if err := l.Rotate(testTime); err != nil {
		t.Fatal(err)
	}
	rest := diskOf([][]byte{nil, files(disk)[1]})
	if err := Create(logPath, testNet, Options{FS: rest}); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("made in front of an old one: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	disk, l := memLog(t, Options{FileSize: 600})
	fill(t, l, 12)
	all := files(disk)
	if len(all) < 4 {
		t.Fatalf("%d files", len(all))
	}
	with := func(n int, b []byte) [][]byte {
		list := append([][]byte{}, all...)
		list[n-1] = b
		return list
	}
	flipped := append([]byte{}, all[len(all)-1]...)
	flipped[len(flipped)-4] ^= 4
	newer := append([]byte{}, all[0]...)
	newer[6] = 2
	first := payloads(t, all[0])
	open := frame(first[:len(first)-1]) // without the entry that closes it
	last := len(all)
	for name, c := range map[string]struct {
		files   [][]byte
		network types.Hash
		fault   Fault
		want    string
	}{
		"missing":           {nil, testNet, ErrMissing, "restore it"},
		"empty":             {[][]byte{{}}, testNet, ErrMissing, "create it again"},
		"no record":         {[][]byte{all[0][:8]}, testNet, ErrMissing, "create it again"},
		"no header":         {[][]byte{all[0][:40]}, testNet, ErrMissing, "create it again"},
		"another file":      {[][]byte{[]byte("this is no audit log at all")}, testNet, ErrBroken, "put back a good copy"},
		"another network":   {all, types.Hash{1}, ErrNetwork, "correct the path"},
		"newer format":      {with(1, newer), testNet, "", "use the program version that wrote it"},
		"flipped bit":       {with(last, flipped), testNet, ErrBroken, "put back a good copy"},
		"first file gone":   {with(1, nil), testNet, ErrMissing, "restore it"},
		"second file gone":  {with(2, nil), testNet, ErrBroken, "the file is missing"},
		"second file empty": {with(2, all[1][:8]), testNet, ErrBroken, "nothing is in the file"},
		"third file empty":  {with(3, []byte{}), testNet, ErrBroken, "its header is missing"},
		"a gap":             {[][]byte{open, nil, all[2]}, testNet, ErrBroken, "nothing is in the file"},
		"last file gone":    {all[:last-1], testNet, ErrBroken, "the file is missing"},
		"two files swapped": {append([][]byte{all[0], all[2], all[1]}, all[3:]...), testNet, ErrBroken, "put the files back"},
		"a file twice":      {append(append([][]byte{}, all...), all[last-1]), testNet, ErrBroken, "put the files back"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := diskOf(c.files)
			l, err := Open(logPath, c.network, Options{FS: disk})
			if err == nil {
				l.Close()
				t.Fatal("it opened")
			}
			if c.fault != "" && !errors.Is(err, c.fault) || !IsTerminal(err) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v; want %s and %q", err, c.fault, c.want)
			}
			var found [][]byte
			for i := range c.files {
				found = append(found, disk.Content(filePath(logPath, i+1)))
			}
			if diff := cmp.Diff(c.files, found); diff != "" {
				t.Fatal("a refused log was changed")
			}
		})
	}
}

func TestAppendRefusesWhatIsNoEntry(t *testing.T) {
	_, l := memLog(t, Options{})
	good := testEntry(0)
	for name, change := range map[string]func(*Entry){
		"no time":            func(e *Entry) { e.Time = time.Time{} },
		"year 10000":         func(e *Entry) { e.Time = e.Time.AddDate(8000, 0, 0) },
		"no event":           func(e *Entry) { e.Event = "" },
		"event of two words": func(e *Entry) { e.Event = "two words" },
		"the log's own":      func(e *Entry) { e.Event = EventRotated },
		"kind in capitals":   func(e *Entry) { e.Kind = "BLOCK" },
		"rule too long":      func(e *Entry) { e.Rule = strings.Repeat("r", MaxWord+1) },
		"algorithm":          func(e *Entry) { e.Key.Algorithm = 9 },
		"uncompressed key":   func(e *Entry) { e.Key.Point[0] = 4 },
	} {
		e := good
		change(&e)
		if _, err := l.Append(e); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.Head().Seq != 0 {
		t.Fatalf("something was written: %v", l.Head())
	}
	select {
	case <-l.Failed():
		t.Fatal("the log failed")
	default:
	}
	if h, err := l.Append(good); err != nil || h.Seq != 1 {
		t.Fatal(h, err)
	}
}

// TestFreeText: no text, time zone or fraction keeps an entry from being written.
func TestFreeText(t *testing.T) {
	disk, l := memLog(t, Options{})
	long := strings.Repeat("é", MaxDetail)
	e := Entry{Time: testTime.Add(456789).In(time.FixedZone("", 3600)), Event: EventFailed, Actor: "bad \xff\xfe UTF-8", Detail: long}
	need[Head](t)(l.Append(e))
	for range 20 { // worst case of escapes
		e.Actor, e.Detail = strings.Repeat("\x01", MaxActor), strings.Repeat("\x1f", MaxDetail)
		need[Head](t)(l.Append(e))
	}
	need[Report](t)(verify(t, disk, VerifyOptions{}))
	for r, err := range l.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq != 1 {
			continue
		}
		got := r.Entry
		if !got.Time.Equal(testTime) || got.Actor != "bad \uFFFD UTF-8" || len(got.Detail) > MaxDetail || len(got.Detail) < MaxDetail-4 || !strings.HasSuffix(got.Detail, "é…") {
			t.Fatalf("%+v", got)
		}
	}
}

func TestRotation(t *testing.T) {
	disk, l := memLog(t, Options{FileSize: 700})
	var heads []Head
	for i := range 30 {
		if i == 20 {
			if err := l.Rotate(testEntry(i).Time); err != nil {
				t.Fatal(err)
			}
		}
		heads = append(heads, need[Head](t)(l.Append(testEntry(i))))
	}
	all := files(disk)
	if len(all) < 6 {
		t.Fatalf("%d files", len(all))
	}
	report := need[Report](t)(verify(t, disk, VerifyOptions{Anchors: heads, Head: &heads[29]}))
	if report.Entries != 30+uint64(len(all)-1) || report.Head.Seq != 30+2*uint64(len(all)-1) || len(report.Files) != len(all) {
		t.Fatalf("%+v of %d files", report, len(all))
	}
	for _, l := range []*Log{l, need[*Log](t)(Open(logPath, testNet, Options{FS: disk.Kill()}))} {
		for r, err := range l.Records(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if hash, err := l.HashAt(r.Seq); err != nil || hash != r.Hash {
				t.Fatalf("record %d: HashAt says %s, %v", r.Seq, hash, err)
			}
		}
		if l.Head() != heads[29] {
			t.Fatalf("%v", l.Head())
		}
	}
	// A reader that began before a rotation goes on after it.
	r := NewReader(logPath, Options{FS: disk})
	seen := uint64(0)
	count := func() {
		t.Helper()
		for record, err := range r.Records(t.Context()) {
			if err != nil || record.Seq != seen {
				t.Fatalf("record %d: %v, %v", seen, record.Seq, err)
			}
			seen++
		}
	}
	count()
	count()
	for i := range 12 {
		need[Head](t)(l.Append(testEntry(i)))
		if i%3 == 0 {
			count()
		}
	}
	count()
	if seen != l.Head().Seq+1 {
		t.Fatalf("%d records seen, the last is %d", seen, l.Head().Seq)
	}
}

// TestConcurrentAppend: the places that are handed out are all different, and what was
// appended is there.
func TestConcurrentAppend(t *testing.T) {
	disk, l := memLog(t, Options{FileSize: 5000})
	const writers, each = 8, 40
	heads := make(chan Head, writers*each)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				h, err := l.Append(testEntry(w*each + i))
				if err != nil {
					t.Error(err)
				}
				if hash, err := l.HashAt(h.Seq); err != nil || hash != h.Hash {
					t.Errorf("record %d: %v", h.Seq, err)
				}
				heads <- h
			}
		})
	}
	wg.Wait()
	close(heads)
	var anchors []Head
	for h := range heads {
		anchors = append(anchors, h)
	}
	report := need[Report](t)(verify(t, disk, VerifyOptions{Anchors: anchors}))
	if report.Anchors != writers*each {
		t.Fatalf("%+v", report)
	}
}

func TestDiskFullIsNotTheEnd(t *testing.T) {
	// FileSize 1: each entry is in a file of its own, so that every step of a
	// rotation meets the full disk.
	for step := range 12 {
		disk, l := memLog(t, Options{FileSize: 1})
		fill(t, l, 2)
		n, hit := 0, false
		disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
			if op != durabletest.Write {
				return nil
			}
			if n++; n > step {
				hit = true
				return &durabletest.Fault{Err: errDiskFull, Short: 7}
			}
			return nil
		}
		_, err := l.Append(testEntry(2))
		if !hit {
			if step < 3 || err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			return
		}
		if !errors.Is(err, ErrWrite) || !errors.Is(err, durable.ErrDiskFull) {
			t.Fatalf("step %d: %v", step, err)
		}
		select {
		case <-l.Failed():
			t.Fatalf("step %d: a full disk ended the log", step)
		default:
		}
		need[Report](t)(verify(t, disk, VerifyOptions{}))
		again := need[*Log](t)(Open(logPath, testNet, Options{FS: diskOf(files(disk))})) // another machine, with space
		need[Head](t)(again.Append(testEntry(2)))
		disk.Fault = nil
		for i := range 3 {
			need[Head](t)(l.Append(testEntry(2 + i)))
		}
		need[Report](t)(verify(t, disk, VerifyOptions{Head: &[]Head{l.Head()}[0]}))
		if hash, err := l.HashAt(1); err != nil || hash.IsZero() {
			t.Fatal(hash, err)
		}
	}
	t.Fatal("the last step was not reached")
}

// TestBrokenDiskEndsTheLog: a disk that is full only at the fsync is broken, too,
// as nobody knows what of the record is there.
func TestBrokenDiskEndsTheLog(t *testing.T) {
	for op, cause := range map[durabletest.Op]error{durabletest.Write: errIO, durabletest.Sync: errDiskFull} {
		disk, l := memLog(t, Options{})
		heads := fill(t, l, 3)
		disk.Fault = func(at durabletest.Op, _ string) *durabletest.Fault {
			if at == op {
				return &durabletest.Fault{Err: cause}
			}
			return nil
		}
		if _, err := l.Append(testEntry(3)); !errors.Is(err, ErrWrite) || !errors.Is(err, cause) {
			t.Fatal(err)
		}
		select {
		case <-l.Failed():
		default:
			t.Fatalf("%v at %s did not end the log", cause, op)
		}
		disk.Fault = nil
		for _, err := range []error{l.Rotate(testTime), func() error { _, err := l.Append(testEntry(3)); return err }()} {
			if !errors.Is(err, ErrWrite) || !strings.Contains(err.Error(), "start the signer again") {
				t.Fatal(err)
			}
		}
		if l.Head() != heads[2] || len(files(disk)) != 1 {
			t.Fatalf("a log that failed went on to %v", l.Head())
		}
	}
}

func TestLast(t *testing.T) {
	all, heads := smallLog(t)
	for n := range len(heads) + 3 {
		disk := diskOf(all)
		last, r, err := Last(t.Context(), logPath, n, Options{FS: disk})
		if err != nil || len(last) != min(n, len(heads)) {
			t.Fatalf("last %d: %d records, %v", n, len(last), err)
		}
		for i, record := range last {
			if record.Head != heads[len(heads)-len(last)+i] {
				t.Fatalf("last %d: record %d is %v", n, i, record.Head)
			}
		}
		l := need[*Log](t)(Open(logPath, testNet, Options{FS: disk}))
		next := need[Head](t)(l.Append(testEntry(0)))
		for record, err := range r.Records(t.Context()) {
			if err != nil || record.Head != next {
				t.Fatalf("%v, %v", record.Head, err)
			}
		}
	}
	hurt := append([][]byte{}, all...)
	hurt[2] = append([]byte{}, all[2]...)
	hurt[2][len(hurt[2])-1] ^= 1
	last, _, err := Last(t.Context(), logPath, 2, Options{FS: diskOf(hurt)})
	wantBroken(t, err, 13, "checksum")
	if len(last) != 2 || last[1].Head != heads[12] {
		t.Fatalf("%d records before the broken one", len(last))
	}
	if _, _, err := Last(t.Context(), logPath, 2, Options{FS: durabletest.New()}); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
}
