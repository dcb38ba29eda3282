package signer

import (
	"time"

	"golang.org/x/time/rate"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// policy holds the rules that are neither the chain's nor the journal's.
type policy struct {
	network *consensus.Network
	keys    map[types.PublicKey]bool
	limit   *rate.Limiter
}

// consensus applies the rules of the chain, the same ones every node will
// apply to the signed block, and returns the key that is to sign.
func (p *policy) consensus(prop *consensus.Proposal) (types.PublicKey, error) {
	if err := p.network.ValidateProposal(prop); err != nil {
		return types.PublicKey{}, ofChain(err)
	}
	key, ok := p.network.Key(prop)
	if !ok || !p.keys[key] {
		return key, refuse(RuleKeyNotHeld, "validator %d, %s, is none of this signer's keys", prop.Index, key)
	}
	return key, nil
}

// ballot applies the rules of the chain to a vote, and returns the key that is
// to sign.
func (p *policy) ballot(b *consensus.Ballot) (types.PublicKey, error) {
	key, err := p.network.ValidateBallot(b)
	if err != nil {
		return types.PublicKey{}, ofChain(err)
	}
	if !p.keys[key] {
		return key, refuse(RuleKeyNotHeld, "voter %d, %s, is none of this signer's keys", b.Index, key)
	}
	return key, nil
}

// ofChain makes a Refusal of a violated rule of the chain.
func ofChain(err error) error {
	rule, ok := consensus.RuleOf(err)
	if !ok {
		return failed(ErrInternal, err, "checking a request")
	}
	return &Refusal{Rule: Rule(rule), Detail: err.Error()}
}

// future refuses a header that runs ahead of the clock (C1).
func (p *policy) future(h *types.Header, now time.Time) error {
	if err := p.network.CheckFuture(h, now.Unix()); err != nil {
		return refuse(RuleFuture, "%v", err)
	}
	return nil
}

// clock applies the rules about a block that depend on the time: its header
// must not run ahead of the clock, and its slot must not have closed by it. The
// latter, S4, keeps a key from spending a height on a branch that was left long
// ago. A vote may be for any old block, as votes count for ever.
func (p *policy) clock(prop *consensus.Proposal, now time.Time) error {
	if err := p.future(&prop.Header, now); err != nil {
		return err
	}
	if err := p.ahead(prop.Height, now); err != nil {
		return err
	}
	limit := staleWindows * int64(p.network.SlotCloseSeconds)
	if age := now.Unix() - int64(prop.Parent.Time); age > limit {
		return refuse(RuleStale, "the parent's time is %d s ago, more than %d s: check both clocks", age, limit)
	}
	return nil
}

// voteClock is clock for a vote.
func (p *policy) voteClock(b *consensus.Ballot, now time.Time) error {
	if err := p.future(&b.Block.Header, now); err != nil {
		return err
	}
	return p.ahead(b.Target.Height, now)
}

// ahead refuses a height that no chain can have reached. A key that signed it
// could not sign anything below it any more.
func (p *policy) ahead(height uint32, now time.Time) error {
	if most := p.network.HighestHeight(now.Unix()); uint64(height) > most {
		return refuse(RuleAhead, "height %d, but the chain cannot be higher than %d by this clock: check it, and the node", height, most)
	}
	return nil
}

// staleWindows is how many slot windows after its parent's time a slot may still
// be signed. The node, which sees when the parent arrived, stops after one. The
// signer sees only times that the miners of an interval chose: who dates all his
// blocks back must not have the slot expire for the validators.
const staleWindows = 12

// rate applies the rate limit, and spends from it.
func (p *policy) rate(now time.Time) error {
	if !p.limit.AllowN(now, 1) {
		return refuse(RuleRate, "more than %v signatures a second on average, %d at once", float64(p.limit.Limit()), p.limit.Burst())
	}
	return nil
}
