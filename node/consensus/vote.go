package consensus

// The rules about what one validator may vote for, S1 and S2.
const (
	RuleVoteTarget Rule = "vote-target" // S1: a second vote for a target height, or one below the last
	RuleVoteSource Rule = "vote-source" // S2: the source is neither the last one nor strictly above it
)

// VoteRecord is all that a validator has to remember of its votes to keep S1
// and S2: the link it voted for last. It belongs to a key, whatever set the key
// votes in. The zero value has not voted yet.
type VoteRecord struct {
	Source, Target Checkpoint
}

// Allows reports, as an error that names the rule, why the owner of the record
// must not vote for l. A repetition of the last vote is refused too: whoever
// needs that signature again has kept it.
//
// S1: target heights strictly increase, so there are never two votes for one
// height. S2: the source is the very same block as before or strictly higher.
// S2 is stricter than the rule of Casper FFG against surrounding votes, which
// lets a source of the same height on another branch pass: with certificates
// of a bare majority, one malicious key could then make two conflicting slots
// final (docs/votes.md, "Why the strict source rule").
func (v VoteRecord) Allows(l Link) error {
	if l.Source.Height >= l.Target.Height {
		return broken(RuleAttestSource, "source height %d is not below target height %d", l.Source.Height, l.Target.Height)
	}
	if l.Target.Height <= v.Target.Height {
		return broken(RuleVoteTarget, "target height %d, last vote was for %d", l.Target.Height, v.Target.Height)
	}
	if voted := v.Target.Height > 0; voted && l.Source != v.Source && l.Source.Height <= v.Source.Height {
		return broken(RuleVoteSource, "source %s at height %d, last was %s at height %d", l.Source.ID, l.Source.Height, v.Source.ID, v.Source.Height)
	}
	return nil
}

// Next returns the record after a vote for l, which Allows allowed.
func (v VoteRecord) Next(l Link) VoteRecord { return VoteRecord{Source: l.Source, Target: l.Target} }

// Conflict names the rule that a validator broke if it voted for both links, in
// whatever order, or returns nil when an honest one may have. Both must have
// passed Link.Check. It does not look at who voted: the caller compares
// signed attestations of one key.
func Conflict(a, b Link) error {
	if a == b {
		return nil
	}
	if a.Target.Height > b.Target.Height {
		a, b = b, a
	}
	return VoteRecord{}.Next(a).Allows(b)
}
