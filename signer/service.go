package signer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Token makes signatures. It is the one thing here that is given a digest, and
// nothing outside this package reaches it.
type Token interface {
	// Sign returns a low-S signature r ‖ s over digest. An error means that
	// none was made or that what was made is lost.
	Sign(ctx context.Context, key types.PublicKey, digest [32]byte) ([64]byte, error)
	// Ready returns nil when Sign for this key can be expected to work, or why not.
	Ready(key types.PublicKey) error
}

// RateLimit bounds how fast new signatures are made; repeats are free.
type RateLimit struct {
	PerSecond float64
	Burst     int
}

// ServiceConfig is what a Service needs. All fields are required.
type ServiceConfig struct {
	Network *consensus.Network
	Journal *Journal
	Token   Token
	Keys    []types.PublicKey // the daemon's own
	Limit   RateLimit
	Clock   func() time.Time
	Log     *slog.Logger
}

// Service decides what is signed. Requests are served one after the other.
type Service struct {
	policy  policy
	journal *Journal
	token   Token
	keys    []types.PublicKey
	clock   func() time.Time
	log     *slog.Logger

	turn chan struct{} // a mutex that can be given up on

	mu       sync.Mutex
	refusals map[Rule]uint64
	signed   uint64
}

// NewService returns a Service; it starts nothing.
func NewService(c ServiceConfig) *Service {
	keys := make(map[types.PublicKey]bool)
	for _, k := range c.Keys {
		keys[k] = true
	}
	return &Service{
		policy:   policy{c.Network, keys, rate.NewLimiter(rate.Limit(c.Limit.PerSecond), c.Limit.Burst)},
		journal:  c.Journal,
		token:    c.Token,
		keys:     c.Keys,
		clock:    c.Clock,
		log:      c.Log,
		turn:     make(chan struct{}, 1),
		refusals: make(map[Rule]uint64),
	}
}

// SignSlot checks a request and returns the one signature there is, or will
// ever be, for it. The error is a *Refusal, or an *Error of kind ErrUnavailable
// (ask again) or ErrInternal. When ctx ends the token may still finish, but
// nothing is released: asking again is safe and is the right thing to do.
func (s *Service) SignSlot(ctx context.Context, r Request) (Response, error) {
	return s.serve(ctx, subject{"block", r.Height, r.Index}, func() (*task, error) { return s.block(&r) })
}

// Attest does for a vote what SignSlot does for a block.
func (s *Service) Attest(ctx context.Context, r VoteRequest) (Response, error) {
	return s.serve(ctx, subject{"vote", r.Target.Height, r.Index}, func() (*task, error) { return s.vote(&r) })
}

// subject says in the log what a request is about.
type subject struct {
	kind   string
	height uint32
	index  uint8
}

// task is a request that the rules of the chain let pass, and the journal's part
// in it: all that blocks and votes differ in.
type task struct {
	key    types.PublicKey
	digest types.Hash
	clock  func(now time.Time) error
	sealed func() (sig [64]byte, ok bool, err error)
	claim  func() (seal *[64]byte, err error)
	seal   func(sig [64]byte) ([64]byte, error)
}

func (s *Service) block(r *Request) (*task, error) {
	prop, err := r.parse()
	if err != nil {
		return nil, err
	}
	key, err := s.policy.consensus(prop)
	if err != nil {
		return nil, err
	}
	j, c := s.journal, &Claim{
		Height: r.Height, Key: key, Digest: s.policy.network.Digest(prop),
		Header: prop.Header, CoinOnline: r.CoinOnline,
	}
	return &task{
		key: key, digest: c.Digest,
		clock:  func(now time.Time) error { return s.policy.clock(prop, now) },
		sealed: func() ([64]byte, bool, error) { return j.Sealed(c.Height, key, c.Digest) },
		claim:  func() (*[64]byte, error) { return j.Claim(c) },
		seal:   func(sig [64]byte) ([64]byte, error) { return j.Seal(c.Height, key, sig) },
	}, nil
}

func (s *Service) vote(r *VoteRequest) (*task, error) {
	ballot, err := r.parse()
	if err != nil {
		return nil, err
	}
	key, err := s.policy.ballot(ballot)
	if err != nil {
		return nil, err
	}
	j, l := s.journal, ballot.Link
	return &task{
		key: key, digest: l.Digest(s.policy.network.ID),
		clock:  func(now time.Time) error { return s.policy.future(&ballot.Block.Header, now) },
		sealed: func() ([64]byte, bool, error) { return j.SealedVote(key, l) },
		claim:  func() (*[64]byte, error) { return j.ClaimVote(key, l) },
		seal:   func(sig [64]byte) ([64]byte, error) { return j.SealVote(key, l, sig) },
	}, nil
}

func (s *Service) serve(ctx context.Context, about subject, prepare func() (*task, error)) (Response, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Response{}, failed(ErrUnavailable, ctx.Err(), "the signer is busy")
	}
	t, err := prepare()
	var sig [64]byte
	var repeated bool
	if err == nil {
		sig, repeated, err = s.sign(ctx, t)
	}
	s.account(about, repeated, err)
	if err != nil {
		return Response{}, err
	}
	return Response{Index: about.index, Signature: sig[:], Repeated: repeated}, nil
}

func (s *Service) sign(ctx context.Context, t *task) (sig [64]byte, repeated bool, err error) {
	// What was released once may be released again, whatever the clock says.
	sig, ok, err := t.sealed()
	if err != nil {
		return sig, false, err
	}
	if ok {
		return t.verified(sig, true)
	}
	now := s.clock()
	if err := t.clock(now); err != nil {
		return sig, false, err
	}
	// A key that cannot sign must not spend its claim, nor another key's turn.
	if err := s.token.Ready(t.key); err != nil {
		return sig, false, failed(ErrUnavailable, err, "%s cannot sign now", t.key)
	}
	if err := s.policy.rate(now); err != nil {
		return sig, false, err
	}
	return s.claimAndSign(ctx, t)
}

// claimAndSign is the heart: claim + fsync, token, verify, seal + fsync.
func (s *Service) claimAndSign(ctx context.Context, t *task) (sig [64]byte, repeated bool, err error) {
	seal, err := t.claim()
	if err != nil {
		return sig, false, err
	}
	if seal != nil {
		return t.verified(*seal, true)
	}
	sig, err = s.token.Sign(ctx, t.key, t.digest)
	if err != nil {
		return [64]byte{}, false, failed(ErrUnavailable, err, "the token did not sign for %s; its claim stands, ask again for the same", t.key)
	}
	// The worker's client has verified it too. This is the last look before it
	// becomes the only signature there will ever be.
	if _, _, err := t.verified(sig, false); err != nil {
		return [64]byte{}, false, err
	}
	sig, err = t.seal(sig)
	return sig, false, err
}

func (t *task) verified(sig [64]byte, repeated bool) ([64]byte, bool, error) {
	if err := t.key.Verify(t.digest, sig); err != nil {
		return [64]byte{}, false, failed(ErrInternal, err, "a signature does not verify under %s and is not released: check the token and the configured key", t.key)
	}
	return sig, repeated, nil
}

// account keeps the counters and the log.
func (s *Service) account(about subject, repeated bool, err error) {
	log := s.log.With("kind", about.kind, "height", about.height, "validator", about.index)
	var refusal *Refusal
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.As(err, &refusal):
		s.refusals[refusal.Rule]++
		log.Warn("refused to sign", "rule", string(refusal.Rule), "detail", refusal.Detail)
	case err != nil:
		log.Error("could not sign", "err", err)
	case repeated:
		log.Info("returned the sealed signature again")
	default:
		s.signed++
		log.Info("signed")
	}
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
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Signed, st.Refusals = s.signed, maps.Clone(s.refusals)
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
