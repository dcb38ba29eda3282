package chain

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// finalise moves the root of counting up to the highest final slot of the best
// chain, and forgets what that settles.
func (m *Manager) finalise() error {
	final, err := m.final()
	if err != nil || final == m.tally.Root() {
		return err
	}
	if r := m.net.Release; r != nil && final.Height < r.Height {
		return nil // of two histories up to there only the release can tell which is to stay (L7)
	}
	b := Batch{Final: final}
	if b.Forget, err = m.done(final); err != nil {
		return err
	}
	if err := m.commit(b); err != nil {
		return fmt.Errorf("storing the final slot: %w", err)
	}
	if err := m.tally.Prune(final); err != nil {
		return err
	}
	m.proven.recount(m.tally)
	maps.DeleteFunc(m.twins, func(h uint32, _ map[types.PublicKey]signedSlot) bool { return h <= final.Height })
	maps.DeleteFunc(m.spent, func(t turn, _ error) bool { return t.height <= final.Height })
	m.log.Info("slot is final", "height", final.Height, "block", final.ID)
	m.ring()
	return nil
}

// final returns the highest final slot of the best chain.
func (m *Manager) final() (consensus.Checkpoint, error) {
	for _, c := range slices.Backward(m.proven.final) {
		if on, err := m.contains(&path{fork: m.tip}, c); err != nil || on {
			return c, err
		}
		if c != m.rival {
			m.rival = c
			m.log.Error("a slot that this node cannot follow is final: its software or the validators are at fault", "height", c.Height, "block", c.ID)
		}
	}
	return m.tally.Root(), nil
}

// done returns the links whose certificates need not be kept any more: what the
// chain itself has carried past, by the final slot, so that no reorganisation
// takes it back and a certificate that builds on it can be carried.
func (m *Manager) done(final consensus.Checkpoint) (list []consensus.Link, err error) {
	e, err := m.entry(final.ID)
	if err != nil {
		return nil, err
	}
	carried := e.State.Proven().Final.Height
	for l := range m.certificates {
		if l.Target.Height < carried {
			list = append(list, l)
		}
	}
	return list, nil
}

// loadVotes counts the certificates that are stored, from the final slot on.
func (m *Manager) loadVotes() error {
	root, err := m.store.Final()
	if err != nil {
		return err
	}
	if root == (consensus.Checkpoint{}) {
		root = consensus.Checkpoint{ID: m.net.ID}
	}
	list, err := m.store.Certificates()
	if err != nil {
		return err
	}
	tally, certificates := consensus.NewTally(m.net, root), make(map[consensus.Link]consensus.Certificate)
	var p proven
	for _, c := range list {
		certificates[c.Link] = c
		if c.Source != root && c.Source.Height <= root.Height {
			continue // kept for the blocks of this node's validators to carry
		}
		p.source = max(p.source, c.Source.Height)
		if err := m.loadCertificate(tally, &c); err != nil {
			return fmt.Errorf("stored certificate for slot %d: %w", c.Target.Height, err)
		}
	}
	p.recount(tally)
	m.tally, m.certificates, m.proven = tally, certificates, p
	return m.weighTip()
}

func (m *Manager) loadCertificate(tally *consensus.Tally, c *consensus.Certificate) error {
	parent, err := m.targetParent(&c.Link)
	if errors.Is(err, consensus.RuleAttestTarget) {
		m.log.Warn("certificate does not count, its block is invalid", "height", c.Target.Height, "block", c.Target.ID)
		return nil
	}
	if err != nil {
		return err
	}
	voters := parent.State.Voters()
	if err := c.Verify(m.net, voters); err != nil {
		return err
	}
	_, err = tally.AddCertificate(*c, voters)
	return err
}

// mayAnchor reports whether a chain is as high as the release's checkpoint,
// which counting does not start from yet.
func (m *Manager) mayAnchor(s *consensus.State) bool {
	r := m.net.Release
	return r != nil && m.tally.Root().Height < r.Height && s.Height >= r.Height
}

// anchor starts counting from the release's checkpoint once the best chain has
// reached it (L7). That also ends what no vote could: see docs/votes.md, "What
// the strict rule costs".
func (m *Manager) anchor() error {
	if !m.mayAnchor(&m.tip.State) {
		return nil
	}
	r := m.net.Release
	e, err := m.entry(r.Block)
	if err != nil || !e.Header.IsSigned() {
		return err
	}
	if err := m.commit(Batch{Final: r.Checkpoint()}); err != nil {
		return fmt.Errorf("storing the release's checkpoint: %w", err)
	}
	return m.loadVotes()
}
