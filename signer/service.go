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
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Response{}, failed(ErrUnavailable, ctx.Err(), "the signer is busy")
	}
	sig, repeated, err := s.sign(ctx, &r)
	s.account(&r, repeated, err)
	if err != nil {
		return Response{}, err
	}
	return Response{Index: r.Index, Signature: sig[:], Repeated: repeated}, nil
}

func (s *Service) sign(ctx context.Context, r *Request) (sig [64]byte, repeated bool, err error) {
	prop, err := r.parse()
	if err != nil {
		return sig, false, err
	}
	key, err := s.policy.consensus(prop)
	if err != nil {
		return sig, false, err
	}
	claim := &Claim{
		Height: r.Height, Key: key, Digest: s.policy.network.Digest(prop),
		Header: prop.Header, CoinOnline: r.CoinOnline,
	}
	// What was released once may be released again, whatever the clock says.
	sig, ok, err := s.journal.Sealed(claim.Height, key, claim.Digest)
	if err != nil {
		return sig, false, err
	}
	if ok {
		return s.verified(claim, sig, true)
	}
	now := s.clock()
	if err := s.policy.clock(prop, now); err != nil {
		return sig, false, err
	}
	// A key that cannot sign must not spend its claim, nor another key's turn.
	if err := s.token.Ready(key); err != nil {
		return sig, false, failed(ErrUnavailable, err, "validator %d cannot sign now", r.Index)
	}
	if err := s.policy.rate(now); err != nil {
		return sig, false, err
	}
	return s.claimAndSign(ctx, claim)
}

// claimAndSign is the heart: claim + fsync, token, verify, seal + fsync.
func (s *Service) claimAndSign(ctx context.Context, c *Claim) (sig [64]byte, repeated bool, err error) {
	seal, err := s.journal.Claim(c)
	if err != nil {
		return sig, false, err
	}
	if seal != nil {
		return s.verified(c, *seal, true)
	}
	sig, err = s.token.Sign(ctx, c.Key, c.Digest)
	if err != nil {
		return [64]byte{}, false, failed(ErrUnavailable, err, "the token did not sign for %s; the claim on height %d stands, ask again with the same block", c.Key, c.Height)
	}
	// The worker's client has verified it too. This is the last look before it
	// becomes the only signature there will ever be.
	if _, _, err := s.verified(c, sig, false); err != nil {
		return [64]byte{}, false, err
	}
	sig, err = s.journal.Seal(c.Height, c.Key, sig)
	return sig, false, err
}

func (s *Service) verified(c *Claim, sig [64]byte, repeated bool) ([64]byte, bool, error) {
	if err := c.Key.Verify(c.Digest, sig); err != nil {
		return [64]byte{}, false, failed(ErrInternal, err, "a signature for height %d does not verify under %s and is not released: check the token and the configured key", c.Height, c.Key)
	}
	return sig, repeated, nil
}

// account keeps the counters and the log.
func (s *Service) account(r *Request, repeated bool, err error) {
	var refusal *Refusal
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.As(err, &refusal):
		s.refusals[refusal.Rule]++
		s.log.Warn("refused to sign", "height", r.Height, "validator", r.Index, "rule", string(refusal.Rule), "detail", refusal.Detail)
	case err != nil:
		s.log.Error("could not sign", "height", r.Height, "validator", r.Index, "err", err)
	case repeated:
		s.log.Info("returned the sealed signature again", "height", r.Height, "validator", r.Index)
	default:
		s.signed++
		s.log.Info("signed", "height", r.Height, "validator", r.Index)
	}
}

// SlotRecord returns what the journal holds of a height, for a node that
// recovers; ok is false when it holds nothing.
func (s *Service) SlotRecord(_ context.Context, height uint32) (record SlotRecord, ok bool, err error) {
	return s.journal.Slot(height)
}

// KeyStatus is the state of one key.
type KeyStatus struct {
	Index     int             `json:"index"` // in the network's first validator set
	PublicKey types.PublicKey `json:"publicKey"`
	Ready     bool            `json:"ready"`
	Error     string          `json:"error,omitempty"` // why it is not ready
}

// Status is a snapshot of the daemon.
type Status struct {
	Network  types.Hash      `json:"network"`
	Keys     []KeyStatus     `json:"keys"`
	Journal  JournalStatus   `json:"journal"`
	Signed   uint64          `json:"signed"`   // since the start, without repeats
	Refusals map[Rule]uint64 `json:"refusals"` // since the start
}

// Status describes the daemon.
func (s *Service) Status(context.Context) Status {
	st := Status{Network: s.policy.network.ID, Journal: s.journal.Status()}
	for _, k := range s.keys {
		ks := KeyStatus{Index: indexOf(s.policy.network, k), PublicKey: k, Ready: true}
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
