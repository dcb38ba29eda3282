package pool

import "qcitycoin.org/qcity/stratum/pool/reward"

// OpenBlocks returns the found blocks that may still change, oldest first.
func (b *Books) OpenBlocks() []reward.OpenBlock {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.ledger.Open()
}
