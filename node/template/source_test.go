package template

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// running is a Source at work in a synctest bubble, whose clock starts where
// the chain's tip is plus one interval.
type running struct {
	*rig
	source *Source
	feed   *work.Feed
}

// source makes a Source on a rig; its clock is the chain's until a bubble runs it.
func (r *rig) source(now func() time.Time, change ...func(*SourceConfig)) (*Source, *work.Feed) {
	r.t.Helper()
	feed, cfg := work.NewFeed(), DefaultSourceConfig(payout())
	for _, f := range change {
		f(&cfg)
	}
	s, err := NewSource(r.builder, feed, r.add, cfg, now, slog.New(&r.log))
	if err != nil {
		r.t.Fatal(err)
	}
	return s, feed
}

// add takes what a Source has found.
func (r *rig) add(s Solved) (work.Outcome, error) {
	r.found = append(r.found, s)
	return r.AddBlock(s.Block)
}

// bubble runs a test on a Source in Run, and ends it.
func bubble(t *testing.T, prepare func(*rig), test func(*testing.T, *running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		prepare(r)
		offset := time.Until(r.clock())
		source, feed := r.source(func() time.Time { return time.Now().Add(offset) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- source.Run(ctx) }()
		synctest.Wait()
		test(t, &running{r, source, feed})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// published waits until everything is at rest and returns how many templates
// were published for each reason since the start, and the current one.
func (r *running) published(t *testing.T, parents, transactions, refreshes uint64) *Template {
	t.Helper()
	synctest.Wait()
	want := map[Reason]uint64{NewParent: parents, NewTransactions: transactions, Refresh: refreshes}
	maps.DeleteFunc(want, func(_ Reason, n uint64) bool { return n == 0 })
	if diff := cmp.Diff(want, r.source.Counts()); diff != "" {
		t.Fatalf("published (-want +got):\n%s", diff)
	}
	current := r.source.Current()
	if job, _ := r.feed.Latest(); job != current.Job {
		t.Errorf("the feed has job %d, the source %d", job.ID, current.Job.ID)
	}
	return current
}

func TestSourcePublishesWithReasons(t *testing.T) {
	var coins []consensus.UTXO
	bubble(t, func(r *rig) { coins = r.coins(4) }, func(t *testing.T, r *running) {
		first := r.published(t, 1, 0, 0)
		if first.Reason != NewParent || len(first.Transactions) != 0 {
			t.Errorf("first template: %v with %d transactions", first.Reason, len(first.Transactions))
		}
		// Transactions that come one after another share a template.
		r.pool.put(10_000, r.pay(10_000, coins[0]))
		r.published(t, 1, 0, 0)
		time.Sleep(2 * time.Second)
		r.pool.put(10_000, r.pay(10_000, coins[1]))
		r.published(t, 1, 0, 0)
		time.Sleep(time.Second)
		second := r.published(t, 1, 1, 0)
		if second.Reason != NewTransactions || len(second.Transactions) != 2 {
			t.Errorf("second template: %v with %d transactions", second.Reason, len(second.Transactions))
		}
		// When nothing came for long, a transaction does not wait.
		time.Sleep(10 * time.Second)
		r.pool.put(10_000, r.pay(10_000, coins[2]))
		third := r.published(t, 1, 2, 0)

		// A pool that changes without consequence publishes nothing, nor does it
		// keep the time from being refreshed.
		for range 9 {
			time.Sleep(3 * time.Second)
			r.pool.put(0)
			r.published(t, 1, 2, 0)
		}
		time.Sleep(3 * time.Second)
		fresh := r.published(t, 1, 2, 1)
		if got := fresh.Job.Time - third.Job.Time; fresh.Reason != Refresh || got != 30 || !slices.Equal(fresh.Transactions, third.Transactions) {
			t.Errorf("refresh: %v, %d s later, %d transactions", fresh.Reason, got, len(fresh.Transactions))
		}
		if fresh.LongPollID != third.LongPollID || third.LongPollID == second.LongPollID {
			t.Errorf("long-poll ids %q, %q, %q", second.LongPollID, third.LongPollID, fresh.LongPollID)
		}

		// A new tip does not wait for anything.
		r.pool.empty()
		r.advance(r.Tip().Height + 1)
		next := r.published(t, 2, 2, 1)
		if next.Parent.ID != r.Tip().ID || next.Reason != NewParent {
			t.Errorf("new tip: %v on height %d", next.Reason, next.Parent.Height)
		}
		for i, job := range []*Template{first, second, third, fresh, next} {
			if again, ok := r.source.Template(job.Job.ID); !ok || again != job {
				t.Errorf("template %d is not remembered", i)
			}
		}
	})
}

func TestSourceOffersFallbackWorkFromTheFirstSecond(t *testing.T) {
	bubble(t, func(r *rig) { r.advance(8) }, func(t *testing.T, r *running) {
		r.advance(9)
		slot := r.published(t, 2, 0, 0)
		if opens := slot.Parent.FallbackTime(); !slot.Job.Fallback || slot.Job.Time != opens {
			t.Errorf("fallback %v at time %d, want %d", slot.Job.Fallback, slot.Job.Time, opens)
		}
		// Until the slot opens there is nothing to refresh. The clock of the
		// source began one interval after height 8, which is when 9 was made.
		time.Sleep(120 * time.Second)
		r.published(t, 2, 0, 0)
		time.Sleep(30 * time.Second)
		if late := r.published(t, 2, 0, 1); late.Job.Time != slot.Job.Time+29 {
			t.Errorf("time %d, want %d", late.Job.Time, slot.Job.Time+29)
		}
		// A solution found for the first of them is as good.
		sol := solve(t, slot.Job, work.Solution{Version: slot.Job.Version, Time: slot.Job.Time})
		if outcome, id, err := r.source.SubmitSolution(t.Context(), sol); outcome != work.Accepted || err != nil || types.Hash(id) != r.Tip().ID {
			t.Errorf("%v, %v", outcome, err)
		}
		r.published(t, 3, 0, 1)
	})
}

func TestALargeTemplateIsPrecededByAnEmptyOne(t *testing.T) {
	var coin consensus.UTXO
	bubble(t, func(r *rig) { coin = r.coins(1)[0] }, func(t *testing.T, r *running) {
		small := r.published(t, 1, 0, 0)
		tx := r.pay(1000, coin)
		r.pool.put(1000, tx)
		for range emptyFirst {
			tx = r.pay(1000, output(tx, 0))
			r.pool.put(1000, tx)
		}
		time.Sleep(3 * time.Second)
		if large := r.published(t, 1, 1, 0); len(large.Transactions) != emptyFirst+1 {
			t.Fatalf("%d transactions", len(large.Transactions))
		}
		// The next block leaves all of them out.
		sol := solve(t, small.Job, work.Solution{Version: small.Job.Version, Time: small.Job.Time})
		if outcome, _, err := r.source.SubmitSolution(t.Context(), sol); outcome != work.Accepted || err != nil {
			t.Fatalf("%v, %v", outcome, err)
		}
		full := r.published(t, 2, 2, 0)
		if len(full.Transactions) != emptyFirst+1 || full.Reason != NewTransactions {
			t.Errorf("%v with %d transactions", full.Reason, len(full.Transactions))
		}
		first, ok := r.source.Template(full.Job.ID - 1)
		if !ok || first.Reason != NewParent || len(first.Transactions) != 0 || first.Parent.ID != full.Parent.ID {
			t.Errorf("before it: %+v", first)
		}
	})
}

func TestSourceRecoversWhenTheChainCannotBeRead(t *testing.T) {
	bubble(t, func(r *rig) { r.viewErr = errors.New("disk on fire") }, func(t *testing.T, r *running) {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r.source.Current() != nil {
			t.Fatal("a template was published without coins")
		}
		r.mu.Lock()
		r.viewErr = nil
		r.mu.Unlock()
		time.Sleep(retryDelay)
		r.published(t, 1, 0, 0)
	})
}

func TestSourceFollowsATipThatMovesWhileItBuilds(t *testing.T) {
	bubble(t, func(r *rig) {
		r.onView = func() { r.advance(2) }
	}, func(t *testing.T, r *running) {
		if got := r.published(t, 1, 0, 0); got.Parent.Height != 2 {
			t.Errorf("template on height %d", got.Parent.Height)
		}
	})
}

func TestRefreshWhenTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.advance(1)
		now := r.clock().Add(time.Hour)
		s, _ := r.source(func() time.Time { return now })
		for range 2 {
			if err := s.update(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(-time.Hour)
		if err := s.update(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := s.Current().Job.Time, clock(now); got != want {
			t.Errorf("time %d, want %d", got, want)
		}
		if got := s.Counts(); got[Refresh] != 1 || got[NewParent] != 1 {
			t.Errorf("published %v", got)
		}
	})
}

func TestLongPoll(t *testing.T) {
	var coins []consensus.UTXO
	bubble(t, func(r *rig) { coins = r.coins(1) }, func(t *testing.T, r *running) {
		first, err := r.source.WaitNewer(t.Context(), "")
		if err != nil || first != r.source.Current() {
			t.Fatalf("%v, %v", first, err)
		}
		type answer struct {
			t   *Template
			err error
		}
		poll := func(ctx context.Context, id string) chan answer {
			c := make(chan answer, 1)
			go func() { t, err := r.source.WaitNewer(ctx, id); c <- answer{t, err} }()
			synctest.Wait()
			return c
		}
		ctx, cancel := context.WithCancel(t.Context())
		waiting, given := poll(t.Context(), first.LongPollID), poll(ctx, first.LongPollID)
		time.Sleep(31 * time.Second) // a refresh is no news
		r.published(t, 1, 0, 1)
		cancel()
		if a := <-given; !errors.Is(a.err, context.Canceled) {
			t.Errorf("after cancelling: %+v", a)
		}
		select {
		case a := <-waiting:
			t.Fatalf("answered with nothing new: %+v", a)
		default:
		}
		r.pool.put(10_000, r.pay(10_000, coins[0]))
		time.Sleep(3 * time.Second)
		if a := <-waiting; a.err != nil || len(a.t.Transactions) != 1 {
			t.Errorf("after a transaction: %+v", a)
		}
		waiting = poll(t.Context(), r.source.Current().LongPollID)
		r.pool.empty()
		r.advance(r.Tip().Height + 1)
		if a := <-waiting; a.err != nil || a.t.Parent.ID != r.Tip().ID {
			t.Errorf("after a block: %+v", a)
		}
		if a := <-poll(t.Context(), "from another life"); a.t != r.source.Current() {
			t.Errorf("with a foreign id: %+v", a)
		}
	})
}

func TestNewSourceRefuses(t *testing.T) {
	r := newRig(t)
	for name, cfg := range map[string]SourceConfig{
		"no payout":           DefaultSourceConfig(nil),
		"payout to nobody":    DefaultSourceConfig(types.NullDataScript([]byte("x"))),
		"payout to validator": DefaultSourceConfig(types.KeyScript(types.PublicKey{Algorithm: types.P256})),
		"no interval":         {Payout: payout(), RefreshInterval: time.Second},
		"no refresh":          {Payout: payout(), TxInterval: time.Second},
		"coinbase too small":  {Payout: payout(), TxInterval: time.Second, RefreshInterval: time.Second, MaxCoinbase: 100},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewSource(r.builder, work.NewFeed(), r.add, cfg, time.Now, slog.New(slog.DiscardHandler)); err == nil {
				t.Error("accepted")
			}
		})
	}
}
