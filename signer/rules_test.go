package signer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	gotypes "go/types"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/authority/authoritytest"
	"qcitycoin.org/qcity/signer/interchange"
)

// setPolicyCase is policyCase for a set change: what the journal refuses. What
// the change itself breaks is in authoritytest.Cases.
type setPolicyCase struct {
	name string
	rule Rule
	bad  func(*testing.T, *bench) authority.SetChangeRequest
	good func(*bench) authority.SetChangeRequest
	// reset, unless nil, puts right what is wrong with the signer.
	reset func(*testing.T, *bench)
}

func setPolicyCases() []setPolicyCase {
	of := func(number uint32, salt byte) func(*bench) authority.SetChangeRequest {
		return func(b *bench) authority.SetChangeRequest { return successorOf(b.network, b.keys, number, 0, salt) }
	}
	after := func(first, bad func(*bench) authority.SetChangeRequest) func(*testing.T, *bench) authority.SetChangeRequest {
		return func(t *testing.T, b *bench) authority.SetChangeRequest {
			if _, err := b.service.SignSetChange(t.Context(), first(b)); err != nil {
				t.Fatal(err)
			}
			return bad(b)
		}
	}
	return []setPolicyCase{
		{name: "another set of a signed number", rule: RuleSetDouble, bad: after(of(2, 0), of(2, 1)), good: of(3, 1)},
		{name: "number below the last", rule: RuleSetRegression, bad: after(of(2, 0), of(1, 0)), good: of(3, 0)},
		{
			name: "key is not ours", rule: RuleKeyNotHeld,
			bad: func(t *testing.T, b *bench) authority.SetChangeRequest {
				b.open(t, publics(b.keys[1:]))
				return of(1, 0)(b)
			},
			good:  of(1, 0),
			reset: func(t *testing.T, b *bench) { b.open(t, publics(b.keys)) },
		},
		{
			name: "another signer claimed this set", rule: RuleElsewhere,
			bad: func(t *testing.T, b *bench) authority.SetChangeRequest {
				r := of(1, 0)(b)
				digest := consensus.SetChangeDigest(b.network.ID, r.Current, r.Keys)
				b.imports(t, interchange.Key{PublicKey: b.keys[0].public, SetChanges: []interchange.SetChange{{Number: 1, Digest: &digest}}})
				return r
			},
			good: of(2, 0),
		},
	}
}

// TestSetPolicy: each case is refused by its rule, which no other one would do.
func TestSetPolicy(t *testing.T) {
	for _, c := range setPolicyCases() {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			req := c.bad(t, b)
			b.wantRefused(t, c.rule, func() (Response, error) { return b.service.SignSetChange(context.Background(), req) })
			if c.reset != nil {
				c.reset(t, b)
			}
			if _, err := b.service.SignSetChange(t.Context(), c.good(b)); err != nil {
				t.Fatalf("put right, and still: %v", err)
			}
		})
	}
	// That no other rule stands against these is what authority's TestRules sees to.
	for _, c := range authoritytest.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			b := &bench{network: c.Network, path: t.TempDir() + "/journal", token: newSoftToken()}
			if err := CreateJournal(b.path, b.network.ID, b.network.Validators, 0); err != nil {
				t.Fatal(err)
			}
			b.open(t, b.network.Validators)
			defer b.journal.Close()
			req := c.Request()
			b.wantRefused(t, Rule(c.Rule), func() (Response, error) { return b.service.SignSetChange(t.Context(), req) })
		})
	}
}

// ruleText is what a rule's declaration says of it.
type ruleText struct{ name, text string }

// ruleTexts reads a package's constants of type Rule, in the order of their
// declarations, by identifier.
func ruleTexts(t *testing.T, dir string) (order []string, byIdent map[string]ruleText, files []*ast.File, fset *token.FileSet) {
	t.Helper()
	fset, byIdent = token.NewFileSet(), make(map[string]ruleText)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, dir+"/"+e.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Rule" {
					continue
				}
				name, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				doc := cmp.Or(v.Comment.Text(), v.Doc.Text(), g.Doc.Text())
				ident := v.Names[0].Name
				byIdent[ident] = ruleText{name, strings.Join(strings.Fields(strings.TrimPrefix(doc, ident+":")), " ")}
				order = append(order, ident)
			}
		}
	}
	return order, byIdent, files, fset
}

// chainRules are the rules of package consensus that the functions the signer
// calls there can return, as the code says: every constant of type Rule that is
// named in a function which can be reached from those.
func chainRules(t *testing.T) (list []ruleText) {
	t.Helper()
	const dir = "../node/consensus"
	order, texts, files, fset := ruleTexts(t, dir)
	info := &gotypes.Info{Uses: make(map[*ast.Ident]gotypes.Object), Defs: make(map[*ast.Ident]gotypes.Object), Selections: make(map[*ast.SelectorExpr]*gotypes.Selection)}
	// What other packages hold is not needed: what cannot be resolved is theirs.
	conf := gotypes.Config{Importer: noImports{}, Error: func(error) {}}
	_, _ = conf.Check(dir, fset, files, info)
	bodies := make(map[gotypes.Object]*ast.FuncDecl)
	var open []gotypes.Object
	entry := []string{"ValidateProposal", "ValidateBallot", "CheckFuture", "Allows"}
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				bodies[info.Defs[fn.Name]] = fn
				if slices.Contains(entry, fn.Name.Name) {
					open = append(open, info.Defs[fn.Name])
				}
			}
		}
	}
	if len(open) != len(entry) {
		t.Fatalf("found %d of %v", len(open), entry)
	}
	found, reached := make(map[string]bool), make(map[gotypes.Object]bool)
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if reached[at] {
			continue
		}
		reached[at] = true
		ast.Inspect(bodies[at], func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				o := info.Uses[id]
				if _, isRule := texts[id.Name]; isRule {
					found[id.Name] = true
				} else if o != nil && bodies[o] != nil {
					open = append(open, o)
				}
			}
			return true
		})
	}
	for _, ident := range order {
		if found[ident] {
			list = append(list, texts[ident])
		}
	}
	return list
}

type noImports struct{}

func (noImports) Import(path string) (*gotypes.Package, error) {
	return nil, fmt.Errorf("%s is not looked at", path)
}

// neverSeen are rules that the code of the chain names on the way, and that no
// request to a signer can break.
var neverSeen = map[string]string{
	"validator-disabled": "a request does not say which keys evidence has disabled: nodes count no block of them",
	"attest-disabled":    "a request does not say which keys evidence has disabled: nodes count no vote of them",
}

// ruleRow is a rule as docs/signer.md lists it.
type ruleRow struct {
	of   []string // kinds of request that a case has it refuse
	test string
	n    int
}

// testedRules are the rules that the tables of the tests have cases for.
func testedRules(t *testing.T) map[Rule]*ruleRow {
	tested := make(map[Rule]*ruleRow)
	add := func(rule Rule, of, test, name string) {
		r := tested[rule]
		if r == nil {
			r = &ruleRow{test: test + ": " + name}
			tested[rule] = r
		}
		if !slices.Contains(r.of, of) {
			r.of = append(r.of, of)
		}
		r.n++
	}
	for _, c := range policyCases() {
		add(c.rule, "block", "`TestPolicy`", c.name)
	}
	for _, c := range votePolicyCases() {
		add(c.rule, "vote", "`TestVotePolicy`", c.name)
	}
	for _, c := range setPolicyCases() {
		add(c.rule, "set", "`TestSetPolicy`", c.name)
	}
	for _, c := range authoritytest.Cases(t) {
		add(Rule(c.Rule), "set", "`TestSetPolicy`", c.Name)
	}
	return tested
}

const (
	rulesBegin = "<!-- rules: written by SIGNER_UPDATE=1 go test -run TestEveryRule ./signer -->\n"
	rulesEnd   = "<!-- end of rules -->\n"
	rulesFile  = "../docs/signer.md"
)

// TestEveryRule: for every rule that a signer can refuse with, as the code has
// them, there is a case that this rule alone refuses; and docs/signer.md lists them.
func TestEveryRule(t *testing.T) {
	tested := testedRules(t)
	var table strings.Builder
	table.WriteString("| Rule | What it refuses | Of | Cases, and the first |\n|---|---|---|---|\n")
	listed := make(map[Rule]bool)
	for _, group := range [][]ruleText{ownRules(t, "."), chainRules(t), ownRules(t, "authority")} {
		for _, r := range group {
			rule := Rule(r.name)
			if listed[rule] {
				continue
			}
			row := tested[rule]
			if why, ok := neverSeen[r.name]; ok != (row == nil) {
				t.Errorf("rule %s (%s): no case, or no reason why there is none (%q)", r.name, r.text, why)
			}
			listed[rule] = true
			if row == nil {
				continue
			}
			fmt.Fprintf(&table, "| `%s` | %s | %s | %d; %s |\n", r.name, strings.TrimSuffix(r.text, "."), strings.Join(row.of, ", "), row.n, row.test)
		}
	}
	for rule := range tested {
		if !listed[rule] {
			t.Errorf("rule %s is tested, and not found in the code", rule)
		}
	}
	if len(tested) < 30 {
		t.Errorf("%d rules", len(tested))
	}
	t.Logf("%d rules", len(tested))
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(text, []byte(rulesBegin))
	_, tail, ok2 := bytes.Cut(rest, []byte(rulesEnd))
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines\n%s%s", rulesFile, rulesBegin, rulesEnd)
	}
	want := slices.Concat(head, []byte(rulesBegin), []byte(table.String()), []byte(rulesEnd), tail)
	if bytes.Equal(text, want) {
		return
	}
	if os.Getenv("SIGNER_UPDATE") == "" {
		t.Fatalf("%s lists other rules: run SIGNER_UPDATE=1 go test -run TestEveryRule ./signer", rulesFile)
	}
	if err := os.WriteFile(rulesFile, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

func ownRules(t *testing.T, dir string) (list []ruleText) {
	t.Helper()
	order, texts, _, _ := ruleTexts(t, dir)
	for _, ident := range order {
		list = append(list, texts[ident])
	}
	return list
}
