package rpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

type templateRequest struct {
	Mode         string   `json:"mode"`
	Capabilities []string `json:"capabilities"`
	Rules        []string `json:"rules"`
	LongPollID   string   `json:"longpollid"`
}

func (s *Server) getBlockTemplate(ctx context.Context, a *args) (any, error) {
	var req templateRequest
	if err := a.get(0, &req); err != nil {
		return nil, err
	}
	if req.Mode != "" && req.Mode != "template" {
		return nil, fail(codeParameter, "getblocktemplate: mode %q is not supported: use \"template\"", req.Mode)
	}
	t, err := s.blockTemplate(ctx, req.LongPollID)
	if err != nil {
		return nil, err
	}
	parent, net := &t.Parent, s.chain.Network()
	target := parent.NextTarget()
	return map[string]any{
		"capabilities": []string{"longpoll"}, "rules": []string{}, "vbavailable": map[string]int{}, "vbrequired": 0,
		"version": int32(0x20000000), "previousblockhash": parent.ID, "transactions": templateTxs(t),
		"coinbaseaux": map[string]string{}, "coinbasevalue": t.CoinbaseValue, "longpollid": t.LongPollID,
		"target": fmt.Sprintf("%064x", target.Bytes32()), "mintime": parent.MinedTime(),
		"mutable": []string{"time", "transactions", "prevblock"}, "noncerange": "00000000ffffffff",
		"sigoplimit": net.MaxSigOps, "sizelimit": net.MaxBlockBytes, "curtime": t.Time,
		"bits": bitsText(parent.NextBits()), "height": parent.ChildHeight(), "slot": parent.ChildIsSlot(),
	}, nil
}

// firstTemplate is how long a caller waits for a template after the start.
const firstTemplate = 10 * time.Second

func (s *Server) blockTemplate(ctx context.Context, longPollID string) (t *Template, err error) {
	get := func(ctx context.Context) error {
		t, err = s.mining.BlockTemplate(ctx, longPollID)
		return err
	}
	if longPollID != "" {
		err = s.poll(func() error { return get(ctx) })
	} else {
		soon, cancel := context.WithTimeout(ctx, firstTemplate)
		defer cancel()
		err = get(soon)
	}
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, ErrNoWork):
		return nil, fail(codeMisc, "%v", err)
	case ctx.Err() != nil:
		return nil, fail(codeShuttingDown, "shutting down")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fail(codeNotReady, "no block template yet: the log of the node says why")
	}
	return nil, err
}

func templateTxs(t *Template) []map[string]any {
	position := make(map[types.Hash]int, len(t.Transactions))
	list := make([]map[string]any, len(t.Transactions))
	for i, e := range t.Transactions {
		depends := []int{}
		for _, in := range e.Tx.Inputs {
			if p, ok := position[in.Previous.TxID]; ok {
				depends = append(depends, p)
			}
		}
		id := e.Tx.ID()
		position[id] = i + 1 // BIP 22 counts from 1: the coinbase is 0
		list[i] = map[string]any{
			"data": hex.EncodeToString(e.Tx.Bytes()), "txid": id, "hash": id,
			"depends": depends, "fee": e.Fee, "sigops": e.SigOps,
		}
	}
	return list
}

// submitBlock answers as BIP 22 says: null, or a word for what is wrong.
// "inconclusive" is a good block that is not on the best chain: on another one,
// or not due yet.
func (s *Server) submitBlock(_ context.Context, a *args) (any, error) {
	var digits string
	if err := a.get(0, &digits); err != nil {
		return nil, err
	}
	b, err := decodeHex("Block", digits, types.DecodeSubmittedBlock)
	if err != nil {
		return nil, err
	}
	reason, bad, err := s.chain.InvalidReason(b.Header.ID())
	if err != nil {
		return nil, err
	}
	if bad {
		s.log.Info("submitted block is known to be invalid", "block", b.Header.ID(), "reason", reason)
		return "duplicate-invalid", nil
	}
	result, err := s.mining.SubmitBlock(b)
	if rule, ok := consensus.RuleOf(err); ok {
		s.log.Warn("submitted block refused", "block", b.Header.ID(), "err", err)
		return refusalWord(rule), nil
	}
	if err != nil {
		return nil, err
	}
	switch result {
	case SubmitKnown:
		return "duplicate", nil
	case SubmitNoParent:
		return "prev-blk-not-found", nil
	case SubmitBadParent:
		return "bad-prevblk", nil
	case SubmitHeld:
		// Nobody can say yet: it becomes a block when it is due unless a validator
		// takes the slot before.
		s.log.Info("submitted block is kept until it is due", "block", b.Header.ID(), "time", b.Time)
		return "inconclusive", nil
	case SubmitSideChain:
		return "inconclusive", nil
	}
	return nil, nil
}

// refusalWord returns the word of bitcoind or BIP 22 for a rule, which pool
// software may know, and our own word where Bitcoin has no such rule.
func refusalWord(r consensus.Rule) string {
	switch r {
	case consensus.RulePrevBlock:
		return "bad-prevblk"
	case consensus.RuleTimeOrder:
		return "time-too-old"
	case consensus.RuleTimeFuture:
		return "time-too-new"
	case consensus.RuleBits:
		return "bad-diffbits"
	case consensus.RuleWork:
		return "high-hash"
	case consensus.RuleMerkleRoot:
		return "bad-txnmrklroot"
	case consensus.RuleMerkleMutated:
		return "bad-txns-duplicate"
	case consensus.RuleBlockBytes:
		return "bad-blk-length"
	case consensus.RuleSigOps:
		return "bad-blk-sigops"
	case consensus.RuleNoCoinbase:
		return "bad-cb-missing"
	case consensus.RuleExtraCoinbase:
		return "bad-cb-multiple"
	case consensus.RuleCoinbaseScript:
		return "bad-cb-height"
	case consensus.RuleCoinbaseValue:
		return "bad-cb-amount"
	case consensus.RuleTxMissing:
		return "bad-txns-inputs-missingorspent"
	}
	return string(r)
}

func (s *Server) getMiningInfo(context.Context, *args) (any, error) {
	tip, bits, err := s.tip()
	if err != nil {
		return nil, err
	}
	rate, err := s.networkHashRate(&tip)
	if err != nil {
		return nil, err
	}
	target, standing := tip.NextTarget(), s.chain.Standing()
	return map[string]any{
		"blocks": tip.Height, "difficulty": difficulty(bits), "bits": bitsText(bits),
		"networkhashps": rate, "localhashps": s.mining.HashRate(), "pooledtx": len(s.pool.Entries()),
		"next": map[string]any{
			"height": tip.ChildHeight(), "bits": bitsText(tip.NextBits()), "difficulty": difficulty(tip.NextBits()),
			"target": fmt.Sprintf("%064x", target.Bytes32()),
		},
		"chain": s.chain.Network().Name, "warnings": warnings(&standing),
	}, nil
}

// networkHashRate estimates hashes per second over the last 120 blocks, as
// bitcoind's getnetworkhashps does. Signed blocks count for fork choice as if
// mined (C6), but nobody hashed for them.
func (s *Server) networkHashRate(tip *consensus.State) (float64, error) {
	const window = 120
	start := tip.Height - min(tip.Height, window)
	id, ok, err := s.chain.BestID(start)
	if err != nil || !ok {
		return 0, err
	}
	from, ok, err := s.chain.State(id)
	if err != nil || !ok || tip.Time <= from.Time {
		return 0, err
	}
	work := tip.Work
	work.Sub(&work, &from.Work)
	n := tip.Network.N
	for h := (start/n + 1) * n; h <= tip.Height; h += n {
		id, ok, err := s.chain.BestID(h)
		if err != nil || !ok {
			return 0, err
		}
		header, _, err := s.chain.Header(id)
		if err != nil {
			return 0, err
		}
		if target, err := types.CompactToTarget(header.Bits); err == nil && header.IsSigned() {
			signed := types.Work(&target)
			work.Sub(&work, &signed)
		}
	}
	return work.Float64() / float64(tip.Time-from.Time), nil
}

func (s *Server) generateToAddress(ctx context.Context, a *args) (any, error) {
	var count, maxTries int
	var address string
	// maxtries is bitcoind's; a block takes two hashes here.
	if err := errors.Join(a.get(0, &count), a.get(1, &address), a.get(2, &maxTries)); err != nil {
		return nil, err
	}
	script, err := s.chain.Network().Addresses.Script(address)
	if err != nil {
		return nil, fail(codeNotFound, "%v", err)
	}
	if count < 0 || count > 100_000 {
		return nil, fail(codeParameter, "nblocks %d: want 0 to 100,000", count)
	}
	ids := make([]types.Hash, 0, count)
	for range count {
		id, err := s.mining.Generate(ctx, script)
		if err != nil {
			var not ErrNotForThisNetwork
			if errors.As(err, &not) || errors.Is(err, ErrNotDue) {
				return nil, fail(codeMisc, "%v (%d of %d generated)", err, len(ids), count)
			}
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
