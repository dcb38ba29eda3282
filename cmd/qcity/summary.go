package main

import (
	"time"

	"qcitycoin.org/qcity/node/types"
)

// summary is what `qcity demo --json` prints at its end.
type summary struct {
	Network struct {
		Name string     `json:"name"`
		ID   types.Hash `json:"id"`
	} `json:"network"`
	Height uint32     `json:"height"`
	Tip    types.Hash `json:"tip"`
	// Heights of the newest signed, certified and final slot; 0: none yet.
	Signed    uint32 `json:"signed"`
	Certified uint32 `json:"certified"`
	Final     uint32 `json:"final"`
	// Blocks is the best chain from genesis on; Slots those of it at slots.
	Blocks []block `json:"blocks"`
	Slots  []block `json:"slots"`
	// SecondsToFirstSignedBlock counts from this start; null when none came.
	SecondsToFirstSignedBlock *float64       `json:"secondsToFirstSignedBlock"`
	SecondsRunning            float64        `json:"secondsRunning"`
	HashRate                  float64        `json:"hashRate"` // CPU miner, hashes per second since the start
	Hashes                    uint64         `json:"hashes"`
	Kernel                    string         `json:"kernel"`
	Shares                    []workerShares `json:"shares"`
}

// workerShares is the account of one Stratum worker since the start.
type workerShares struct {
	Worker     string            `json:"worker"`
	Accepted   uint64            `json:"accepted"`
	Rejected   map[string]uint64 `json:"rejected"` // by reason
	Difficulty float64           `json:"difficulty"`
	Best       float64           `json:"best"`
	Blocks     uint64            `json:"blocks"`
	HashRate   float64           `json:"hashRate"`
}

func (m *monitor) summary() (*summary, error) {
	if err := m.follow(); err != nil {
		return nil, err
	}
	standing := m.chain.Standing()
	tip := &standing.Tip
	s := &summary{
		Height: tip.Height, Tip: tip.ID, Signed: tip.LastSigned, Certified: standing.Certified.Height, Final: standing.Final.Height,
		SecondsRunning: time.Since(m.started).Seconds(), Slots: []block{}, Shares: []workerShares{},
	}
	s.Network.Name, s.Network.ID = m.net.Name, m.net.ID
	for h := uint32(0); h <= tip.Height; h++ {
		b, ok, err := m.blockAt(h)
		if err != nil || !ok {
			return nil, err
		}
		b.Status = standing.Of(h)
		s.Blocks = append(s.Blocks, b)
		if m.net.IsSlot(h) {
			s.Slots = append(s.Slots, b)
		}
	}
	m.mu.Lock()
	if !m.firstSigned.IsZero() {
		seconds := m.firstSigned.Sub(m.started).Seconds()
		s.SecondsToFirstSignedBlock = &seconds
	}
	m.mu.Unlock()
	if m.miner != nil {
		st := m.miner.Stats()
		s.Hashes, s.Kernel = st.Total.Hashes, st.Kernel
		s.HashRate = float64(s.Hashes) / s.SecondsRunning
	}
	if m.stratum != nil {
		for _, w := range m.stratum.Stats().Workers {
			s.Shares = append(s.Shares, workerShares{w.Name, w.Accepted, w.Rejected, w.Difficulty, w.Best, w.Blocks, w.HashRate.Hour})
		}
	}
	return s, nil
}
