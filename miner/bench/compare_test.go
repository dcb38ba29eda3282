package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden holds a value's JSON against a file.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s: %s", file, cmp.Diff(string(want), string(got)))
	}
}

func readFile(t *testing.T, name string) Report {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Read(data)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// TestCompare: faster, the same within the spread, touching ranges, and kernels
// that one of them did not measure.
func TestCompare(t *testing.T) {
	a, b := readFile(t, "before.json"), readFile(t, "after.json")
	golden(t, "comparison.json", Compare(&a, &b))
	same := Compare(&a, &a)
	if len(same.Differences) != 0 {
		t.Errorf("differences from itself: %q", same.Differences)
	}
	for _, k := range same.Kernels {
		if k.A != nil && (k.Ratio.Or(0) != 1 || !k.SameWithinSpread.Or(false)) {
			t.Errorf("%s differs from itself: %+v", k.Name, k)
		}
	}
}

func TestReadErrors(t *testing.T) {
	const kernel = `{"name":"a","mhs":2,"p10":1,"p90":3}`
	for _, c := range []struct{ json, want string }{
		{``, "it is empty"},
		{`{"threads":1,`, "it is not JSON: unexpected EOF"},
		{`hello`, "it is not JSON: invalid character 'h'"},
		{`[]`, "it is not JSON"},
		{`{}`, `it has no "kernels"`},
		{`{"threads":1,"kernels":[]}`, `it has no "kernels"`},
		{`{"threads":1,"kernels":7}`, `"kernels" holds a number`},
		{`{"threads":"1","kernels":[` + kernel + `]}`, `"threads" holds a string`},
		{`{"kernels":[` + kernel + `]}`, `"threads" is 0`},
		{`{"threads":1,"kernels":[` + kernel + `]} x`, "more follows"},
		{`{"threads":1,"kernels":[` + kernel + `,` + kernel + `]}`, "kernel a is there twice"},
		{`{"threads":1,"kernels":[{"mhs":1}]}`, `kernel 1 has no "name"`},
		{`{"threads":1,"kernels":[{"name":"a","mhs":"fast"}]}`, "it is not JSON"},
		{`{"threads":1,"kernels":[{"name":"a","mhs":2,"p10":1}]}`, `kernel a: it has "mhs" without`},
		{`{"threads":1,"kernels":[{"name":"a","mhs":2,"p10":3,"p90":1}]}`, "not positive and rising"},
		{`{"threads":1,"kernels":[{"name":"a","mhs":-2,"p10":-3,"p90":-1}]}`, "not positive and rising"},
	} {
		if _, err := Read([]byte(c.json)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.json, err, c.want)
		}
	}
	// What others may leave out, or add.
	r, err := Read([]byte(`{"threads":1,"kernels":[` + kernel + `],"new":{}}`))
	if err != nil || !r.Complete {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestDuel: rounds in turns, and what is said of them.
func TestDuel(t *testing.T) {
	var turns strings.Builder
	we, they := []float64{40e6, 60e6, 51e6}, []float64{20e6, 20e6, 17e6}
	ours := func(context.Context) (float64, error) {
		turns.WriteByte('o')
		rate := we[0]
		we = we[1:]
		return rate, nil
	}
	theirs := func(context.Context) (float64, int, error) {
		turns.WriteByte('t')
		rate := they[0]
		they = they[1:]
		return rate, len(they) + 1, nil
	}
	done := 0
	progress := func(n, of int) {
		if done++; n != done || of != 6 {
			t.Errorf("turn %d of %d", n, of)
		}
	}
	d := Duel{Setup: setup1(), Kernel: "fast", Command: "minerd --benchmark"}
	if err := d.Fight(t.Context(), 3, ours, theirs, progress); err != nil {
		t.Fatal(err)
	}
	if turns.String() != "tototo" {
		t.Errorf("turns %s", turns.String())
	}
	golden(t, "duel.json", d)
}

// TestDuelEnds: a failure leaves the whole rounds, and says so.
func TestDuelEnds(t *testing.T) {
	broken := errors.New("broken")
	n := 0
	d := Duel{}
	err := d.Fight(t.Context(), 5, func(context.Context) (float64, error) { return 2e6, nil }, func(context.Context) (float64, int, error) {
		if n++; n == 2 {
			return 0, 0, broken
		}
		return 1e6, 9, nil
	}, func(int, int) {})
	if !errors.Is(err, broken) || d.Complete || len(d.Rounds) != 1 || d.Ratio.Or(0) != 2 || len(d.Notes) != 0 {
		t.Errorf("%v, %+v", err, d)
	}
}
