package syncer

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Peer is a connection to another node. It is comparable, and the same value
// for as long as it is connected.
type Peer interface {
	// Send queues a message and returns at once. It is false when the queue is
	// full, or the connection at its end: then the peer is dropped. The queue must
	// hold an answer (Limits) and some more.
	Send(m Message) bool
	// Close ends the connection, for a reason to log. It returns at once and does
	// not call the Relay.
	Close(reason string)
}

// peer is what is kept of one: all of it bounded, all under Relay.mu.
type peer struct {
	conn  Peer
	known *ring[types.Hash] // blocks it has

	blocks, votes, asks, verdicts *rate.Limiter

	score   float64 // of its faults, at scored
	scored  time.Time
	waiting []waiting

	sync follow
}

// waiting is a vote whose target is not known yet: one of the two.
type waiting struct {
	vote        *consensus.Attestation
	certificate *consensus.Certificate
}

func (w *waiting) target() types.Hash {
	if w.vote != nil {
		return w.vote.Target.ID
	}
	return w.certificate.Target.ID
}

func newPeer(conn Peer, l *Limits) *peer {
	return &peer{
		conn: conn, known: newRing[types.Hash](peerMemory),
		blocks: l.Blocks.limiter(), votes: l.Votes.limiter(), asks: l.Asks.limiter(), verdicts: l.Verdicts.limiter(),
	}
}

// fault adds to the score and reports whether it is used up.
func (p *peer) fault(points float64, now time.Time) bool {
	p.score = p.scoreAt(now) + points
	p.scored = now
	return p.score >= usedUp
}

func (p *peer) scoreAt(now time.Time) float64 {
	return p.score * math.Exp2(-now.Sub(p.scored).Seconds()/halfLife.Seconds())
}

// wait keeps a vote, in place of the oldest if there are too many.
func (p *peer) wait(w waiting, most int) {
	if len(p.waiting) >= most {
		p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	}
	p.waiting = append(p.waiting, w)
}

// blame returns what breaking a rule says about the peer that sent it. An
// honest node relays a block of a side chain before it has looked at its
// transactions, so that these are little of its fault; they cost their maker a
// block's work each.
func blame(rule consensus.Rule) float64 {
	switch rule {
	case consensus.RuleTimeFuture, consensus.RuleBelowFinal, consensus.RuleVoteFloor, consensus.RuleVoteLimit,
		consensus.RuleTwinLimit:
		return 0 // another clock, another past
	case consensus.RulePrevBlock, consensus.RuleTimeOrder, consensus.RuleBits, consensus.RuleWork,
		consensus.RuleNotASlot, consensus.RuleSigFormat, consensus.RuleDisabled, consensus.RuleValidator,
		consensus.RuleSlotNonce, consensus.RuleSlotEarly, consensus.RuleSlotLate, consensus.RuleBlockSig,
		consensus.RuleFallback, consensus.RuleMerkleRoot, consensus.RuleMerkleMutated, consensus.RuleBlockBytes,
		consensus.RuleNoCoinbase, consensus.RuleExtraCoinbase, consensus.RuleCoinOnline, consensus.RuleRecords,
		consensus.RuleAttestSource, consensus.RuleAttestGenesis, consensus.RuleAttestSet, consensus.RuleAttestIndex,
		consensus.RuleAttestDisabled, consensus.RuleAttestSig, consensus.RuleCertSigners, consensus.RuleCertQuorum,
		consensus.RuleCertSource, consensus.RuleCertTarget, consensus.RuleCertIdle,
		consensus.RuleSetOpen, consensus.RuleSetKeys, consensus.RuleSetQuorum, consensus.RuleSetSig,
		consensus.RuleEvidenceSet, consensus.RuleEvidenceKnown, consensus.RuleEvidenceInnocent, consensus.RuleEvidenceSig:
		return faultForm
	}
	return faultBody
}
