package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	firmwareapi "qcitycoin.org/qcity/firmware-api"
	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/server"
)

// slotHistory is how many past slots the status shows.
const slotHistory = 20

// statusInterval is how often figures that no block changes are read anew.
const statusInterval = time.Second

// block is a block of the best chain, as summaries and status show it.
type block struct {
	Height uint32 `json:"height"`
	ID     string `json:"id"`
	Type   string `json:"type"` // genesis, mined, signed, fallback
	Signer *int   `json:"signer"`
	// Status is what stands behind the block. An export leaves it out: it rises with
	// later blocks and votes.
	Status consensus.Confirmation `json:"status,omitempty"`
}

func describe(net *consensus.Network, height uint32, h *types.SignedHeader) block {
	b := block{Height: height, ID: h.Header.ID().String(), Type: "mined"}
	switch {
	case height == 0:
		b.Type = "genesis"
	case h.IsSigned():
		b.Type = "signed"
		index := int(h.VchBlockSig[0])
		b.Signer = &index
	case net.IsSlot(height):
		b.Type = "fallback"
	}
	return b
}

// signerState is what the box last heard of its signer.
type signerState struct {
	connected bool
	ready     []types.PublicKey
	total     int
	err       string
	since     time.Time
}

// monitor gathers the live status that terminal, API and summary show.
type monitor struct {
	net     *consensus.Network
	chain   *chain.Manager
	pool    func() (count int, bytes int64)
	miner   *miner.Miner             // nil: off
	stratum *server.Server           // nil: off
	address string                   // of the Stratum port
	books   func() pool.JournalStats // nil: none
	payout  []byte
	signer  func(ctx context.Context) (signerState, error) // nil: none
	log     *slog.Logger
	started time.Time

	mu          sync.Mutex
	followed    types.Hash // last block of the best chain that was counted
	blocks      firmwareapi.Blocks
	firstSigned time.Time // when a signed block first appeared since the start
	signerState signerState
}

// follow counts the blocks that joined the best chain since the last call.
func (m *monitor) follow() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		_, applied, err := m.chain.UpdatesSince(m.followed, 100)
		if err != nil {
			return fmt.Errorf("follow the chain: %w", err)
		}
		if len(applied) == 0 {
			return nil
		}
		for i := range applied {
			m.count(&applied[i])
		}
		m.followed = applied[len(applied)-1].State.ID
	}
}

func (m *monitor) count(u *chain.Update) {
	b := u.Block
	mine := len(b.Transactions[0].Outputs) > 0 && slices.Equal(b.Transactions[0].Outputs[0].PkScript, m.payout)
	switch kind := describe(m.net, u.State.Height, &b.SignedHeader); {
	case kind.Type == "signed":
		if m.firstSigned.IsZero() {
			m.firstSigned = time.Now()
		}
		if slices.Contains(m.signerState.ready, u.Parent.Validators().Keys[*kind.Signer]) {
			m.blocks.Signed++
		}
	case kind.Type == "fallback" && mine:
		m.blocks.Fallback++
	case kind.Type == "mined" && mine:
		m.blocks.Mined++
	}
}

// pollSigner asks the signer for its state.
func (m *monitor) pollSigner(ctx context.Context) {
	if m.signer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusInterval)
	defer cancel()
	state, err := m.signer(ctx)
	if ctx.Err() != nil && err == nil {
		err = ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		// The keys stay known: blocks that arrive meanwhile are still ours.
		state = m.signerState
		state.connected, state.err = false, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if state.err != m.signerState.err || state.since.IsZero() {
		state.since = time.Now()
	} else {
		state.since = m.signerState.since
	}
	m.signerState = state
}

// run publishes a status whenever the chain changes, and every second.
func (m *monitor) run(ctx context.Context, publish func(firmwareapi.Status) error) error {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		changed := m.chain.Changed()
		if err := m.follow(); err != nil {
			return err
		}
		status, err := m.status()
		if err != nil {
			return err
		}
		if err := publish(status); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			m.pollSigner(ctx)
		}
	}
}

// status reads everything once.
func (m *monitor) status() (firmwareapi.Status, error) {
	standing := m.chain.Standing()
	s := firmwareapi.Status{
		Network:       firmwareapi.Network{Name: m.net.Name, ID: m.net.ID.String()},
		UptimeSeconds: int64(time.Since(m.started).Seconds()),
		Finality:      finality(&standing),
		Slot:          m.slot(&standing.Tip),
	}
	var err error
	if s.Tip, err = m.tip(&standing); err != nil {
		return s, err
	}
	if s.LastSlots, err = m.lastSlots(&standing); err != nil {
		return s, err
	}
	s.Mempool.Transactions, s.Mempool.Bytes = m.pool()
	m.mu.Lock()
	s.Blocks = m.blocks
	signer := m.signerState
	m.mu.Unlock()
	problems := m.mining(&s)
	s.Signer = firmwareapi.SignerStatus{Connected: signer.connected, KeysReady: len(signer.ready), KeysTotal: signer.total, Error: signer.err}
	s.Alerts = append(m.alerts(&s, &signer), problems...)
	return s, nil
}

func finality(s *consensus.Standing) firmwareapi.Finality {
	f := firmwareapi.Finality{Signed: s.Tip.LastSigned, Certified: s.Certified.Height, Final: s.Final.Height}
	if d, ok := s.Degraded(); ok {
		f.Degraded = &firmwareapi.Degraded{Since: d.Since, Missing: firmwareapi.Confirmation(d.Missing), Message: d.String()}
	}
	return f
}

func (m *monitor) tip(standing *consensus.Standing) (*firmwareapi.Tip, error) {
	tip := &standing.Tip
	header, ok, err := m.chain.Header(tip.ID)
	if err != nil || !ok {
		return nil, err
	}
	b := describe(m.net, tip.Height, &header)
	return &firmwareapi.Tip{
		Height: b.Height, ID: b.ID, Type: b.Type, Signer: b.Signer,
		Time: time.Unix(int64(tip.Time), 0).UTC().Format(time.RFC3339), Status: firmwareapi.Confirmation(standing.Of(tip.Height)),
	}, nil
}

func (m *monitor) slot(tip *consensus.State) *firmwareapi.Slot {
	next := (tip.Height/m.net.N + 1) * m.net.N
	parent := *tip // ranks hang on height and validator set alone
	parent.Height = next - 1
	s := &firmwareapi.Slot{
		Height: next, BlocksUntil: next - tip.Height - 1,
		State: firmwareapi.SlotWaiting, InTurn: int(parent.ValidatorOfRank(0)),
	}
	if tip.ChildIsSlot() {
		from, _ := tip.SignedWindow(tip.ValidatorOfRank(0))
		opens, closes := stamp(from), stamp(tip.FallbackTime())
		s.OpensAt, s.ClosesAt = &opens, &closes
		if s.State = firmwareapi.SlotOpen; time.Now().Unix() >= int64(tip.FallbackTime()) {
			s.State = firmwareapi.SlotFallback
		}
	}
	return s
}

func stamp(seconds uint32) string { return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339) }

func (m *monitor) lastSlots(standing *consensus.Standing) ([]firmwareapi.PastSlot, error) {
	var list []firmwareapi.PastSlot
	tip := &standing.Tip
	for h := tip.Height - tip.Height%m.net.N; h > 0 && len(list) < slotHistory; h -= m.net.N {
		b, ok, err := m.blockAt(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			break // the tip moved meanwhile
		}
		list = append(list, firmwareapi.PastSlot{
			Height: h, Type: b.Type, Signer: b.Signer, Status: firmwareapi.Confirmation(standing.Of(h)),
		})
	}
	return list, nil
}

// blockAt describes the block of the best chain at a height.
func (m *monitor) blockAt(height uint32) (block, bool, error) {
	id, ok, err := m.chain.BestID(height)
	if err != nil || !ok {
		return block{}, false, err
	}
	header, ok, err := m.chain.Header(id)
	if err != nil || !ok {
		return block{}, false, err
	}
	return describe(m.net, height, &header), true, nil
}

// mining fills in what the miner and the Stratum port know, and returns what is
// wrong with the miner.
func (m *monitor) mining(s *firmwareapi.Status) (problems []firmwareapi.Alert) {
	if m.miner != nil {
		st := m.miner.Stats()
		s.HashRate = st.Total.Rates.Seconds5
		s.Blocks.Stale += st.Blocks.Stale
		s.Blocks.Rejected += st.Blocks.Rejected
		s.CPUMiner, problems = cpuMiner(&st), minerAlerts(&st)
	}
	if m.stratum == nil {
		return problems
	}
	st := m.stratum.Stats()
	s.Stratum = firmwareapi.StratumStatus{Address: m.address, Connected: st.Connections}
	agents := make(map[string]server.SessionStats)
	for _, session := range st.Sessions {
		for _, w := range session.Workers {
			agents[w] = session
		}
	}
	for _, w := range st.Workers {
		if w.Sessions == 0 {
			continue
		}
		s.Miners = append(s.Miners, firmwareapi.Miner{
			Worker: w.Name, Agent: agents[w.Name].UserAgent, Difficulty: agents[w.Name].Difficulty,
			HashRate: w.HashRate.Minute, Accepted: w.Accepted, Rejected: w.Refused(),
		})
	}
	return problems
}

func cpuMiner(st *miner.Stats) *firmwareapi.CPUMiner {
	c := &firmwareapi.CPUMiner{Kernel: st.Kernel, Duty: st.Duty.Now, Temperature: known(st.Duty.Temperature), Power: known(st.Duty.Power)}
	for _, w := range st.Workers {
		c.Workers = append(c.Workers, firmwareapi.CPUWorker{
			CPU: known(w.CPU), Kernel: w.Kernel, HashRate: w.Rates.Minute1, Hashes: w.Hashes, ActiveSeconds: w.ActiveSeconds,
		})
	}
	return c
}

// known returns nil for what is not known.
func known[T any](r hw.Reading[T]) *T {
	v, ok := r.Get()
	if !ok {
		return nil
	}
	return &v
}

// minerAlerts says what of the CPU miner needs a person.
func minerAlerts(st *miner.Stats) (list []firmwareapi.Alert) {
	warn := func(since time.Time, text string) {
		list = append(list, firmwareapi.Alert{Level: "warning", Message: "CPU miner: " + text, Since: since.UTC().Format(time.RFC3339)})
	}
	for _, k := range st.Disabled {
		warn(k.Since, "hashing kernel "+k.Name+" is disabled: "+k.Reason)
	}
	if st.Duty.Problem != "" {
		warn(st.Duty.Since, st.Duty.Problem)
	}
	return list
}

func (m *monitor) alerts(s *firmwareapi.Status, signer *signerState) []firmwareapi.Alert {
	var list []firmwareapi.Alert
	if signer.err != "" {
		list = append(list, firmwareapi.Alert{Level: "error", Message: "signer: " + signer.err, Since: signer.since.UTC().Format(time.RFC3339)})
	}
	if m.books != nil {
		if j := m.books(); !j.Failing.IsZero() {
			list = append(list, firmwareapi.Alert{
				Level: "error", Since: j.Failing.UTC().Format(time.RFC3339),
				Message: "the pool's books cannot be written, mining goes on: free disk space, or look after the disk: " + j.Err,
			})
		}
	}
	if d := s.Finality.Degraded; d != nil {
		level := "warning"
		if d.Missing == firmwareapi.Signed {
			level = "error"
		}
		list = append(list, firmwareapi.Alert{Level: level, Message: d.Message, Since: m.timeAt(d.Since)})
	}
	return list
}

// timeAt returns the header time of the best chain's block at a height, or the
// time of the clock when that cannot be told now.
func (m *monitor) timeAt(height uint32) string {
	if id, ok, err := m.chain.BestID(height); ok && err == nil {
		if h, ok, err := m.chain.Header(id); ok && err == nil {
			return stamp(h.Time)
		}
	}
	return time.Now().UTC().Format(time.RFC3339)
}
