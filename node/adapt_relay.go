package node

import (
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/syncer"
	"qcitycoin.org/qcity/node/types"
)

// RelayChain shows the chain to the relay, in its terms.
type RelayChain struct{ *chain.Manager }

var _ syncer.Chain = RelayChain{}

// Path implements syncer.Chain.
func (c RelayChain) Path(from types.Hash, most int) (reverted, applied []*types.Block, err error) {
	return poolChain(c).Path(from, most)
}

// Add implements syncer.Chain.
func (c RelayChain) Add(b *types.Block) (isNew bool, err error) {
	result, err := c.AddBlock(b)
	if errors.Is(err, chain.ErrUnknownParent) {
		err = fmt.Errorf("%w: %w", syncer.ErrUnknownParent, err)
	}
	return err == nil && result != chain.Known, err
}

// AddAttestation implements syncer.Chain.
func (c RelayChain) AddAttestation(a consensus.Attestation) (added bool, err error) {
	added, err = c.Manager.AddAttestation(a)
	return added, voteError(err)
}

// AddCertificate implements syncer.Chain.
func (c RelayChain) AddCertificate(s consensus.Certificate) (added bool, err error) {
	added, err = c.Manager.AddCertificate(s)
	return added, voteError(err)
}

func voteError(err error) error {
	if errors.Is(err, chain.ErrUnknownTarget) {
		return fmt.Errorf("%w: %w", syncer.ErrUnknownTarget, err)
	}
	return err
}
