package template

import (
	"errors"
	"testing"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

var _ work.Submitter = (*Source)(nil)

// current returns a source with one template on a chain of a few blocks.
func current(t *testing.T, r *rig) (*Source, *Template) {
	t.Helper()
	s, _ := r.source(r.clock)
	if err := s.update(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, s.Current()
}

func easy(t *testing.T, tmpl *Template) work.Solution {
	t.Helper()
	return solve(t, tmpl.Job, work.Solution{Version: tmpl.Job.Version, Time: tmpl.Job.Time})
}

func TestSubmitSolutionRefuses(t *testing.T) {
	r := newRig(t)
	r.advance(9) // the next block is a slot's
	s, tmpl := current(t, r)
	good := easy(t, tmpl)
	for name, tc := range map[string]struct {
		sol  func() work.Solution
		want error
		id   bool
	}{
		"unknown job": {func() work.Solution { return work.Solution{JobID: 999} }, ErrUnknownJob, false},
		"above the target": {func() work.Solution {
			sol := good
			for h := tmpl.Job.Header(sol); tmpl.Job.Target.Met(h.Hash()); h = tmpl.Job.Header(sol) {
				sol.Nonce++
			}
			return sol
		}, ErrAboveTarget, true},
		"before the slot opens": {func() work.Solution {
			return solve(t, tmpl.Job, work.Solution{Version: tmpl.Job.Version, Time: tmpl.Job.MinTime - 1})
		}, consensus.RuleFallback, true},
	} {
		t.Run(name, func(t *testing.T) {
			sol := tc.sol()
			outcome, id, err := s.SubmitSolution(t.Context(), sol)
			if outcome != work.Rejected || !errors.Is(err, tc.want) {
				t.Errorf("%v, %v, want %v", outcome, err, tc.want)
			}
			if tc.id {
				if h := tmpl.Job.Header(sol); id != h.Hash() {
					t.Errorf("id %x, want %x", id, h.Hash())
				}
			}
		})
	}
}

func TestSubmitSolutionPassesTheChainsAnswerOn(t *testing.T) {
	for _, want := range []work.Outcome{work.Accepted, work.Held, work.Stale} {
		t.Run(want.String(), func(t *testing.T) {
			r := newRig(t)
			s, tmpl := current(t, r)
			var got *types.Block
			s.add = func(v Solved) (work.Outcome, error) { got = v.Block; return want, nil }
			sol := easy(t, tmpl)
			outcome, id, err := s.SubmitSolution(t.Context(), sol)
			if outcome != want || err != nil || got == nil || got.Header.ID() != types.Hash(id) {
				t.Errorf("%v, %v, block %v", outcome, err, got)
			}
		})
	}
}

func TestSolutionsOfTheLastParentStillReachTheChain(t *testing.T) {
	r := newRig(t)
	s, first := current(t, r)
	sol := easy(t, first)
	for i, want := range []struct {
		outcome work.Outcome
		err     error
	}{{work.Stale, nil}, {work.Rejected, ErrUnknownJob}} {
		r.advance(r.Tip().Height + 1)
		if err := s.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		outcome, _, err := s.SubmitSolution(t.Context(), sol)
		if outcome != want.outcome || !errors.Is(err, want.err) {
			t.Errorf("%d blocks later: %v, %v, want %v, %v", i+1, outcome, err, want.outcome, want.err)
		}
		sol.Extranonce[0]++
		sol = solve(t, first.Job, sol)
	}
}

func TestOnlySoManyTemplatesAreRemembered(t *testing.T) {
	r := newRig(t)
	s, first := current(t, r)
	last := first
	for range kept {
		last = r.builder.refreshed(last, r.clock(), fixed(payout()))
		s.publish(last, Refresh)
	}
	if _, ok := s.Template(first.Job.ID); ok || len(s.recent) != kept {
		t.Errorf("%d templates are remembered, the first: %v", len(s.recent), ok)
	}
	for id := first.Job.ID + 1; id <= last.Job.ID; id++ {
		if _, ok := s.Template(id); !ok {
			t.Errorf("template %d of %d is forgotten", id, last.Job.ID)
		}
	}
	// A refreshed template is a block like any other.
	if outcome, _, err := s.SubmitSolution(t.Context(), easy(t, last)); outcome != work.Accepted || err != nil {
		t.Errorf("%v, %v", outcome, err)
	}
}
