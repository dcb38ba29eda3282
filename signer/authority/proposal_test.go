package authority_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is now\n%s", path, got)
	}
}

// TestGolden holds the file format and the words to the byte.
func TestGolden(t *testing.T) {
	n, p := sample(t)
	if *update {
		golden(t, "proposal.json", signed(t, p, 0, 3).Encode())
	}
	file, err := os.ReadFile("testdata/proposal.json")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := authority.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Check(n); err != nil {
		t.Fatal(err)
	}
	// P-256 signatures are not the same twice: the file's are used.
	p.Proofs = kept.Proofs
	if p.ID() != kept.ID() {
		t.Errorf("the file's proposal is %s, made anew it is %s", kept.ID(), p.ID())
	}
	for _, s := range kept.Signatures {
		if p, err = p.With(s); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "proposal.json", p.Encode())
	golden(t, "proposal.txt", []byte(authority.Inspect(n, kept).String()))
	if got := kept.ID().String(); got != goldenID {
		t.Errorf("id %s, want %s", got, goldenID)
	}
}

func TestParseIsStrict(t *testing.T) {
	n, p := sample(t)
	p = signed(t, p, 0, 3)
	good := string(p.Encode())
	if got, err := authority.Parse([]byte(good)); err != nil || got.ID() != p.ID() || got.Check(n) != nil {
		t.Fatalf("%v", err)
	}
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the file", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	spoiled := func(f func(*authority.Proposal)) string {
		q := *p
		q.Current.Keys, q.Keys = slices.Clone(p.Current.Keys), slices.Clone(p.Keys)
		q.Signatures, q.Proofs = slices.Clone(p.Signatures), slices.Clone(p.Proofs)
		f(&q)
		return string(q.Encode())
	}
	for name, text := range map[string]string{
		"empty": "", "array": "[]", "null": "null", "cut": good[:len(good)-10], "twice": good + good, "space": good + " ",
		"indent":        change("\n  ", "\n   "),
		"other format":  change("change 1", "change 2"),
		"unknown field": change("{\n", "{\n  \"more\": 1,\n"),
		"field twice":   change("{\n", "{\n  \"format\": \"qcity set change 1\",\n"),
		"capitals":      change(`"reason"`, `"Reason"`),
		"fractions":     change("07:00:00Z", "07:00:00.5Z"),
		"zone":          change("07:00:00Z", "07:00:00+01:00"),
		"null list":     change(`"disabled": []`, `"disabled": null`),
		"no people":     change(`"Bob Berg"`, `"Ada Adler"`),
		"id of the set": spoiled(func(p *authority.Proposal) { p.Current.ID[0] ^= 1 }),
		"order":         spoiled(func(p *authority.Proposal) { slices.Reverse(p.Signatures) }),
		"index":         spoiled(func(p *authority.Proposal) { p.Signatures[1].Index = 5 }),
		"signed twice":  spoiled(func(p *authority.Proposal) { p.Signatures[1] = p.Signatures[0] }),
		"disabled":      spoiled(func(p *authority.Proposal) { p.Disabled = publics(7) }),
		"foreign proof": spoiled(func(p *authority.Proposal) { p.Proofs[0].Key = publics(9)[0] }),
		"two proofs":    spoiled(func(p *authority.Proposal) { p.Proofs = append(p.Proofs, p.Proofs[0]) }),
		"22 keys":       spoiled(func(p *authority.Proposal) { p.Keys = publics(numbers(0, 22)...) }),
		"too long":      good + strings.Repeat(" ", authority.MaxSize),
	} {
		if _, err := authority.Parse([]byte(text)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// TestCheckRefuses: what is well formed need not be right.
func TestCheckRefuses(t *testing.T) {
	n, p := sample(t)
	p = signed(t, p, 0)
	if err := p.Check(n); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(network(t, 7)); !errors.Is(err, authority.RuleNetwork) {
		t.Errorf("another network: %v", err)
	}
	q := *p
	q.Chain.Effective -= n.N
	if err := q.Check(n); err == nil {
		t.Error("heights of no tip were taken")
	}
	q = *p
	q.Signatures = slices.Clone(p.Signatures)
	q.Signatures[0].Index = 1
	if err := q.Check(n); !errors.Is(err, types.ErrBadSignature) {
		t.Errorf("another's signature: %v", err)
	}
}

func TestProposeRefuses(t *testing.T) {
	n := network(t, 5)
	c := genesis(n)
	if _, err := authority.Propose(n, c, publics(0, 1, 2, 5, 4), nil, reason, made); !errors.Is(err, authority.RuleNoProof) {
		t.Error(err)
	}
	if _, err := authority.Propose(n, c, publics(0, 1), nil, reason, made); !errors.Is(err, authority.RuleEven) {
		t.Error(err)
	}
	// Proofs may come in any order, and are put into that of the keys.
	p, err := authority.Propose(n, c, publics(0, 6, 2, 5, 4), proofs(n, 5, 6), reason, made)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Parse(p.Encode()); err != nil {
		t.Error(err)
	}
}

// TestCombine: from copies to what the chain carries.
func TestCombine(t *testing.T) {
	n, p := sample(t)
	one, two := signed(t, p, 0, 1), signed(t, p, 4, 1)
	if _, err := one.Change(); !errors.Is(err, authority.ErrIncomplete) || one.Complete() {
		t.Errorf("two of five: %v", err)
	}
	all, err := authority.Combine(one, two)
	if err != nil {
		t.Fatal(err)
	}
	c, err := all.Change()
	if err != nil || !all.Complete() || len(c.Signatures) != 3 || c.Signers != 1<<0|1<<1|1<<4 {
		t.Fatalf("%+v, %v", c, err)
	}
	// The chain's own rules take it.
	g := n.GenesisState()
	if err := g.CheckRecord(c); err != nil {
		t.Error(err)
	}
	other, err := authority.Propose(n, genesis(n), p.Keys, p.Proofs, "another reason", made)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Combine(one, two, other); !errors.Is(err, authority.ErrDifferent) {
		t.Errorf("another proposal: %v", err)
	}
	bad := signature(p, 2)
	bad.Signature[3] ^= 1
	if _, err := p.With(bad); !errors.Is(err, types.ErrBadSignature) {
		t.Errorf("a bad signature: %v", err)
	}
	bad = signature(p, 2)
	bad.Index = 9
	if _, err := p.With(bad); err == nil {
		t.Error("a signature of validator 9 of 5")
	}
	// A disabled key's signature does not count.
	dis := genesis(n)
	dis.Disabled = publics(3, 0)
	q, err := authority.Propose(n, dis, publics(6, 1, 2, 5, 4), proofs(n, 5, 6), reason, made)
	if err != nil {
		t.Fatal(err)
	}
	if q = signed(t, q, 0, 1, 2); q.Complete() {
		t.Error("complete with a disabled key's signature")
	}
	if q = signed(t, q, 4); !q.Complete() {
		t.Error("three that count are not enough")
	}
}

// TestCombineLaws: copies combine to the same bytes in any order and grouping,
// and once more changes nothing.
func TestCombineLaws(t *testing.T) {
	_, p := sample(t)
	// Two signatures of each validator, as if a journal had been lost, and two
	// notes about one of them.
	var pool []authority.Signature
	for i := range uint8(3) {
		a, b := signature(p, i), signature(p, i)
		b.People = []string{"Cy Coe", "Di Dorn"}
		c := b
		c.Scripted = true
		pool = append(pool, a, b, c)
	}
	copyOf := rapid.Custom(func(t *rapid.T) *authority.Proposal {
		q := *p
		q.Signatures = []authority.Signature{}
		for i := range 3 {
			if j := rapid.IntRange(-2, 2).Draw(t, "which"); j >= 0 {
				q.Signatures = append(q.Signatures, pool[3*i+j])
			}
		}
		return &q
	})
	rapid.Check(t, func(t *rapid.T) {
		combine := func(list ...*authority.Proposal) *authority.Proposal {
			out, err := authority.Combine(list[0], list[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		a, b, c := copyOf.Draw(t, "a"), copyOf.Draw(t, "b"), copyOf.Draw(t, "c")
		before := a.Encode()
		same := func(law string, x, y *authority.Proposal) {
			if !bytes.Equal(x.Encode(), y.Encode()) {
				t.Fatalf("not %s", law)
			}
		}
		same("commutative", combine(a, b), combine(b, a))
		all := combine(a, b, c)
		same("associative", combine(combine(a, b), c), all)
		same("associative", combine(a, combine(b, c)), all)
		same("idempotent", combine(a, a), a)
		same("absorbing", combine(all, b), all)
		if !bytes.Equal(before, a.Encode()) {
			t.Fatal("a copy was changed")
		}
		got, err := authority.Parse(all.Encode())
		if err != nil {
			t.Fatal(err)
		}
		same("read as it was written", got, all)
	})
}

// TestSteps: who follows the words from the old set gets the new one.
func TestSteps(t *testing.T) {
	n := network(t, 5)
	five := network(t, 5).Validators
	rapid.Check(t, func(t *rapid.T) {
		pick := rapid.Permutation(publics(numbers(0, 9)...)).Draw(t, "keys")
		keys := pick[:rapid.SampledFrom([]int{3, 5, 7}).Draw(t, "size")]
		if slices.Equal(keys, five) {
			return
		}
		var fresh []int
		for _, k := range keys {
			if !slices.Contains(five, k) {
				fresh = append(fresh, number(k))
			}
		}
		p, err := authority.Propose(n, genesis(n), keys, proofs(n, fresh...), reason, made)
		if err != nil {
			t.Fatal(err)
		}
		in := authority.Inspect(n, p)
		follow(t, five, keys, in.Steps)
		if in.HandsOver != (len(keys)-len(fresh) < consensus.CertifyQuorum(len(keys))) {
			t.Errorf("hands over: %t with %d of %d new", in.HandsOver, len(fresh), len(keys))
		}
	})
}

func follow(t *rapid.T, old, want []types.PublicKey, steps []authority.Step) {
	got := make([]types.PublicKey, len(want))
	copy(got, old)
	gone := make(map[types.PublicKey]bool)
	for _, s := range steps {
		if s.From != nil && s.Old != nil && old[*s.From] != *s.Old {
			t.Errorf("%s: validator %d has another key", s.String(), *s.From)
		}
		if s.Kind == "remove" || s.Kind == "replace" {
			gone[*s.Old] = true
		}
		switch s.Kind {
		case "add", "replace":
			got[*s.To] = *s.New
		case "move":
			got[*s.To] = *s.Old
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("following the words gives %v, want %v", got, want)
	}
	for _, k := range old {
		if gone[k] == slices.Contains(want, k) {
			t.Errorf("%s: said to go: %t", k, gone[k])
		}
	}
}

func FuzzParse(f *testing.F) {
	n, p := sample(f)
	f.Add(p.Encode())
	f.Add(signed(f, p, 0, 1, 4).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := authority.Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Encode(), b) {
			t.Errorf("%q is read as %q", b, p.Encode())
		}
		if p.Check(n) == nil {
			_ = authority.Inspect(n, p).String()
			if c, err := p.Change(); err == nil {
				g := n.GenesisState()
				if err := g.CheckRecord(c); err != nil {
					t.Errorf("a complete proposal that the chain refuses: %v", err)
				}
			}
		}
	})
}
