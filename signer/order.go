package signer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/cluster"
)

// task is a request that the rules of the chain let pass, and the parts that
// journal and cluster have in it: all that blocks and votes differ in.
type task struct {
	claimed cluster.Claim
	sealed  func() (sig [64]byte, ok bool, err error)
	rules   func(now time.Time) error // of time, and of what this signer did before
	claim   func() (seal *[64]byte, err error)
	seal    func(sig [64]byte) ([64]byte, error)
	anchor  *consensus.AuditAnchor // carried by a block
	// Of a set change: who confirmed it, and why it is made.
	actor, detail string
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
	anchor := consensus.AnchorOf(prop.CoinOnline)
	j, c := s.journal, &Claim{
		Height: r.Height, Key: key, Digest: s.policy.network.Digest(prop),
		Header: prop.Header, CoinOnline: r.CoinOnline,
	}
	return &task{
		claimed: cluster.Claim{Kind: cluster.Block, Key: key, Height: c.Height, Digest: c.Digest},
		rules: func(now time.Time) error {
			if err := s.policy.clock(prop, now); err != nil {
				return err
			}
			return s.anchored(anchor)
		},
		anchor: anchor,
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
		claimed: cluster.Claim{Kind: cluster.Vote, Key: key, Height: l.Target.Height, Source: l.Source, Digest: l.Digest(s.policy.network.ID)},
		rules:   func(now time.Time) error { return s.policy.voteClock(ballot, now) },
		sealed:  func() ([64]byte, bool, error) { return j.SealedVote(key, l) },
		claim:   func() (*[64]byte, error) { return j.ClaimVote(key, l) },
		seal:    func(sig [64]byte) ([64]byte, error) { return j.SealVote(key, l, sig) },
	}, nil
}

func (s *Service) setChange(r *authority.SetChangeRequest) (*task, error) {
	key, digest, err := r.Check(s.policy.network)
	if err != nil {
		var refusal *authority.Refusal
		if errors.As(err, &refusal) {
			return nil, &Refusal{Rule: Rule(refusal.Rule), Detail: refusal.Detail}
		}
		return nil, failed(ErrInternal, err, "checking a set change")
	}
	if !s.policy.keys[key] {
		return nil, refuse(RuleKeyNotHeld, "validator %d, %s, is none of this signer's keys", r.Index, key)
	}
	detail := "reason: " + r.Reason
	if r.Authorisation.Scripted {
		detail += " (answers came from a file)"
	}
	j, number := s.journal, r.Number()
	return &task{
		claimed: cluster.Claim{Kind: cluster.SetChange, Key: key, Height: number, Digest: digest},
		rules:   func(time.Time) error { return nil },
		sealed: func() (sig [64]byte, ok bool, err error) {
			sig, ok = j.SealedSetChange(key, number, digest)
			return sig, ok, nil
		},
		claim:  func() (*[64]byte, error) { return j.ClaimSetChange(key, number, digest) },
		seal:   func(sig [64]byte) ([64]byte, error) { return j.SealSetChange(key, number, sig) },
		actor:  strings.Join(r.Authorisation.People, ", "),
		detail: detail,
	}, nil
}

// serve answers a request and books the answer, before it is given.
func (s *Service) serve(ctx context.Context, about subject, index uint8, prepare func() (*task, error)) (Response, error) {
	sig, repeated, err := s.answer(ctx, about, prepare)
	if err != nil {
		return Response{}, err
	}
	return Response{Index: index, Signature: sig[:], Repeated: repeated}, nil
}

func (s *Service) answer(ctx context.Context, about subject, prepare func() (*task, error)) (sig [64]byte, repeated bool, err error) {
	t, err := prepare()
	if err != nil {
		return sig, false, s.refused(about, nil, err)
	}
	turn := s.turns[t.claimed.Key]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return sig, false, s.refused(about, t, failed(ErrUnavailable, ctx.Err(), "the signer is busy"))
	}
	sig, repeated, err = s.sign(ctx, t)
	if err == nil {
		err = s.released(about, t, sig, repeated)
	}
	// Whoever halts means what is under way as well.
	if err == nil {
		err = s.running()
	}
	if err != nil {
		return [64]byte{}, false, s.refused(about, t, err)
	}
	return sig, repeated, nil
}

// running refuses while signing is halted.
func (s *Service) running() error {
	if h := s.brake.state(); h != nil {
		return refuse(RuleHalted, "%s halted signing at %s: %s; two people have to resume it", h.By, h.At.Format(time.RFC3339), h.Reason)
	}
	return nil
}

func (s *Service) sign(ctx context.Context, t *task) (sig [64]byte, repeated bool, err error) {
	if err := s.running(); err != nil {
		return sig, false, err
	}
	// What was released once may be released again, whatever the clock says.
	sig, ok, err := t.sealed()
	if err != nil {
		return sig, false, err
	}
	if ok {
		return s.verified(t, sig, true)
	}
	if !s.told() {
		return sig, false, refuse(RuleUnseen, "no node has said yet what the chain shows of this signer's keys")
	}
	now := s.clock()
	if err := t.rules(now); err != nil {
		return sig, false, err
	}
	// A key that cannot sign must not spend its claim, nor another key's turn.
	if err := s.token.Ready(t.claimed.Key); err != nil {
		return sig, false, failed(ErrUnavailable, err, "%s cannot sign now", t.claimed.Key)
	}
	if err := s.policy.rate(now); err != nil {
		return sig, false, err
	}
	return s.claimAndSign(ctx, t)
}

// claimAndSign is the heart: claim + fsync, the cluster's claim, token, verify,
// the cluster's seal, seal + fsync. The cluster's seal comes before the
// journal's: of two boxes that signed the same claim the first one's bytes count,
// and no journal ever holds others.
func (s *Service) claimAndSign(ctx context.Context, t *task) (sig [64]byte, repeated bool, err error) {
	if s.claims != nil && !s.claims.Await(ctx, standByPatience) {
		return sig, false, failed(ErrUnavailable, ctx.Err(), "another box goes first")
	}
	seal, err := t.claim()
	if err != nil {
		return sig, false, err
	}
	if seal == nil {
		seal, err = s.claimForAll(ctx, t)
		if err != nil {
			return sig, false, err
		}
		if seal != nil { // another box was first
			if sig, _, err = s.verified(t, *seal, true); err == nil {
				sig, err = t.seal(sig)
			}
			return sig, true, err
		}
	}
	if seal != nil {
		return s.verified(t, *seal, true)
	}
	sig, err = s.token.Sign(ctx, t.claimed.Key, t.claimed.Digest)
	if err != nil {
		return [64]byte{}, false, failed(ErrUnavailable, err, "the token did not sign for %s; its claim stands, ask again for the same", t.claimed.Key)
	}
	// The worker's client has verified it too. This is the last look before it
	// becomes the only signature there will ever be.
	if _, _, err := s.verified(t, sig, false); err != nil {
		return [64]byte{}, false, err
	}
	if s.claims != nil {
		if sig, err = s.claims.Seal(ctx, t.claimed, sig); err != nil {
			return [64]byte{}, false, s.ofCluster(err)
		}
		if sig, _, err = s.verified(t, sig, false); err != nil {
			return sig, false, err
		}
	}
	sig, err = t.seal(sig)
	return sig, false, err
}

// standByPatience is how long a box that does not lead leaves a request to the
// one that does. Its lease ends sooner when it dies.
const standByPatience = 5 * time.Second

func (s *Service) claimForAll(ctx context.Context, t *task) (*[64]byte, error) {
	if s.claims == nil {
		return nil, nil
	}
	seal, err := s.claims.Claim(ctx, t.claimed)
	if err != nil {
		return nil, s.ofCluster(err)
	}
	return seal, nil
}

// ofCluster says in the service's terms why the cluster did not answer as hoped.
// A cluster that fell back, or is not the one it was, halts everything.
func (s *Service) ofCluster(err error) error {
	var conflict *cluster.Conflict
	switch {
	case errors.As(err, &conflict):
		return refuse(RuleCluster, "%v", err)
	case cluster.IsTerminal(err):
		s.halt(fmt.Sprintf("the cluster cannot be trusted: %v", err))
		return failed(ErrInternal, err, "the cluster of this signer's boxes cannot be trusted; signing is halted")
	}
	return failed(ErrUnavailable, err, "the cluster did not answer; the claim may stand, ask again for the same")
}

// verified refuses what does not verify, and halts: token, worker, journal or
// cluster is not what it was.
func (s *Service) verified(t *task, sig [64]byte, repeated bool) ([64]byte, bool, error) {
	key := t.claimed.Key
	if err := key.Verify(t.claimed.Digest, sig); err != nil {
		s.halt(fmt.Sprintf("a signature does not verify under %s", key))
		return [64]byte{}, false, failed(ErrInternal, err, "a signature does not verify under %s and is not released; signing is halted: check the token and the configured key", key)
	}
	return sig, repeated, nil
}

// anchored wants the block to carry the end of this signer's audit log, as of
// the last block it signed or later: then the log that the chain vouches for
// grows with every block. Of boxes with the same keys each has a log of its own,
// and must be able to go on with a block that another one claimed: there the chain
// carries an entry of one of the logs, which an auditor finds out.
func (s *Service) anchored(a *consensus.AuditAnchor) error {
	if a == nil {
		return refuse(RuleAnchor, "the CoinOnline carries no end of this signer's audit log: ask for its status, and put that in")
	}
	if s.claims != nil {
		return nil
	}
	head, last := s.audit.Head(), s.anchoredBefore()
	if a.Seq > head.Seq || a.Seq < last {
		return refuse(RuleAnchor, "the CoinOnline carries entry %d of the audit log, want one from %d to %d", a.Seq, last, head.Seq)
	}
	hash, err := s.audit.HashAt(a.Seq)
	if err != nil {
		return failed(ErrInternal, err, "reading the audit log")
	}
	if hash != a.Head {
		return refuse(RuleAnchor, "entry %d of the audit log has the hash %s, the CoinOnline says %s", a.Seq, hash, a.Head)
	}
	return nil
}

// lastAnchor returns the entry of the audit log that the last block which the
// journal holds a signature of carries; 0 if none.
func lastAnchor(j *Journal) (uint64, error) {
	r, ok, err := j.Slot(j.Status().LastSigned)
	if err != nil || !ok {
		return 0, err
	}
	tx, err := types.DecodeTransaction(r.CoinOnline)
	if err != nil {
		return 0, nil // imported: it is not kept
	}
	if a := consensus.AnchorOf(tx); a != nil {
		return a.Seq, nil
	}
	return 0, nil
}
