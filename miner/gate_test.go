package miner

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

func testJob(id uint64, parent byte) *work.Job {
	return &work.Job{ID: id, PrevBlock: [32]byte{parent}}
}

// at is a moment in seconds.
func at(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

func TestGate(t *testing.T) {
	type step struct {
		name    string
		verdict func(*gate) // what happens first; may be nil
		job     *work.Job
		now     float64
		paused  bool
		until   float64 // 0: no end by itself
		claims  bool    // asked only when not paused
	}
	one, two, other := testJob(1, 'P'), testJob(2, 'P'), testJob(3, 'Q')
	says := func(job *work.Job, o work.Outcome, now float64) func(*gate) {
		return func(g *gate) { g.verdict(job, 160, o, at(now)) }
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"one solution in flight", []step{
			{"first", nil, one, 100, false, 0, true},
			{"second, same job", nil, one, 100, false, 0, false},
			{"newer job", nil, two, 100, false, 0, true},
			{"older job then", nil, one, 100, false, 0, false},
		}},
		{"accepted", []step{
			{"found", nil, one, 100, false, 0, true},
			{"same job", says(one, work.Accepted, 100), one, 100, true, 0, false},
			{"next job", nil, two, 100, false, 0, true},
		}},
		{"stale", []step{
			{"found", nil, one, 100, false, 0, true},
			{"same job", says(one, work.Stale, 100), one, 100, true, 0, false},
			{"next job", nil, other, 100, false, 0, true},
		}},
		{"held", []step{
			{"found", nil, one, 100, false, 0, true},
			{"same job", says(one, work.Held, 100), one, 100, true, 0, false},
			{"same job, when due", nil, one, 160, true, 0, false},
			{"new job, same parent, before it is due", nil, two, 159.9, true, 160, false},
			{"new job, same parent, after it was due", nil, two, 160, false, 0, true},
			{"new parent", nil, other, 100, false, 0, true},
		}},
		{"rejected", []step{
			{"found", nil, one, 100, false, 0, true},
			{"at once", says(one, work.Rejected, 100), one, 100, false, 0, false},
			{"still too soon", nil, one, 100.09, false, 0, false},
			{"after the pause", nil, one, 100.1, false, 0, true},
			{"again: twice the pause", says(one, work.Rejected, 100.2), one, 100.39, false, 0, false},
			{"over", nil, one, 100.4, false, 0, true},
			{"a newer job does not wait", says(one, work.Rejected, 100.4), two, 100.4, false, 0, true},
		}},
		{"late verdict on an older job", []step{
			{"found", nil, one, 100, false, 0, true},
			{"newer found", nil, two, 100, false, 0, true},
			{"older rejected: the newer is still in flight", says(one, work.Rejected, 100), two, 200, false, 0, false},
			{"older accepted: the newer goes on", says(one, work.Accepted, 100), two, 200, false, 0, false},
			{"newer accepted", says(two, work.Accepted, 100), two, 200, true, 0, false},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g gate
			for _, s := range c.steps {
				if s.verdict != nil {
					before := g.changes.Load()
					s.verdict(&g)
					if g.changes.Load() == before {
						t.Fatalf("%s: workers are not told", s.name)
					}
				}
				until, paused := g.pause(s.job, at(s.now))
				if paused != s.paused {
					t.Fatalf("%s: paused %v", s.name, paused)
				}
				if s.until != 0 != !until.IsZero() || s.until != 0 && !until.Equal(at(s.until)) {
					t.Fatalf("%s: until %v", s.name, until)
				}
				if !paused {
					if claims := g.claim(s.job, at(s.now)); claims != s.claims {
						t.Fatalf("%s: claim %v", s.name, claims)
					}
				}
			}
		})
	}
}

func TestBackoffIsBounded(t *testing.T) {
	var g gate
	job := testJob(1, 'P')
	now := at(0)
	for i := range 100 {
		if !g.claim(job, now) {
			t.Fatalf("claim %d refused after the longest pause", i)
		}
		g.verdict(job, 0, work.Rejected, now)
		if g.claim(job, now.Add(firstBackoff-1)) {
			t.Fatalf("claim %d allowed within the shortest pause", i)
		}
		now = now.Add(lastBackoff)
	}
}
