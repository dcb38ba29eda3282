package rpc

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func (s *Server) txJSON(tx *types.Transaction) map[string]any {
	raw := tx.Bytes()
	vin := make([]map[string]any, len(tx.Inputs))
	for i, in := range tx.Inputs {
		vin[i] = map[string]any{"sequence": in.Sequence}
		if in.Previous.IsNull() {
			vin[i]["coinbase"] = hex.EncodeToString(in.SignatureScript)
			continue
		}
		vin[i]["txid"], vin[i]["vout"] = in.Previous.TxID, in.Previous.Index
		vin[i]["scriptSig"] = map[string]any{"hex": hex.EncodeToString(in.SignatureScript)}
	}
	vout := make([]map[string]any, len(tx.Outputs))
	for i, out := range tx.Outputs {
		vout[i] = map[string]any{"value": amount(out.Value), "n": i, "scriptPubKey": s.scriptJSON(out.PkScript)}
	}
	return map[string]any{
		"txid": tx.ID(), "hash": tx.ID(), "version": tx.Version, "size": len(raw), "vsize": len(raw),
		"weight": 4 * len(raw), "locktime": tx.LockTime, "vin": vin, "vout": vout, "hex": hex.EncodeToString(raw),
	}
}

func (s *Server) scriptJSON(pkScript []byte) map[string]any {
	m := map[string]any{"hex": hex.EncodeToString(pkScript), "type": "nonstandard"}
	if t, err := types.ParseTemplate(pkScript); err == nil {
		m["type"] = t.Kind.String()
	}
	if a := s.chain.Network().Addresses.Address(pkScript); a != "" {
		m["address"] = a
	}
	return m
}

func (s *Server) getMempoolInfo(context.Context, *args) (any, error) {
	entries := s.pool.Entries()
	var bytes int
	var fees int64
	for _, e := range entries {
		bytes, fees = bytes+e.Size, fees+e.Fee
	}
	return map[string]any{
		"loaded": true, "size": len(entries), "bytes": bytes, "usage": bytes, "total_fee": amount(fees),
		"mempoolminfee": amount(s.pool.MinFeeRate()), "minrelaytxfee": amount(s.pool.MinFeeRate()),
	}, nil
}

func (s *Server) getRawMempool(_ context.Context, a *args) (any, error) {
	verbose := false
	if err := a.get(0, &verbose); err != nil {
		return nil, err
	}
	entries := s.pool.Entries()
	if verbose {
		m := make(map[string]any, len(entries))
		for _, e := range entries {
			m[e.TxID.String()] = map[string]any{
				"vsize": e.Size, "weight": 4 * e.Size, "time": e.Time.Unix(), "height": e.Height,
				"fees": map[string]any{"base": amount(e.Fee)},
			}
		}
		return m, nil
	}
	ids := make([]types.Hash, len(entries))
	for i, e := range entries {
		ids[i] = e.TxID
	}
	slices.SortFunc(ids, types.Hash.Compare)
	return ids, nil
}

func (s *Server) getRawTransaction(_ context.Context, a *args) (any, error) {
	var text, blockText string
	verbosity := 0
	if err := errors.Join(a.get(0, &text), a.getBoolOrLevel(1, &verbosity), a.get(2, &blockText)); err != nil {
		return nil, err
	}
	id, err := parseHash("txid", text)
	if err != nil {
		return nil, err
	}
	if blockText == "" {
		e, ok := s.pool.Entry(id)
		if !ok {
			return nil, fail(codeNotFound, "no such mempool transaction: name the block that holds %s as third parameter", id)
		}
		return s.txAnswer(e.Tx, verbosity, nil)
	}
	blockID, err := parseHash("blockhash", blockText)
	if err != nil {
		return nil, err
	}
	e, err := s.entryOf(blockID)
	if err != nil {
		return nil, err
	}
	b, ok, err := s.chain.Block(blockID)
	if err != nil {
		return nil, err
	}
	if ok {
		for _, tx := range b.Transactions {
			if tx.ID() == id {
				return s.txAnswer(tx, verbosity, &e)
			}
		}
	}
	return nil, fail(codeNotFound, "block %s does not hold transaction %s", blockID, id)
}

func (s *Server) txAnswer(tx *types.Transaction, verbosity int, in *entry) (any, error) {
	if verbosity == 0 {
		return hex.EncodeToString(tx.Bytes()), nil
	}
	m := s.txJSON(tx)
	if in != nil {
		header, err := s.headerJSON(*in)
		if err != nil {
			return nil, err
		}
		m["blockhash"], m["confirmations"], m["blocktime"], m["time"] = in.id, header["confirmations"], in.header.Time, in.header.Time
		m["in_active_chain"], m["status"] = in.best, header["status"]
	}
	return m, nil
}

func (s *Server) decodeRawTransaction(_ context.Context, a *args) (any, error) {
	tx, err := a.transaction(0)
	if err != nil {
		return nil, err
	}
	m := s.txJSON(tx)
	delete(m, "hex")
	return m, nil
}

func (a *args) transaction(i int) (*types.Transaction, error) {
	var digits string
	if err := a.get(i, &digits); err != nil {
		return nil, err
	}
	return decodeHex("TX", digits, types.DecodeTransaction)
}

// maxFeeRate is bitcoind's guard against mistyped change: a tenth of a coin per
// 1,000 bytes unless the caller names another rate; 0 switches it off.
func (a *args) maxFeeRate(i int) (float64, error) {
	rate := json.Number("0.1") // as a number or, as bitcoind also takes it, a string
	if err := a.get(i, &rate); err != nil {
		return 0, err
	}
	v, err := rate.Float64()
	if err != nil || v < 0 || v > types.MaxMoney/types.Coin {
		return 0, fail(codeType, "%s: %s %s: want coins per 1,000 bytes, or 0 for no limit", a.call, a.names[i], rate)
	}
	return v, nil
}

func feeTooHigh(e PoolEntry, maxRate float64) bool {
	return maxRate > 0 && float64(e.Fee)/types.Coin > maxRate*float64(e.Size)/1000
}

func (s *Server) sendRawTransaction(_ context.Context, a *args) (any, error) {
	tx, err := a.transaction(0)
	if err != nil {
		return nil, err
	}
	maxRate, err := a.maxFeeRate(1)
	if err != nil {
		return nil, err
	}
	if e, known := s.pool.Entry(tx.ID()); known {
		return e.TxID, nil
	}
	e, err := s.pool.Test(tx)
	if err != nil {
		return nil, refusal(err)
	}
	if feeTooHigh(e, maxRate) {
		return nil, fail(codeRejected, "max-fee-exceeded: fee %s for %d bytes; raise maxfeerate if it is meant", types.FormatAmount(e.Fee), e.Size)
	}
	id, err := s.pool.Add(tx)
	if err != nil {
		return nil, refusal(err)
	}
	return id, nil
}

// refusal turns a mempool error into bitcoind's codes. A failure of this node
// stays what it is.
func refusal(err error) error {
	var unwanted ErrUnwanted
	_, rule := consensus.RuleOf(err)
	switch {
	case errors.Is(err, ErrConfirmed):
		return fail(codeInChain, "transaction outputs already in utxo set")
	case errors.Is(err, consensus.RuleTxMissing):
		return fail(codeVerify, "bad-txns-inputs-missingorspent: %v", err)
	case rule || errors.As(err, &unwanted):
		return fail(codeRejected, "%v", err)
	}
	return err
}

func (s *Server) testMempoolAccept(_ context.Context, a *args) (any, error) {
	var list []string
	if err := a.get(0, &list); err != nil {
		return nil, err
	}
	maxRate, err := a.maxFeeRate(1)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || len(list) > 25 {
		return nil, fail(codeParameter, "testmempoolaccept takes 1 to 25 transactions")
	}
	out := make([]map[string]any, len(list))
	for i, digits := range list {
		tx, err := decodeHex("TX", digits, types.DecodeTransaction)
		if err != nil {
			return nil, err
		}
		m := map[string]any{"txid": tx.ID(), "wtxid": tx.ID(), "allowed": false}
		e, err := s.pool.Test(tx)
		var refused *Error
		switch {
		case err != nil && !errors.As(refusal(err), &refused):
			return nil, err
		case err != nil:
			m["reject-reason"] = refused.Message
		case feeTooHigh(e, maxRate):
			m["reject-reason"] = "max-fee-exceeded"
		default:
			m["allowed"], m["vsize"], m["fees"] = true, e.Size, map[string]any{"base": amount(e.Fee)}
		}
		out[i] = m
	}
	return out, nil
}

func (s *Server) getTxOut(_ context.Context, a *args) (any, error) {
	var text string
	var n uint32
	withPool := true
	if err := errors.Join(a.get(0, &text), a.get(1, &n), a.get(2, &withPool)); err != nil {
		return nil, err
	}
	id, err := parseHash("txid", text)
	if err != nil {
		return nil, err
	}
	o := types.OutPoint{TxID: id, Index: n}
	tip, coins, err := s.chain.View([]types.OutPoint{o})
	if err != nil {
		return nil, err
	}
	coin, ok := coins[o]
	confirmations := int64(tip.Height) - int64(coin.Height) + 1
	standing := s.chain.Standing()
	var status any
	if ok {
		status = standing.Of(coin.Height)
	}
	if withPool {
		if _, spent := s.pool.Spender(o); spent {
			return nil, nil
		}
		if e, in := s.pool.Entry(id); !ok && in && spendable(e.Tx, n) {
			coin, ok, confirmations, status = consensus.Coin{Output: e.Tx.Outputs[n]}, true, 0, nil
		}
	}
	if !ok {
		return nil, nil // bitcoind answers null for an output that is spent or unknown
	}
	return map[string]any{
		"bestblock": tip.ID, "confirmations": confirmations, "status": status, "value": amount(coin.Output.Value),
		"scriptPubKey": s.scriptJSON(coin.Output.PkScript), "coinbase": coin.Coinbase,
	}, nil
}

// spendable reports whether a transaction has an output n that makes a coin.
func spendable(tx *types.Transaction, n uint32) bool {
	if int64(n) >= int64(len(tx.Outputs)) {
		return false
	}
	t, err := types.ParseTemplate(tx.Outputs[n].PkScript)
	return err == nil && t.Kind != types.NullData
}

func (s *Server) validateAddress(_ context.Context, a *args) (any, error) {
	var address string
	if err := a.get(0, &address); err != nil {
		return nil, err
	}
	script, err := s.chain.Network().Addresses.Script(address)
	if err != nil {
		return map[string]any{"isvalid": false, "error": err.Error()}, nil
	}
	t, _ := types.ParseTemplate(script)
	return map[string]any{
		"isvalid": true, "address": address, "scriptPubKey": hex.EncodeToString(script),
		"isscript": t.Kind == types.PayToScriptHash, "iswitness": false,
	}, nil
}
