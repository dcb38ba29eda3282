package chain

import (
	"bytes"
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// carried counts the certificates that a new block carries. Their signatures
// were verified with the block; what the tally refuses is of no more use.
func (m *Manager) carried(b *types.Block) error {
	if !b.IsSigned() {
		return nil
	}
	records, err := consensus.Records(b.Transactions[0])
	if err != nil {
		return err
	}
	counted := false
	for _, r := range records {
		c, ok := r.(*consensus.Certificate)
		if !ok {
			continue
		}
		added, err := m.addCertificate(*c, func(*consensus.Electorate) error { return nil })
		if _, rule := consensus.RuleOf(err); err != nil && !rule {
			return err
		}
		counted = counted || added
	}
	if !counted {
		return nil
	}
	return m.weighTip() // the block is compared with the tip as that stands now
}

// AddSetChange keeps a change of the validator set, signed by a majority, until
// the chain has carried it. The error is a *consensus.RuleError when the chain
// would not carry it now.
func (m *Manager) AddSetChange(c *consensus.SetChange) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refresh(); err != nil {
		return err
	}
	if err := m.tip.State.CheckRecord(c); err != nil {
		return err
	}
	m.change = c
	return nil
}

// Records returns what a signed block on parent should carry, which encodes to
// at most maxBytes.
func (m *Manager) Records(parent *consensus.State, maxBytes int) []consensus.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []consensus.Record
	for _, c := range sortedCertificates(m.certificates) {
		list = append(list, &c)
	}
	if m.change != nil {
		list = append(list, m.change)
	}
	for _, e := range m.tally.Evidence() {
		list = append(list, &e)
	}
	for _, k := range slices.SortedFunc(maps.Keys(m.accused), func(a, b types.PublicKey) int { return bytes.Compare(a.Bytes(), b.Bytes()) }) {
		list = append(list, m.accused[k])
	}
	return parent.SelectRecords(list, maxBytes)
}
