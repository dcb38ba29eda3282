package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/mempool"
	"qcitycoin.org/qcity/node/rpc"
	"qcitycoin.org/qcity/node/template"
	"qcitycoin.org/qcity/node/types"
)

// poolChain shows the chain to the mempool.
type poolChain struct{ *chain.Manager }

// Path returns the blocks between a block and the tip.
func (c poolChain) Path(from types.Hash, most int) (reverted, applied []*types.Block, err error) {
	r, a, err := c.UpdatesSince(from, most)
	if err != nil {
		return nil, nil, err
	}
	return blocksOf(r), blocksOf(a), nil
}

func blocksOf(updates []chain.Update) []*types.Block {
	blocks := make([]*types.Block, len(updates))
	for i := range updates {
		blocks[i] = updates[i].Block
	}
	return blocks
}

// rpcChain shows the chain to the RPC server.
type rpcChain struct{ *chain.Manager }

// AddAttestation says in RPC's terms that it is too early for a vote.
func (c rpcChain) AddAttestation(a consensus.Attestation) (added bool, err error) {
	added, err = c.Manager.AddAttestation(a)
	return added, rpcVoteError(err)
}

// AddCertificate does what AddAttestation does.
func (c rpcChain) AddCertificate(s consensus.Certificate) (added bool, err error) {
	added, err = c.Manager.AddCertificate(s)
	return added, rpcVoteError(err)
}

func rpcVoteError(err error) error {
	if errors.Is(err, chain.ErrUnknownTarget) {
		return fmt.Errorf("%w: %w", rpc.ErrTooEarly, err)
	}
	return err
}

// rpcPool shows the mempool to the RPC server.
type rpcPool struct {
	pool     *mempool.Pool
	verified *verified
	log      *slog.Logger
}

// synced is the pool as of the tip: without templates nobody else has it follow.
func (p rpcPool) synced() *mempool.Pool {
	if err := p.pool.Sync(); err != nil {
		p.log.Error("mempool is behind the chain", "err", err)
	}
	return p.pool
}

func (p rpcPool) Add(tx *types.Transaction) (types.Hash, error) {
	id, err := p.pool.Add(tx)
	if err == nil {
		p.verified.add(id)
	}
	return id, poolError(err)
}

// poolError says in RPC's terms why the pool does not take a transaction. What
// is neither a rule nor a policy says nothing about the transaction.
func poolError(err error) error {
	var policy *mempool.PolicyError
	switch {
	case errors.Is(err, mempool.ReasonConfirmed):
		return fmt.Errorf("%w: %w", rpc.ErrConfirmed, err)
	case errors.As(err, &policy):
		return rpc.ErrUnwanted{Err: err}
	}
	return err
}

func (p rpcPool) Test(tx *types.Transaction) (rpc.PoolEntry, error) {
	a, err := p.pool.TestAccept(tx)
	return rpc.PoolEntry{Tx: tx, TxID: a.ID, Fee: a.Fee, Size: a.Bytes}, poolError(err)
}

func (p rpcPool) Entry(id types.Hash) (rpc.PoolEntry, bool) {
	e, ok := p.synced().Entry(id)
	return poolEntry(&e), ok
}

func (p rpcPool) Entries() []rpc.PoolEntry {
	entries := p.synced().Entries()
	list := make([]rpc.PoolEntry, len(entries))
	for i := range entries {
		list[i] = poolEntry(&entries[i])
	}
	return list
}

func poolEntry(e *mempool.Entry) rpc.PoolEntry {
	return rpc.PoolEntry{Tx: e.Tx, TxID: e.ID, Fee: e.Fee, Size: e.Bytes, Time: e.Added, Height: e.Height}
}

func (p rpcPool) Spender(o types.OutPoint) (types.Hash, bool) { return p.synced().Spender(o) }

func (p rpcPool) MinFeeRate() int64 { return p.pool.Info().MinFeeRate }

// rpcMining shows templates and the chain to the RPC server.
type rpcMining struct{ n *Node }

// ErrNoTemplate says why getblocktemplate has nothing to give.
var ErrNoTemplate = errors.New("this node makes no work: set payout in its configuration")

func (m rpcMining) BlockTemplate(ctx context.Context, longPollID string) (*rpc.Template, error) {
	if m.n.templates == nil {
		return nil, fmt.Errorf("%w: %w", rpc.ErrNoWork, ErrNoTemplate)
	}
	// An empty id differs from every template's, so this also waits for the first.
	t, err := m.n.templates.WaitNewer(ctx, longPollID)
	if err != nil {
		return nil, err
	}
	out := &rpc.Template{Parent: t.Parent, CoinbaseValue: t.CoinbaseValue, Time: t.Job.Time, LongPollID: t.LongPollID}
	for i, tx := range t.Transactions {
		out.Transactions = append(out.Transactions, rpc.TemplateTx{Tx: tx, Fee: t.Spends[i].Fee, SigOps: t.Spends[i].SigOps})
	}
	return out, nil
}

func (m rpcMining) SubmitBlock(b *types.Block) (rpc.Submission, error) {
	result, err := m.n.Chain.AddBlock(b)
	switch {
	case errors.Is(err, chain.ErrUnknownParent):
		return rpc.SubmitNoParent, nil
	case errors.Is(err, chain.ErrInvalidAncestor):
		return rpc.SubmitBadParent, nil
	}
	switch result {
	case chain.SideChain:
		return rpc.SubmitSideChain, err
	case chain.Held, chain.Parked:
		return rpc.SubmitHeld, err
	case chain.Known:
		return rpc.SubmitKnown, err
	}
	return rpc.SubmitAccepted, err
}

func (m rpcMining) HashRate() float64 {
	if m.n.cfg.HashRate == nil {
		return 0
	}
	return m.n.cfg.HashRate()
}

// Generate solves a block whose time follows the schedule of its network from
// the parent's, so that a test's chain does not depend on the clock.
func (m rpcMining) Generate(ctx context.Context, pkScript []byte) (types.Hash, error) {
	net := m.n.cfg.Network
	if !instant(net) {
		return types.Hash{}, rpc.ErrNotForThisNetwork{Network: net.Name}
	}
	b, err := m.generated(ctx, pkScript)
	if err != nil {
		return types.Hash{}, err
	}
	id := b.Header.ID()
	result, err := m.n.Chain.AddBlock(b)
	if errors.Is(err, consensus.RuleTimeFuture) || (err == nil && result == chain.Held) {
		err = fmt.Errorf("%w: the chain has come up to the clock, block %s would have time %d", rpc.ErrNotDue, id, b.Time)
	}
	return id, err
}

func (m rpcMining) generated(ctx context.Context, pkScript []byte) (*types.Block, error) {
	for {
		parent := m.n.Chain.Tip()
		t, err := m.n.builder.Mined(parent, time.Now(), pkScript)
		if errors.Is(err, template.ErrParentMoved) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("build block: %w", err)
		}
		return solve(ctx, t, max(parent.Time+m.n.cfg.Network.IntervalSeconds, parent.MinedTime()))
	}
}

// instant reports whether every block of a network takes a handful of hashes:
// half of all hashes meet the target it starts from and never goes above.
func instant(net *consensus.Network) bool {
	limit, err := types.CompactToTarget(uint32(net.GenesisBits))
	half := new(uint256.Int).Lsh(uint256.NewInt(1), 254)
	return err == nil && limit.Gt(half)
}

func solve(ctx context.Context, t *template.Template, at uint32) (*types.Block, error) {
	s := work.Solution{JobID: t.Job.ID, Version: t.Job.Version, Time: at}
	for s.Nonce = 0; ctx.Err() == nil; s.Nonce++ {
		if h := t.Job.Header(s); t.Job.Target.Met(h.Hash()) {
			return t.Block(s)
		}
	}
	return nil, ctx.Err()
}
