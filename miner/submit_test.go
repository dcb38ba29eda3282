package miner

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

// verdicts is a submitter that gives one answer and hands the solutions on.
func verdicts(o work.Outcome, err error) (submitter, chan work.Solution) {
	got := make(chan work.Solution, 1000)
	return func(_ context.Context, s work.Solution) (work.Outcome, error) {
		got <- s
		return o, err
	}, got
}

// TestSolvedJobRests: once a job is settled nothing is hashed, not even on a
// target that every hash meets, until there is a new job.
func TestSolvedJobRests(t *testing.T) {
	for _, c := range []struct {
		outcome work.Outcome
		want    BlockStats
	}{
		{work.Accepted, BlockStats{Found: 2, Accepted: 2}},
		{work.Stale, BlockStats{Found: 2, Stale: 2}},
		{work.Held, BlockStats{Found: 2, Held: 2}},
	} {
		t.Run(c.outcome.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sub, got := verdicts(c.outcome, nil)
				m := start(t, 2, new(recorder).kernel(1), sub)
				for i, parent := range []byte{'P', 'Q'} {
					m.feed.Publish(newJob(uint64(i+1), parent, work.MaxTarget))
					time.Sleep(time.Second)
					before := m.Stats()
					if n := len(got); n != i+1 {
						t.Fatalf("%d solutions after %d jobs", n, i+1)
					}
					time.Sleep(time.Hour)
					if after := m.Stats(); after.Total.Hashes != before.Total.Hashes || after.Active != 0 {
						t.Fatalf("a settled job is still hashed: %+v", after)
					}
				}
				m.end(t)
				if got := m.Stats().Blocks; got != c.want {
					t.Errorf("blocks %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// TestHeldBlockRestsItsParent: new templates on the parent of a held block are
// not worth power until the block is due, and are if it did not make it.
func TestHeldBlockRestsItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub, got := verdicts(work.Held, nil)
		m := start(t, 2, new(recorder).kernel(1), sub)
		job := newJob(1, 'P', work.MaxTarget)
		job.Fallback = true
		job.Time += 121
		m.feed.Publish(job)
		if s := <-got; s.Time != job.Time {
			t.Fatalf("fallback time %d was changed to %d", job.Time, s.Time)
		}
		time.Sleep(60 * time.Second)
		again := newJob(2, 'P', work.MaxTarget)
		again.Time = job.Time
		m.feed.Publish(again)
		time.Sleep(60 * time.Second)
		if len(got) != 0 || m.Stats().Active != 0 {
			t.Fatal("mined on beside a held block")
		}
		time.Sleep(2 * time.Second)
		if len(got) != 1 {
			t.Fatalf("%d solutions once the held block was due and did not come", len(got))
		}
		m.end(t)
	})
}

// TestRejectedGoesOn: hashing goes on, and the chain is not flooded.
func TestRejectedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub, got := verdicts(work.Rejected, errors.New("bad-cb-length: too short"))
		r := &recorder{}
		m := start(t, 2, r.kernel(1), sub)
		m.feed.Publish(newJob(1, 'P', work.MaxTarget))
		time.Sleep(10 * time.Second)
		m.end(t)
		close(got)
		seen := map[work.Solution]bool{}
		for s := range got {
			if seen[s] {
				t.Fatalf("%+v was handed in twice", s)
			}
			seen[s] = true
		}
		// Pauses of 0.1, 0.2, … 6.4 s: seven in ten seconds at most.
		if n := len(seen); n < 3 || n > 7 {
			t.Errorf("%d solutions handed in within ten seconds", n)
		}
		if b := m.Stats().Blocks; b.Rejected != b.Found || b.Found != uint64(len(seen)) {
			t.Errorf("blocks %+v", b)
		}
		if want := 2 * int(10*time.Second/fakeCall); len(r.scans) < want-2 {
			t.Errorf("%d calls in ten seconds, want %d: hashing waited", len(r.scans), want)
		}
	})
}

// TestHashingDoesNotWaitForSubmission: nor is a second solution of the same job
// handed in meanwhile.
func TestHashingDoesNotWaitForSubmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, release := 0, make(chan struct{})
		m := start(t, 1, new(recorder).kernel(1), submitter(func(context.Context, work.Solution) (work.Outcome, error) {
			calls++
			<-release
			return work.Accepted, nil
		}))
		m.feed.Publish(newJob(1, 'P', work.MaxTarget))
		time.Sleep(100*fakeCall + fakeCall/2)
		if n := m.Stats().Total.Hashes; n != 100*minCall {
			t.Errorf("%d hashes during a submission, want %d", n, 100*minCall)
		}
		close(release)
		time.Sleep(time.Second)
		if s := m.Stats(); s.Active != 0 || calls != 1 || s.Blocks != (BlockStats{Found: 1, Accepted: 1}) {
			t.Errorf("%d submissions, stats %+v", calls, s)
		}
		m.end(t)
	})
}

// TestEndHandsInWhatWasFound: Run waits for a submission under way, not for ever.
func TestEndHandsInWhatWasFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration
		want  time.Duration // until Run returns
		block BlockStats
	}{
		{"in time", time.Second, time.Second, BlockStats{Found: 1, Accepted: 1}},
		{"never", 1000 * time.Hour, submitGrace, BlockStats{Found: 1, Rejected: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				found := make(chan struct{})
				m := start(t, 1, new(recorder).kernel(1), submitter(func(ctx context.Context, _ work.Solution) (work.Outcome, error) {
					close(found)
					select {
					case <-time.After(c.takes):
						return work.Accepted, nil
					case <-ctx.Done():
						return work.Rejected, ctx.Err()
					}
				}))
				m.feed.Publish(newJob(1, 'P', work.MaxTarget))
				<-found
				ended := time.Now()
				m.end(t)
				if took := time.Since(ended); took < c.want-fakeCall || took > c.want+fakeCall {
					t.Errorf("ended after %v, want %v", took, c.want)
				}
				if got := m.Stats().Blocks; got != c.block {
					t.Errorf("blocks %+v, want %+v", got, c.block)
				}
			})
		})
	}
}

// TestHeaderTimeKeepsUp: on one long job the header time follows the clock; a
// fallback job's stays.
func TestHeaderTimeKeepsUp(t *testing.T) {
	for _, c := range []struct {
		name     string
		fallback bool
		want     uint32 // largest lag behind the clock after a minute
	}{
		{"ordinary", false, refreshSeconds},
		{"fallback", true, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{}
				m := start(t, 1, r.kernel(1), noSolutions(t))
				job := newJob(1, 'P', work.Target{})
				job.Fallback = c.fallback
				m.feed.Publish(job)
				time.Sleep(time.Minute)
				m.end(t)
				checkDisjoint(t, r.scans)
				var most uint32
				for _, s := range r.scans {
					headerTime := binary.LittleEndian.Uint32(s.header[68:])
					if headerTime < job.Time || int64(headerTime) > s.at.Unix() {
						t.Fatalf("header time %d, clock %d", headerTime, s.at.Unix())
					}
					most = max(most, uint32(s.at.Unix())-headerTime)
				}
				if most > c.want || most+1 < c.want {
					t.Errorf("header time was %d s behind, want %d", most, c.want)
				}
			})
		})
	}
}

// TestWaitsForTheFirstJob, and ends cleanly without one.
func TestWaitsForTheFirstJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, 2, new(recorder).kernel(1), noSolutions(t))
		time.Sleep(time.Hour)
		if s := m.Stats(); s.Total.Hashes != 0 || s.Active != 0 {
			t.Errorf("stats %+v without a job", s)
		}
		m.end(t)
	})
}

// TestOldJobsSolution: what was found on a job while a newer one came is handed
// in if it still makes a block, that is on the same parent, and dropped if not.
func TestOldJobsSolution(t *testing.T) {
	for _, c := range []struct {
		name   string
		parent byte
		want   BlockStats
	}{
		{"same parent", 'P', BlockStats{Found: 1, Accepted: 1}},
		{"new parent", 'Q', BlockStats{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sub, got := verdicts(work.Accepted, nil)
				r := &recorder{}
				m := start(t, 1, r.kernel(1), sub)
				r.each = func(s scanned) {
					if s.header[35] == 'P' && len(r.scans) == 1 { // the call that finds it
						m.feed.Publish(newJob(2, c.parent, work.Target{}))
					}
				}
				m.feed.Publish(newJob(1, 'P', work.MaxTarget))
				time.Sleep(time.Second)
				m.end(t)
				if b := m.Stats().Blocks; b != c.want || uint64(len(got)) != c.want.Found {
					t.Fatalf("blocks %+v, %d handed in, want %+v", b, len(got), c.want)
				}
				if c.want.Found > 0 && (<-got).JobID != 1 {
					t.Error("not of the old job")
				}
			})
		})
	}
}
