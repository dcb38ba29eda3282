package template

import (
	"log/slog"
	"testing"

	"qcitycoin.org/qcity/miner/work"
)

// Solutions of jobs that one program gave out are blocks in the next one.
func TestSaveAndRestore(t *testing.T) {
	for _, kind := range []string{"template", "variant"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t)
			r.pool.put(10_000, r.pay(10_000, r.coins(1)[0]))
			old, tmpl := current(t, r)
			v, ok := old.Variant(tmpl.Job.ID, solo(tmpl.CoinbaseValue, 3))
			if !ok {
				t.Fatal("no variant")
			}
			saved, err := old.Save()
			if err != nil {
				t.Fatal(err)
			}
			// Another program: its pool is empty.
			r.pool.empty()
			if r.builder, err = NewBuilder(r, r.pool, "test", slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			s, _ := r.source(r.clock)
			if err := s.Restore(saved[:len(saved)-3]); err == nil || s.Current() != nil {
				t.Error("restored half of what was saved")
			}
			if err := s.Restore(saved); err != nil {
				t.Fatal(err)
			}
			if err := s.update(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now := s.Current(); now.Job.ID <= v.ID || len(now.Transactions) != 0 {
				t.Errorf("job %d follows %d, with %d transactions", now.Job.ID, v.ID, len(now.Transactions))
			}
			job := map[string]*work.Job{"template": tmpl.Job, "variant": v}[kind]
			outcome, _, err := s.SubmitSolution(t.Context(), solve(t, job, work.Solution{Version: job.Version, Time: job.Time}))
			if outcome != work.Accepted || err != nil {
				t.Fatalf("%v, %v", outcome, err)
			}
			if b := r.found[0]; len(b.Block.Transactions) != 2 || b.Reward != tmpl.CoinbaseValue || (string(b.Note) == "\x03") != (kind == "variant") {
				t.Errorf("found %+v", b)
			}
		})
	}
}
