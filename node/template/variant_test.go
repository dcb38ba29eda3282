package template

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// solo is the plan that pays all to one address.
func solo(reward int64, i int) Plan {
	return Plan{Outputs: []types.TxOut{{Value: reward, PkScript: chaingen.PayToHash(i)}}, Note: []byte{byte(i)}}
}

func TestVariantIsAnotherCoinbase(t *testing.T) {
	r := newRig(t)
	coin := r.coins(1)[0]
	r.pool.put(10_000, r.pay(10_000, coin))
	s, tmpl := current(t, r)
	v, ok := s.Variant(tmpl.Job.ID, solo(tmpl.CoinbaseValue, 3))
	if !ok {
		t.Fatal("no variant")
	}
	want := *tmpl.Job
	want.ID, want.CoinbaseSuffix = v.ID, v.CoinbaseSuffix
	want.Transactions, v.Transactions = nil, nil // functions do not compare
	if diff := cmp.Diff(want, *v); diff != "" {
		t.Errorf("the variant differs in more than its coinbase (-want +got):\n%s", diff)
	}
	if v.ID <= tmpl.Job.ID || v.MerkleRoot([12]byte{}) == tmpl.Job.MerkleRoot([12]byte{}) {
		t.Error("it is the same work")
	}
	// The same plan again, and a variant of a variant, are work of their own, too.
	again, ok := s.Variant(v.ID, solo(tmpl.CoinbaseValue, 3))
	if !ok || again.ID == v.ID || again.MerkleRoot([12]byte{}) == v.MerkleRoot([12]byte{}) {
		t.Error("one plan twice is the same work")
	}
	if of, ok := s.Template(again.ID); !ok || of != tmpl {
		t.Error("the variant's template is not known")
	}
	sol := solve(t, v, work.Solution{Version: v.Version, Time: v.Time, Finder: "solo"})
	outcome, id, err := s.SubmitSolution(t.Context(), sol)
	if outcome != work.Accepted || err != nil || r.Tip().ID != types.Hash(id) {
		t.Fatalf("%v, %v", outcome, err)
	}
	found := r.found[0]
	if diff := cmp.Diff(solo(tmpl.CoinbaseValue, 3).Outputs, found.Block.Transactions[0].Outputs); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
	if string(found.Note) != "\x03" || found.Finder != "solo" || found.Reward != tmpl.CoinbaseValue || len(found.Block.Transactions) != 2 {
		t.Errorf("found %+v", found)
	}
}

func TestVariantRefused(t *testing.T) {
	r := newRig(t)
	s, _ := r.source(r.clock, func(c *SourceConfig) { c.MaxVariants = 2 })
	if err := s.update(t.Context()); err != nil {
		t.Fatal(err)
	}
	job, good := s.Current().Job, solo(s.Current().CoinbaseValue, 1)
	for i, tc := range []struct {
		name string
		job  uint64
		plan Plan
		ok   bool
	}{
		{"unknown job", job.ID + 1, good, false},
		{"wrong plan", job.ID, solo(job.Reward-1, 1), false},
		{"first", job.ID, good, true},
		{"wrong plan again", job.ID, solo(job.Reward+1, 1), false},
		{"second", job.ID, good, true},
		{"one too many", job.ID, good, false},
	} {
		if v, ok := s.Variant(tc.job, tc.plan); ok != tc.ok || ok != (v != nil) {
			t.Errorf("%d, %s: %v", i, tc.name, ok)
		}
	}
	if got := r.log.lines(); len(got) != 1 {
		t.Errorf("logged %q, want one line on wrong plans", got)
	}
	// It is forgotten with its template.
	v, known := s.recent[0].variants[0].job, true
	for range 2 {
		if _, known = s.Template(v); !known {
			t.Error("forgotten too early")
		}
		r.advance(r.Tip().Height + 1)
		if err := s.update(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, known = s.Template(v); known {
		t.Error("a variant outlived its template")
	}
}

// TestVariantsAreBounded: with many variants fewer templates are remembered, and
// those whole.
func TestVariantsAreBounded(t *testing.T) {
	const most = 5
	r := newRig(t)
	s, _ := r.source(r.clock, func(c *SourceConfig) { c.MaxVariants = most })
	if err := s.update(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * keptVariants {
		if i > 0 {
			s.publish(s.builder.refreshed(s.Current(), r.clock(), s.plan), Refresh)
		}
		for range most {
			if _, ok := s.Variant(s.Current().Job.ID, solo(s.Current().CoinbaseValue, i%16)); !ok {
				t.Fatal("refused")
			}
		}
		for _, old := range s.recent {
			for _, v := range old.variants {
				if of, ok := s.Template(v.job); !ok || of != old.Template {
					t.Fatalf("variant %d of a remembered template is not found", v.job)
				}
			}
		}
	}
	if len(s.recent) != keptVariants+1 {
		t.Errorf("%d templates with %d variants each are remembered, want %d", len(s.recent), most, keptVariants+1)
	}
}

// TestVariantsConcurrently: sessions ask for theirs while others submit and new
// templates come.
func TestVariantsConcurrently(t *testing.T) {
	const sessions, each = 8, 50
	r := newRig(t)
	s, _ := current(t, r)
	s.add = func(Solved) (work.Outcome, error) { return work.Accepted, nil }
	first := s.Current()
	jobs := make([][]*work.Job, sessions)
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			for range each {
				v, ok := s.Variant(first.Job.ID, solo(first.CoinbaseValue, i))
				if !ok {
					t.Error("refused")
					return
				}
				jobs[i] = append(jobs[i], v)
				sol := solve(t, v, work.Solution{Version: v.Version, Time: v.Time})
				if outcome, _, err := s.SubmitSolution(t.Context(), sol); outcome != work.Accepted || err != nil {
					t.Errorf("%v, %v", outcome, err)
				}
			}
		})
	}
	for range 20 {
		s.publish(s.builder.refreshed(s.Current(), r.clock(), s.plan), Refresh)
	}
	wg.Wait()
	ids := make(map[uint64]bool)
	for _, list := range jobs {
		for _, v := range list {
			if of, ok := s.Template(v.ID); !ok || of != first || ids[v.ID] {
				t.Fatalf("job %d: known %v, twice %v", v.ID, ok, ids[v.ID])
			}
			ids[v.ID] = true
		}
	}
}

// BenchmarkVariant makes variants of a template, 20,000 of each; what transactions it
// has does not matter.
func BenchmarkVariant(b *testing.B) {
	r := newRig(b)
	s, _ := r.source(r.clock, func(c *SourceConfig) { c.MaxVariants = 1 << 30 })
	if err := s.update(b.Context()); err != nil {
		b.Fatal(err)
	}
	job := s.Current().Job
	plans := make([]Plan, 16)
	for i := range plans {
		plans[i] = solo(job.Reward, i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		if _, ok := s.Variant(job.ID, plans[i%16]); !ok {
			b.Fatal("refused")
		}
		if i%20_000 == 0 { // as many as one template has
			s.recent[0].variants = nil
		}
	}
}

// BenchmarkSubmitVariant finds the job of a solution among 20,000 variants.
func BenchmarkSubmitVariant(b *testing.B) {
	r := newRig(b)
	s, _ := r.source(r.clock)
	if err := s.update(b.Context()); err != nil {
		b.Fatal(err)
	}
	job := s.Current().Job
	var last *work.Job
	for i := range defaultMaxVariants {
		last, _ = s.Variant(job.ID, solo(job.Reward, i%16))
	}
	b.ResetTimer()
	for b.Loop() {
		if _, _, _, ok := s.find(last.ID); !ok {
			b.Fatal("unknown")
		}
	}
}
