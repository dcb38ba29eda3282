package cluster

import (
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// allows applies the rules for one key and kind to a new claim.
func (m *Mark) allows(c *Claim) error {
	if c.Kind == Vote {
		if c.Source.Height < m.Floor {
			return fmt.Errorf("source height %d is below the floor %d of the key", c.Source.Height, m.Floor)
		}
		// Allows looks at the heights of the targets only; the digest stands for the rest.
		record := consensus.VoteRecord{Source: m.Source, Target: consensus.Checkpoint{Height: m.Height}}
		return record.Allows(consensus.Link{Source: c.Source, Target: consensus.Checkpoint{Height: c.Height}})
	}
	if highest := max(m.Height, m.Floor); c.Height <= highest {
		return fmt.Errorf("%d is not above %d, up to where the key has claimed or may have signed", c.Height, highest)
	}
	return nil
}

// closed says why a claim that stands without a seal is not signed any more: the
// floor rose over it, so it may have been signed, with a seal that etcd forgot.
func (m *Mark) closed(c *Claim) error {
	if c.Height <= m.Floor || c.Kind == Vote && c.Source.Height < m.Floor {
		return fmt.Errorf("it was claimed before the floor of the key rose to %d, and etcd has no signature of it: it gets none", m.Floor)
	}
	return nil
}

// next is the mark after a claim that allows let pass.
func (m *Mark) next(c *Claim) Mark {
	return Mark{c.Kind, c.Key, c.Height, c.Source, c.Digest, m.Floor}
}

// check reports a claim that no signer makes: a bug in the caller.
func (c *Claim) check(keys []types.PublicKey) error {
	switch {
	case c.Kind != Block && c.Kind != Vote && c.Kind != SetChange:
		return fmt.Errorf("claim of kind %q", c.Kind)
	case c.Kind != Vote && c.Source != consensus.Checkpoint{}:
		return fmt.Errorf("claim of kind %s with a source", c.Kind)
	case c.Digest.IsZero():
		return errors.New("claim without a digest")
	}
	for _, k := range keys {
		if k == c.Key {
			return nil
		}
	}
	return fmt.Errorf("claim for %s, which is none of the configured keys", c.Key)
}
