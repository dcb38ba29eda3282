package signer

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/cluster"
)

// Token makes signatures. It is the one thing here that is given a digest, and
// nothing outside this package reaches it.
type Token interface {
	// Sign returns a low-S signature r ‖ s over digest. An error means that
	// none was made or that what was made is lost.
	Sign(ctx context.Context, key types.PublicKey, digest [32]byte) ([64]byte, error)
	// Ready returns nil when Sign for this key can be expected to work, or why not.
	Ready(key types.PublicKey) error
	// Reset lets the token be used again after a person has looked into why it was
	// not.
	Reset(ctx context.Context) error
}

// Audit is the log of what the service did: an *audit.Log. What it has not
// written is not released.
type Audit interface {
	Append(audit.Entry) (audit.Head, error)
	Head() audit.Head
	HashAt(seq uint64) (types.Hash, error)
}

// Claims are what boxes that hold the same keys have in common: a
// *cluster.Claims.
type Claims interface {
	// Await lets the box that leads go first: false if ctx ended.
	Await(ctx context.Context, patience time.Duration) bool
	Leading() bool
	Known(context.Context) ([]cluster.Mark, error)
	Claim(context.Context, cluster.Claim) (seal *[64]byte, err error)
	Seal(context.Context, cluster.Claim, [64]byte) ([64]byte, error)
}

// RateLimit bounds how fast new signatures are made; repeats are free.
type RateLimit struct {
	PerSecond float64
	Burst     int
}

// ServiceConfig is what a Service needs. All fields but Claims and HaltFile are
// required.
type ServiceConfig struct {
	Network *consensus.Network
	Journal *Journal
	Token   Token
	Audit   Audit
	Claims  Claims            // nil: no other box has these keys
	Keys    []types.PublicKey // the daemon's own
	Limit   RateLimit
	// HaltFile is where a halt outlives the process; empty: it does not.
	HaltFile string
	Clock    func() time.Time
	Log      *slog.Logger

	files durable.FS // of the HaltFile; nil: the real one
}

// Service decides what is signed. Requests for one key are served one after the
// other, those for different keys side by side.
type Service struct {
	policy  policy
	journal *Journal
	token   Token
	claims  Claims
	keys    []types.PublicKey
	turns   map[types.PublicKey]chan struct{} // mutexes that can be given up on
	clock   func() time.Time
	brake   *brake
	books
}

// NewService returns a Service; it starts nothing.
func NewService(c ServiceConfig) (*Service, error) {
	if c.files == nil {
		c.files = durable.OS()
	}
	b, err := openBrake(c.files, c.HaltFile)
	if err != nil {
		return nil, err
	}
	s := &Service{
		policy:  policy{c.Network, make(map[types.PublicKey]bool), rate.NewLimiter(rate.Limit(c.Limit.PerSecond), c.Limit.Burst)},
		journal: c.Journal,
		token:   c.Token,
		claims:  c.Claims,
		keys:    c.Keys,
		turns:   make(map[types.PublicKey]chan struct{}),
		clock:   c.Clock,
		brake:   b,
		books:   newBooks(c.Audit, c.Clock, c.Log),
	}
	if s.anchor, err = lastAnchor(c.Journal); err != nil {
		return nil, err
	}
	for _, k := range c.Keys {
		s.policy.keys[k] = true
		s.turns[k] = make(chan struct{}, 1)
	}
	return s, nil
}

// SignSlot checks a request and returns the one signature there is, or will
// ever be, for it. The error is a *Refusal, or an *Error of kind ErrUnavailable
// (ask again) or ErrInternal. When ctx ends the token may still finish, but
// nothing is released: asking again is safe and is the right thing to do.
func (s *Service) SignSlot(ctx context.Context, r Request) (Response, error) {
	return s.serve(ctx, subject{audit.KindBlock, r.Height}, r.Index, func() (*task, error) { return s.block(&r) })
}

// Attest does for a vote what SignSlot does for a block.
func (s *Service) Attest(ctx context.Context, r VoteRequest) (Response, error) {
	return s.serve(ctx, subject{audit.KindVote, r.Target.Height}, r.Index, func() (*task, error) { return s.vote(&r) })
}

// SignSetChange puts a key under a change of the validator set, for the people
// who confirmed it: see authority.SetChangeRequest for the rules. Of one number a
// key signs one set.
func (s *Service) SignSetChange(ctx context.Context, r authority.SetChangeRequest) (Response, error) {
	return s.serve(ctx, subject{audit.KindSetChange, r.Number()}, r.Index, func() (*task, error) { return s.setChange(&r) })
}

// SlotRecord returns what the journal holds of a height, for a node that
// recovers; ok is false when it holds nothing.
func (s *Service) SlotRecord(_ context.Context, height uint32) (record SlotRecord, ok bool, err error) {
	return s.journal.Slot(height)
}

// KeyStatus is the state of one key.
type KeyStatus struct {
	Index     int             `json:"index"` // in the network's first validator set, -1: it is not in it
	PublicKey types.PublicKey `json:"publicKey"`
	Ready     bool            `json:"ready"`
	Error     string          `json:"error,omitempty"` // why it is not ready
	// LastSigned is the highest height at which the journal let the key sign a
	// block, LastVote that of the target of its last vote. 0: none.
	LastSigned uint32 `json:"lastSigned"`
	LastVote   uint32 `json:"lastVote"`
}

// Status is a snapshot of the daemon.
type Status struct {
	Network  types.Hash      `json:"network"`
	Keys     []KeyStatus     `json:"keys"`
	Journal  JournalStatus   `json:"journal"`
	Signed   uint64          `json:"signed"`   // blocks and votes since the start, without repeats
	Refusals map[Rule]uint64 `json:"refusals"` // since the start
	Repeated uint64          `json:"repeated"` // since the start
	Failed   uint64          `json:"failed"`   // since the start
	Halt     *Halt           `json:"halt"`     // null: it signs
	// Told: a node has told it what the chain shows of its keys since the start.
	Told bool `json:"told"`
	// Audit is the end of the audit log, which the next block to be signed must
	// carry; null without such a log.
	Audit *consensus.AuditAnchor `json:"audit"`
	DaemonStatus
}

// Status describes the daemon.
func (s *Service) Status(context.Context) Status {
	st := Status{Network: s.policy.network.ID, Journal: s.journal.Status()}
	for _, k := range s.keys {
		ks := KeyStatus{Index: indexOf(s.policy.network, k), PublicKey: k, Ready: true}
		ks.LastSigned, ks.LastVote = s.journal.Last(k)
		if err := s.token.Ready(k); err != nil {
			ks.Ready, ks.Error = false, err.Error()
		}
		st.Keys = append(st.Keys, ks)
	}
	st.Halt = s.brake.state()
	s.count(&st)
	return st
}

// indexOf returns the position of a key in the network's first validator set, or -1.
func indexOf(n *consensus.Network, key types.PublicKey) int {
	for i, k := range n.Validators {
		if k == key {
			return i
		}
	}
	return -1
}
