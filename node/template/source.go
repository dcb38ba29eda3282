package template

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Reason says why a template was published.
type Reason int

const (
	// NewParent: the tip changed; all work on the last parent is worthless.
	NewParent Reason = iota
	// NewTransactions: better transactions are at hand; earlier work still counts.
	NewTransactions
	// Refresh: only the time is new.
	Refresh
)

func (r Reason) String() string {
	return [...]string{"new parent", "new transactions", "refresh"}[r]
}

const (
	// emptyFirst is how many signature checks, some 100 µs each, a template for
	// a new parent may need to be worth waiting for. Above, a template without
	// transactions goes out first: miners must not work on the old parent
	// meanwhile.
	emptyFirst = 100
	// kept is how many templates are remembered for their solutions.
	kept = 128
	// keptNotes bounds the notes of older templates, in bytes.
	keptNotes = 64 << 20
	// badPlanPause is the pause between complaints about payout plans.
	badPlanPause = time.Minute
	// retryDelay is the pause after a template could not be made.
	retryDelay = time.Second
)

// SourceConfig says what a Source publishes and how often.
type SourceConfig struct {
	// Payout is the output script that mined blocks pay, where Payouts does not say
	// otherwise.
	Payout []byte
	// Payouts decides what coinbases pay; nil: all to Payout. A plan that cannot be
	// mined is logged, and its template pays all to Payout: mining never stops.
	Payouts Payouts
	// MaxCoinbase is the size, in bytes, that no coinbase passes; 0 is
	// DefaultMaxCoinbase. With more there are devices that cannot mine.
	MaxCoinbase int
	// MaxVariants is how many variants a template may have; 0 is 20,000. See
	// Source.Variant.
	MaxVariants int
	// TxInterval is the least time between a template and the next on the same
	// parent that differs in transactions.
	TxInterval time.Duration
	// RefreshInterval is the most time a template stays, so that the time in
	// headers follows the clock.
	RefreshInterval time.Duration
}

// DefaultSourceConfig returns the usual intervals with a payout script.
func DefaultSourceConfig(payout []byte) SourceConfig {
	return SourceConfig{Payout: payout, TxInterval: 3 * time.Second, RefreshInterval: 30 * time.Second}
}

// Solved is a block that a solution completed.
type Solved struct {
	Block  *types.Block
	Height uint32
	Reward int64  // what its coinbase pays, base units
	Finder string // the solution's
	Note   []byte // of the plan by which its coinbase pays
}

// AddBlock hands a solved block to the chain: Accepted when it is on the best
// chain now, Stale when it is on another, Held when it is not due yet. The
// error says why the chain did not take it; the outcome does not matter then.
type AddBlock func(Solved) (work.Outcome, error)

// Source keeps the newest template published on a work feed, and takes the
// solutions found for it. It implements work.Submitter.
type Source struct {
	builder *Builder
	feed    *work.Feed
	add     AddBlock
	cfg     SourceConfig
	now     func() time.Time
	log     *slog.Logger

	mu      sync.Mutex
	current *Template
	fresh   time.Time     // when current was published, or last found to need no refresh
	recent  []*remembered // oldest first, current last
	counts  map[Reason]uint64
	// when a plan that cannot be mined was last logged: of a template, of a variant
	badPlan, badVariant time.Time
	changed             chan struct{}
}

// NewSource returns a source; nothing is published before Run. now is the clock
// for header times.
func NewSource(b *Builder, feed *work.Feed, add AddBlock, cfg SourceConfig, now func() time.Time, log *slog.Logger) (*Source, error) {
	if !payable(cfg.Payout) {
		return nil, fmt.Errorf("payout script %x is none that a mined block can pay: use the script of an address", cfg.Payout)
	}
	if cfg.TxInterval <= 0 || cfg.RefreshInterval <= 0 {
		return nil, fmt.Errorf("intervals %v for transactions and %v for refresh: want more than 0", cfg.TxInterval, cfg.RefreshInterval)
	}
	if cfg.MaxCoinbase == 0 {
		cfg.MaxCoinbase = DefaultMaxCoinbase
	}
	if size := coinbaseSize(b.tag, fixed(cfg.Payout)(0, 0).Outputs); size > cfg.MaxCoinbase {
		return nil, fmt.Errorf("a coinbase that pays one script has %d bytes, at most %d are allowed: set stratum.max_coinbase to %d or more", size, cfg.MaxCoinbase, size)
	}
	if cfg.MaxVariants == 0 {
		cfg.MaxVariants = defaultMaxVariants
	}
	return &Source{
		builder: b, feed: feed, add: add, cfg: cfg, now: now, log: log,
		counts: make(map[Reason]uint64), changed: make(chan struct{}),
	}, nil
}

// Run publishes templates until ctx ends: at once for a new parent, soon for
// new transactions, and from time to time for the clock. It returns nil. A
// template that cannot be made is logged and tried again.
func (s *Source) Run(ctx context.Context) error {
	for {
		// Taken before looking, so that no change in between is missed.
		tip, pool := s.builder.chain.Changed(), s.builder.pool.Changed()
		err := s.update(ctx)
		pause := s.untilRefresh()
		if err != nil {
			s.log.Error("no new block template", "err", err, "retry", retryDelay)
			pause = retryDelay
		}
		if !s.wait(ctx, tip, pool, pause) {
			return nil
		}
	}
}

// wait returns true when there is reason to look for a better template: the tip
// changed, the transactions did and TxInterval has passed, or until has passed.
// It returns false when ctx ends.
func (s *Source) wait(ctx context.Context, tip, pool <-chan struct{}, until time.Duration) bool {
	timer := time.NewTimer(until)
	defer timer.Stop()
	pause := time.NewTimer(s.cfg.TxInterval)
	defer pause.Stop()
	var due <-chan struct{} // the pool, once transactions may lead to a template
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tip:
			return true
		case <-timer.C:
			return true
		case <-pause.C:
			due = pool
		case <-due:
			return true
		}
	}
}

// update publishes a template unless the current one is as good.
func (s *Source) update(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.tryUpdate(); !errors.Is(err, ErrParentMoved) {
			return err
		}
	}
	return nil
}

func (s *Source) tryUpdate() error {
	parent, last := s.builder.chain.Tip(), s.Current()
	sel, err := s.builder.choose(&parent, s.room())
	if err != nil {
		return err
	}
	reason := NewTransactions
	switch {
	case last == nil || last.Parent.ID != parent.ID:
		reason = NewParent
		if sel.sigOps() > emptyFirst {
			if err := s.build(parent, selection{}, reason); err != nil {
				return err
			}
			reason = NewTransactions
		}
	case sel.same(last):
		s.refresh(last)
		return nil
	}
	return s.build(parent, sel, reason)
}

func (s *Source) build(parent consensus.State, sel selection, reason Reason) error {
	t, err := s.builder.mined(parent, s.now(), s.plan, s.room(), sel)
	if _, rule := consensus.RuleOf(err); rule && s.cfg.Payouts != nil {
		// Whatever check has missed must not stop the work.
		s.sayBadPlan(&s.badPlan, "block template pays everything to the operator's address, as the payout plan makes it invalid", parent.ChildHeight(), err)
		t, err = s.builder.mined(parent, s.now(), fixed(s.cfg.Payout), s.room(), sel)
	}
	if err != nil {
		return err
	}
	s.publish(t, reason)
	return nil
}

// room is what the largest coinbase takes beyond what every block has reserved.
func (s *Source) room() int { return max(0, s.cfg.MaxCoinbase-DefaultMaxCoinbase) }

// plan returns what a coinbase is to pay: all to the operator where there is no
// plan, or none that can be mined.
func (s *Source) plan(height uint32, reward int64) Plan {
	if s.cfg.Payouts == nil {
		return fixed(s.cfg.Payout)(height, reward)
	}
	p := s.cfg.Payouts.Plan(height, reward)
	if err := p.check(reward, s.builder.tag, s.cfg.MaxCoinbase); err != nil {
		s.sayBadPlan(&s.badPlan, "block template pays everything to the operator's address, as there is no usable payout plan: settle its block by hand if it is found", height, err)
		return fixed(s.cfg.Payout)(height, reward)
	}
	return p
}

// sayBadPlan logs what is wrong with a plan, at most once in badPlanPause.
func (s *Source) sayBadPlan(said *time.Time, consequence string, height uint32, err error) {
	now := s.now()
	s.mu.Lock()
	age := now.Sub(*said)
	quiet := !said.IsZero() && age >= 0 && age < badPlanPause
	if !quiet {
		*said = now
	}
	s.mu.Unlock()
	if !quiet {
		s.log.Error(consequence, "height", height, "err", err)
	}
}

// refresh publishes the last template with the time of the clock when it has
// been there long enough. Before a slot opens to miners the time stays, and so
// does the template.
func (s *Source) refresh(last *Template) {
	if s.untilRefresh() > 0 {
		return
	}
	now := s.now()
	if minedTime(&last.Parent, now) == last.Job.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fresh = now
		return
	}
	s.publish(s.builder.refreshed(last, now, s.plan), Refresh)
}

// untilRefresh returns how long the current template may stay: no longer at all
// when the clock was set back, as its time would lie ahead.
func (s *Source) untilRefresh() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.now().Sub(s.fresh)
	if age < 0 {
		return 0
	}
	return max(0, s.cfg.RefreshInterval-age)
}

func (s *Source) publish(t *Template, reason Reason) {
	t.Reason = reason
	s.mu.Lock()
	s.counts[reason]++
	s.current, s.fresh = t, s.now()
	s.remember(t)
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.feed.Publish(t.Job)
	s.log.Debug("block template", "job", t.Job.ID, "height", t.Job.Height, "reason", reason,
		"transactions", len(t.Transactions), "fallback", t.Job.Fallback)
}

// remember adds a template and forgets those of parents before the last one:
// a block on the last parent may still win a tie, older ones cannot matter. The
// oldest also go when there are more templates, or variants or notes of them, than
// are kept.
func (s *Source) remember(t *Template) {
	s.recent = append(s.recent, &remembered{Template: t})
	parents, variants, notes := 1, 0, 0
	for i := len(s.recent) - 2; i >= 0; i-- {
		if s.recent[i].Parent.ID != s.recent[i+1].Parent.ID {
			parents++
		}
		variants += s.recent[i].count()
		notes += len(s.recent[i].Note)
		if parents > 2 || len(s.recent)-i > kept || variants > keptVariants*s.cfg.MaxVariants || notes > keptNotes {
			s.recent = append([]*remembered(nil), s.recent[i+1:]...)
			return
		}
	}
}

// Current returns the newest template, nil before the first.
func (s *Source) Current() *Template {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Counts returns how many templates were published for each reason.
func (s *Source) Counts() map[Reason]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[Reason]uint64, len(s.counts))
	for r, n := range s.counts {
		counts[r] = n
	}
	return counts
}

// WaitNewer returns a template whose LongPollID is not the given one, as soon as
// there is one. The error is the context's.
func (s *Source) WaitNewer(ctx context.Context, longPollID string) (*Template, error) {
	for {
		s.mu.Lock()
		t, changed := s.current, s.changed
		s.mu.Unlock()
		if t != nil && t.LongPollID != longPollID {
			return t, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
