package signer

import (
	"cmp"
	"errors"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// The sources of Known. Others may be named freely, they count as the chain does.
const (
	SourceJournal = "journal"
	SourceImport  = "import"      // what the journal took in, or is about to
	SourceCluster = "cluster"     // claims that signers of one key share
	SourceChain   = "chain"       // the key's own blocks and votes, as found on the chain
	SourceCounter = "TPM counter" // cannot be wound back
)

// Known is how far one source knows that a key has signed: the highest height of
// a block, and of a vote's target. 0 is none. Of the journal, floors count
// (Journal.Known).
type Known struct {
	Source      string
	Key         types.PublicKey
	Block, Vote uint32
}

func (k *Known) top() uint32 { return max(k.Block, k.Vote) }

// Floor returns, for each key that the journal knows too little of, the height to
// which its floor has to be raised before anything is signed.
//
// Only a cluster and imports may know more than the journal: that is what other
// signers did. If anything else proves that a key signed higher than all of
// these know, the journal was rolled back, or there is a signer nobody told of. That
// is a TerminalError of the kind ErrRolledBack, which names keys, sources, heights
// and what to do.
func Floor(known ...Known) (floors map[types.PublicKey]uint32, err error) {
	journal, all := make(map[types.PublicKey]Known), make(map[types.PublicKey]Known)
	var proofs []Known
	for _, k := range known {
		switch k.Source {
		case SourceJournal:
			journal[k.Key] = most(journal[k.Key], k)
			fallthrough
		case SourceImport, SourceCluster:
			all[k.Key] = most(all[k.Key], k)
		default:
			proofs = append(proofs, k)
		}
	}
	slices.SortStableFunc(proofs, func(a, b Known) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	var errs []error
	for _, p := range proofs {
		if a := all[p.Key]; p.Block > a.Block || p.Vote > a.Vote {
			errs = append(errs, rolledBack(p, a))
		}
	}
	if len(errs) > 0 {
		return nil, &TerminalError{errors.Join(errs...)}
	}
	floors = make(map[types.PublicKey]uint32)
	for key, a := range all {
		if j := journal[key]; a.Block > j.Block || a.Vote > j.Vote {
			floors[key] = a.top()
		}
	}
	return floors, nil
}

func rolledBack(p, a Known) error {
	what, proven, remembered := "a block", p.Block, a.Block
	if p.Vote > a.Vote && (p.Block <= a.Block || p.Vote > p.Block) {
		what, proven, remembered = "a vote", p.Vote, a.Vote
	}
	return failed(ErrRolledBack, nil, "%s signed %s at height %d, as the %s shows, but the signing journal knows of none above %d: put back the journal that made it, or stop every other signer of this key and run `qcity watermark raise --key %s --height %d`",
		p.Key, what, proven, p.Source, remembered, p.Key, p.top())
}

func most(a, b Known) Known {
	b.Block, b.Vote = max(a.Block, b.Block), max(a.Vote, b.Vote)
	return b
}

// Known returns what the journal knows of its keys, as Floor wants it.
func (j *Journal) Known() (list []Known) {
	for _, m := range j.Marks() {
		list = append(list, Known{Source: SourceJournal, Key: m.Key, Block: max(m.Block, m.Floor), Vote: max(m.Vote, m.Floor)})
	}
	return list
}
