package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/simulate"
)

// runSimulate runs the command in this process.
func runSimulate(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append([]string{"simulate"}, args...))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func simulated(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runSimulate(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSimulateOne: the one object of a single question, field by field.
func TestSimulateOne(t *testing.T) {
	for rules, exact := range map[string]float64{"pow": .15645, "literal": .146, "poof": .13998} {
		t.Run(rules, func(t *testing.T) {
			out := simulated(t, "--rules", rules, "--q", "0.3", "--confirmations", "6", "--trials", "200000", "--seed", "7", "--json")
			var got map[string]any
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			value := func(name string) float64 {
				f, ok := got[name].(float64)
				if !ok {
					t.Fatalf("%s is %v", name, got[name])
				}
				delete(got, name)
				return f
			}
			e, p, sigma := value("estimate"), value("exact"), value("standardError")
			if math.Abs(p-exact) > .002 || math.Abs(e-p) > 4*math.Sqrt(p*(1-p)/200_000)+value("bias") || !(sigma > 0 && sigma < .001) {
				t.Errorf("estimate %v ± %v, exact %v", e, sigma, p)
			}
			if diff := cmp.Diff(map[string]any{
				"rules": rules, "q": .3, "confirmations": 6., "trials": 200_000., "seed": 7., "n": 10., "missed": 0., "premined": 1.,
				"fork": 0., "noGate": false,
			}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSimulateNoExact: where there is no exact value, null and the reason.
func TestSimulateNoExact(t *testing.T) {
	var got cell
	out := simulated(t, "--rules", "literal", "--q", "0.52631", "--confirmations", "6", "--trials", "50000", "--json")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, `"exact": null`) || !strings.Contains(got.ExactNote, "evenly matched") || got.Bias <= 0 {
		t.Errorf("got %s", out)
	}
}

// TestSimulateTable: the table of every rule set as text, JSON and CSV has the
// same cells.
func TestSimulateTable(t *testing.T) {
	for _, rules := range simulate.All() {
		t.Run(string(rules), func(t *testing.T) {
			args := []string{"--rules", string(rules), "--trials", "2000"}
			var got struct {
				Cells []cell
				Wait  []wait
			}
			if err := json.Unmarshal([]byte(simulated(t, append(args, "--json")...)), &got); err != nil {
				t.Fatal(err)
			}
			shares, depths := simulate.Shares(rules), simulate.Confirmations(rules)
			if len(got.Cells) != len(shares)*len(depths) || len(got.Wait) != len(shares) {
				t.Fatalf("%d cells, %d waits", len(got.Cells), len(got.Wait))
			}
			lines, err := csv.NewReader(strings.NewReader(simulated(t, append(args, "--csv")...))).ReadAll()
			if err != nil || len(lines) != 1+len(got.Cells) {
				t.Fatalf("%d lines of CSV, %v", len(lines), err)
			}
			for i, c := range got.Cells {
				if c.Q != shares[i/len(depths)] || c.Confirmations != depths[i%len(depths)] || c.Exact == nil {
					t.Errorf("cell %d: %+v", i, c)
				}
				if estimate, err := json.Marshal(c.Estimate); err != nil || lines[i+1][10] != string(estimate) {
					t.Errorf("cell %d: JSON %s, CSV %s, %v", i, estimate, lines[i+1][10], err)
				}
			}
			text := simulated(t, append(args, "--table")...)
			if n := strings.Count(text, "simulated"); n != len(shares) {
				t.Errorf("%d lines of simulated values in\n%s", n, text)
			}
			if !strings.Contains(text, percent(*got.Cells[0].Exact)) || !strings.Contains(text, percent(got.Cells[1].Estimate)) {
				t.Errorf("cells are missing in\n%s", text)
			}
		})
	}
}

// TestSimulateWait: what an operator came for.
func TestSimulateWait(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--rules", "pow", "--q", "0.3"}, "q 0.3  32\n"},
		{[]string{"--rules", "poof", "--q", "0.9"}, "q 0.9  9\n"},
		{[]string{"--rules", "poof", "--q", "0.1", "--risk", "0.06"}, "q 0.1  2\n"},
		{[]string{"--rules", "pow", "--q", "0.5"}, "q 0.5  never: this attacker overtakes in the end\n"},
		{[]string{"--rules", "pow", "--q", "0.499"}, "q 0.499  more than 10000\n"},
	} {
		out := simulated(t, append(c.args, "--trials", "100")...)
		if !strings.HasSuffix(out, c.want) {
			t.Errorf("%v: got\n%s\nwant at the end %q", c.args, out, c.want)
		}
	}
}

func TestSimulateReplay(t *testing.T) {
	args := []string{"--replay", "--trials", "500", "--q", "0.7"}
	var got struct{ Cells []cell }
	if err := json.Unmarshal([]byte(simulated(t, append(args, "--json")...)), &got); err != nil {
		t.Fatal(err)
	}
	published := simulate.Published()
	if len(got.Cells) != 3*len(published) {
		t.Fatalf("%d cells", len(got.Cells))
	}
	for i, c := range got.Cells {
		p := published[i%len(published)]
		if c.Chain != p.Chain || c.Confirmations != p.Depth || c.Exact == nil {
			t.Fatalf("cell %+v of %+v", c, p)
		}
		want := 1.0
		if c.Rules == simulate.PoOF {
			if want = 0; p.Depth < 9 {
				continue
			}
		}
		if c.Estimate != want || math.Abs(*c.Exact-want) > 1e-12 {
			t.Errorf("%s, %s, %d blocks: estimate %v, exact %v", c.Rules, c.Chain, c.Confirmations, c.Estimate, *c.Exact)
		}
	}
	text := simulated(t, args...)
	if !strings.Contains(text, ">7000") || !strings.Contains(text, "9 blocks at most") || strings.Count(text, "Bitcoin Gold") != 8 {
		t.Errorf("got\n%s", text)
	}
	if missed := simulated(t, append(args, "--missed", "0.1")...); strings.Contains(missed, "at most") {
		t.Errorf("promises a bound though slots are missed:\n%s", missed)
	}
}

// TestSimulateChart: every kind of answer has a chart, and the same seed gives the
// same.
func TestSimulateChart(t *testing.T) {
	for _, c := range []struct {
		args  []string
		texts []string
		dots  int // besides that of the legend
	}{
		{nil, []string{"q = 0.1", "q = 0.9", "rules poof, n = 10, 0 % of slots missed, premined 1; 500 trials, seed 1", "not once in all trials"}, 50},
		{[]string{"--confirmations", "6"}, []string{"q = 0.5"}, 4},
		{[]string{"--rules", "literal", "--q", "0.3"}, []string{"q = 0.3"}, 5},
		{[]string{"--q", "0.3", "--confirmations", "6", "--risk", "0.02"}, []string{"q = 0.3", "accepted: 2 %"}, 1},
		{[]string{"--replay", "--q", "0.4"}, []string{"pow", "literal", "poof", "Ethereum Classic", "Litecoin Cash", "Bitcoin Gold"}, 39},
	} {
		draw := func(form string) string {
			file := filepath.Join(t.TempDir(), "risk"+form)
			simulated(t, append(c.args, "--chart", file, "--trials", "500")...)
			picture, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return string(picture)
		}
		svg := draw(".svg")
		for _, text := range c.texts {
			if !strings.Contains(svg, ">"+text+"</text>") {
				t.Errorf("%v: no %q in\n%s", c.args, text, svg)
			}
		}
		if n := strings.Count(svg, "<circle") - 1; n < c.dots {
			t.Errorf("%v: %d dots in\n%s", c.args, n, svg)
		}
		if draw(".svg") != svg {
			t.Errorf("%v: the same seed gives another chart", c.args)
		}
		if c.args == nil { // encoding takes long under the race detector
			picture := draw(".PNG")
			if _, err := png.Decode(strings.NewReader(picture)); err != nil || draw(".png") != picture {
				t.Errorf("PNG: %v, or the same seed gives another", err)
			}
		}
	}
}

// TestSimulateSeed: the same flags give the same text, another seed another.
func TestSimulateSeed(t *testing.T) {
	one := simulated(t, "--seed", "1", "--trials", "3000")
	if simulated(t, "--seed", "1", "--trials", "3000") != one || simulated(t, "--seed", "2", "--trials", "3000") == one {
		t.Error("the seed does not decide")
	}
}

func TestSimulateBadFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--rules bitcoin", `unknown rules "bitcoin": choose pow, literal or poof`},
		{"--q 0", "q is 0"},
		{"--q 1.5", "q is 1.5"},
		{"--q NaN", "q is NaN"},
		{"--q half", `invalid argument "half" for "--q"`},
		{"--confirmations 0", "confirmations is 0: ask for 1 to 10000"},
		{"--confirmations 10001", "confirmations is 10001"},
		{"--trials 0", "--trials is 0"},
		{"--trials -5", "--trials is -5"},
		{"--trials 2000000000000", "--trials is 2000000000000"},
		{"--seed -1", `invalid argument "-1" for "--seed"`},
		{"--n 1", "n is 1"},
		{"--missed 1.01", "missed is 1.01"},
		{"--premined -1", "premined is -1"},
		{"--fork 9", "fork is 9"},
		{"--rules pow --no-gate", "the arrival gate is a rule of poof"},
		{"--risk 0", "--risk is 0"},
		{"--json --csv", "none of the others can be"},
		{"--chart risk.pdf", "--chart risk.pdf: give a name that ends in .svg or .png"},
		{"--chart png", "--chart png: give a name that ends in .svg or .png"},
		{"--replay --confirmations 6", "leave out --confirmations"},
		{"--replay --no-gate", "add --rules poof"},
		{"--trials 1000000000000 --chart no/such/folder/a.svg", "write --chart"}, // before the work
		{"extra", `unknown command "extra"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			out, err := runSimulate(t.Context(), strings.Fields(c.args)...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
			if out != "" {
				t.Errorf("printed %q besides the error", out)
			}
		})
	}
}

// TestSimulateInterrupted: Ctrl-C leaves no half answer behind.
func TestSimulateInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "risk.svg")
	out, err := runSimulate(ctx, "--trials", "1000000000000", "--chart", file)
	if !errors.Is(err, context.Canceled) || out != "" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a chart was written: %v", err)
	}
	if code := run(ctx, []string{"simulate"}); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}
