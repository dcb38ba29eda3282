package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
)

// read returns the records a Reader sees, and the error it ends with.
func read(t *testing.T, fsys durable.FS) (all []string, err error) {
	t.Helper()
	r, err := durable.OpenReader(name, options(fsys))
	if err != nil {
		t.Fatal(err)
	}
	for record, err := range r.Records(durable.FirstOffset) {
		if err != nil {
			return all, errors.Join(err, r.Close())
		}
		all = append(all, string(record.Payload))
	}
	return all, r.Close()
}

// TestReader: it reads beside a writer that holds the lock, and changes nothing.
func TestReader(t *testing.T) {
	fsys := durabletest.New()
	if _, err := durable.OpenReader(name, options(fsys)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	l := mustCreate(t, fsys, "one")
	fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
		if op != durabletest.Open {
			return &durabletest.Fault{Err: errors.New("a reader changes the file: " + string(op))}
		}
		return nil
	}
	got, err := read(t, fsys)
	if diff := cmp.Diff([]string{"one"}, got); diff != "" || err != nil {
		t.Fatal(diff, err)
	}
	fsys.Fault = nil
	if err := l.Append([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, fsys); len(got) != 2 || err != nil {
		t.Fatal(got, err)
	}
}

// TestReaderAgreesWithOpenLog: on every cut and every flipped bit a Reader sees
// what OpenLog keeps, and calls damage what OpenLog refuses.
func TestReaderAgreesWithOpenLog(t *testing.T) {
	whole := durabletest.New()
	mustCreate(t, whole, "first record", "the second one", "a third that is the last")
	good := whole.Content(name)
	var states [][]byte
	for cut := range good {
		states = append(states, good[:cut])
	}
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		states = append(states, bad)
	}
	unfinished := 0
	for i, content := range states {
		state := durabletest.New()
		state.SetContent(name, content)
		seen, readErr := read(t, state)
		l, openErr := durable.OpenLog(name, options(state))
		var torn *durable.UnfinishedError
		switch {
		case openErr != nil:
			if readErr == nil || readErr.Error() != openErr.Error() {
				t.Fatalf("state %d: read %v, opened %v", i, readErr, openErr)
			}
			continue
		case errors.As(readErr, &torn):
			if unfinished++; torn.Bytes != l.TornBytes() || torn.Offset+torn.Bytes != int64(len(content)) {
				t.Fatalf("state %d: %+v, %d torn", i, torn, l.TornBytes())
			}
		case readErr != nil || l.TornBytes() != 0:
			t.Fatalf("state %d: read %v, %d torn", i, readErr, l.TornBytes())
		}
		if diff := cmp.Diff(contents(t, l), seen); diff != "" {
			t.Fatalf("state %d: %s", i, diff)
		}
	}
	if unfinished < 10 {
		t.Fatalf("only %d unfinished states", unfinished)
	}
}
