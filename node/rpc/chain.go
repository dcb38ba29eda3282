package rpc

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func (s *Server) getBestBlockHash(context.Context, *args) (any, error) {
	return s.chain.Tip().ID, nil
}

func (s *Server) getBlockCount(context.Context, *args) (any, error) {
	return s.chain.Tip().Height, nil
}

func (s *Server) getBlockHash(_ context.Context, a *args) (any, error) {
	var height int64
	if err := a.get(0, &height); err != nil {
		return nil, err
	}
	if height < 0 || height > int64(s.chain.Tip().Height) {
		return nil, fail(codeParameter, "block height %d is out of range 0 to %d", height, s.chain.Tip().Height)
	}
	id, ok, err := s.chain.BestID(uint32(height))
	if err == nil && !ok {
		err = fail(codeParameter, "block height %d is out of range", height)
	}
	return id, err
}

// tip returns the state of the best chain and, as bitcoind's figures are the
// best block's and not the next one's, the compact target of its block.
func (s *Server) tip() (tip consensus.State, bits uint32, err error) {
	tip = s.chain.Tip()
	header, ok, err := s.chain.Header(tip.ID)
	if err == nil && !ok {
		err = fmt.Errorf("best block %s is not stored: check the chain with \"qcity chain verify\"", tip.ID)
	}
	return tip, header.Bits, err
}

func (s *Server) getDifficulty(context.Context, *args) (any, error) {
	_, bits, err := s.tip()
	return difficulty(bits), err
}

// difficulty is bitcoind's figure: how much harder than 1d00ffff.
func difficulty(bits uint32) float64 {
	target, err := types.CompactToTarget(bits)
	if err != nil {
		return 0
	}
	one := new(big.Float).SetInt(new(big.Int).Lsh(big.NewInt(0xffff), 208))
	d, _ := one.Quo(one, new(big.Float).SetInt(target.ToBig())).Float64()
	return d
}

func (s *Server) getBlockchainInfo(context.Context, *args) (any, error) {
	tip, bits, err := s.tip()
	if err != nil {
		return nil, err
	}
	net, standing := s.chain.Network(), s.chain.Standing()
	// The parent's time is what lock times are held against, as Bitcoin's median
	// is: times on this chain only rise.
	return map[string]any{
		"chain": net.Name, "networkid": net.ID,
		"blocks": tip.Height, "headers": tip.Height, "bestblockhash": tip.ID,
		"bits": bitsText(bits), "difficulty": difficulty(bits),
		"time": tip.Time, "mediantime": tip.Time,
		"verificationprogress": 1, "initialblockdownload": false,
		"chainwork": fmt.Sprintf("%064x", tip.Work.Bytes32()), "signedslots": tip.SignedSlots,
		"certified": checkpointJSON(standing.Certified), "final": checkpointJSON(standing.Final),
		"pruned": false, "warnings": warnings(&standing),
	}, nil
}

// warnings says what the validators owe (L5), in every call in which bitcoind
// warns.
func warnings(s *consensus.Standing) []string {
	if d, ok := s.Degraded(); ok {
		return []string{d.String()}
	}
	return []string{}
}

func bitsText(bits uint32) string { return fmt.Sprintf("%08x", bits) }

// entry is a stored header with what the chain knows of it.
type entry struct {
	id     types.Hash
	header types.SignedHeader
	state  consensus.State
	best   bool
}

func (s *Server) entry(a *args) (entry, error) {
	var text string
	if err := a.get(0, &text); err != nil {
		return entry{}, err
	}
	id, err := parseHash("blockhash", text)
	if err != nil {
		return entry{}, err
	}
	return s.entryOf(id)
}

func (s *Server) entryOf(id types.Hash) (entry, error) {
	e := entry{id: id}
	var ok bool
	var err error
	if e.header, ok, err = s.chain.Header(id); err != nil {
		return e, err
	}
	if !ok {
		return e, fail(codeNotFound, "block %s not found", id)
	}
	if e.state, _, err = s.chain.State(id); err != nil {
		return e, err
	}
	best, ok, err := s.chain.BestID(e.state.Height)
	e.best = ok && best == id
	return e, err
}

func (s *Server) getBlockHeader(_ context.Context, a *args) (any, error) {
	verbose := true
	if err := a.get(1, &verbose); err != nil {
		return nil, err
	}
	e, err := s.entry(a)
	if err != nil {
		return nil, err
	}
	if !verbose {
		return hex.EncodeToString(e.header.Header.Bytes()), nil
	}
	return s.headerJSON(e)
}

// blockType names what a block is, as the chain export does.
func (s *Server) blockType(e entry) string {
	switch {
	case e.state.Height == 0:
		return "genesis"
	case e.header.IsSigned():
		return "signed"
	case s.chain.Network().IsSlot(e.state.Height):
		return "fallback"
	}
	return "mined"
}

func (s *Server) headerJSON(e entry) (map[string]any, error) {
	h := &e.header
	confirmations := int64(-1)
	if e.best {
		confirmations = int64(s.chain.Tip().Height) - int64(e.state.Height) + 1
	}
	m := map[string]any{
		"hash": e.id, "confirmations": confirmations, "height": e.state.Height,
		"version": h.Version, "versionHex": fmt.Sprintf("%08x", uint32(h.Version)),
		"merkleroot": h.MerkleRoot, "time": h.Time, "mediantime": h.Time, "nonce": h.Nonce,
		"bits": bitsText(h.Bits), "difficulty": difficulty(h.Bits),
		"chainwork": fmt.Sprintf("%064x", e.state.Work.Bytes32()),
		"type":      s.blockType(e), "status": s.status(e), "vchblocksig": hex.EncodeToString(h.VchBlockSig), "signer": nil,
	}
	if sig, err := types.ParseBlockSig(h.VchBlockSig); err == nil {
		m["signer"] = sig.Index
	}
	if e.state.Height > 0 {
		m["previousblockhash"] = h.PrevBlock
	}
	if e.best {
		next, ok, err := s.chain.BestID(e.state.Height + 1)
		if err != nil {
			return nil, err
		}
		if ok {
			m["nextblockhash"] = next
		}
	}
	return m, nil
}

// status is what stands behind a block of the best chain (L4), null for others.
func (s *Server) status(e entry) any {
	standing := s.chain.Standing()
	if !e.best || e.state.Height > standing.Tip.Height {
		return nil
	}
	return standing.Of(e.state.Height)
}

func (s *Server) getBlock(_ context.Context, a *args) (any, error) {
	verbosity := 1
	if err := a.getBoolOrLevel(1, &verbosity); err != nil {
		return nil, err
	}
	e, err := s.entry(a)
	if err != nil {
		return nil, err
	}
	b, ok, err := s.chain.Block(e.id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fail(codeNotFound, "block %s has no body here", e.id)
	}
	raw := b.Bytes()
	if verbosity <= 0 {
		return hex.EncodeToString(raw), nil
	}
	m, err := s.headerJSON(e)
	if err != nil {
		return nil, err
	}
	txs := make([]any, len(b.Transactions))
	for i, tx := range b.Transactions {
		if txs[i] = tx.ID(); verbosity >= 2 {
			object := s.txJSON(tx)
			object["status"] = m["status"]
			txs[i] = object
		}
	}
	m["tx"], m["nTx"], m["size"], m["strippedsize"], m["weight"] = txs, len(txs), len(raw), len(raw), 4*len(raw)
	return m, nil
}

// slotHistory is how many past slots getslotinfo lists.
const slotHistory = 20

// getSlotInfo tells whose turn the next slot is and, once its parent is the
// tip, from when to when each validator may sign and miners may take it.
func (s *Server) getSlotInfo(context.Context, *args) (any, error) {
	tip := s.chain.Tip()
	n := tip.Network.N
	// Ranks hang on height and validator set alone; the set is the tip's.
	parent := tip
	parent.Height = (tip.Height/n+1)*n - 1
	turns := make([]map[string]any, len(parent.Validators().Keys))
	for rank := range turns {
		index := parent.ValidatorOfRank(uint32(rank))
		turns[rank] = map[string]any{"validator": index, "rank": rank}
		if tip.ChildIsSlot() {
			turns[rank]["from"], turns[rank]["until"] = tip.SignedWindow(index)
		}
	}
	past, err := s.pastSlots(&tip)
	if err != nil {
		return nil, err
	}
	m := map[string]any{
		"height": parent.ChildHeight(), "blocksuntil": parent.ChildHeight() - tip.Height,
		"open": tip.ChildIsSlot(), "inturn": parent.ValidatorOfRank(0), "turns": turns, "past": past,
	}
	if tip.ChildIsSlot() {
		_, m["signeduntil"] = tip.SignedWindow(parent.ValidatorOfRank(0))
		m["fallbackfrom"] = tip.FallbackTime()
	}
	return m, nil
}

// pastSlots lists the newest slots of the best chain, newest first.
func (s *Server) pastSlots(tip *consensus.State) ([]map[string]any, error) {
	past := []map[string]any{}
	n := tip.Network.N
	for h := tip.Height - tip.Height%n; h > 0 && len(past) < slotHistory; h -= n {
		id, ok, err := s.chain.BestID(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue // the chain became shorter meanwhile
		}
		e, err := s.entryOf(id)
		if err != nil {
			return nil, err
		}
		slot := map[string]any{"height": h, "hash": id, "time": e.header.Time, "type": s.blockType(e), "status": s.status(e), "signer": nil}
		if sig, err := types.ParseBlockSig(e.header.VchBlockSig); err == nil {
			slot["signer"] = sig.Index
		}
		past = append(past, slot)
	}
	return past, nil
}

// getNetworkInfo has bitcoind's members. What concerns peers says what is true
// of a node without any: it speaks no peer protocol and relays nothing.
func (s *Server) getNetworkInfo(context.Context, *args) (any, error) {
	standing := s.chain.Standing()
	return map[string]any{
		"version": versionNumber(s.cfg.Version), "subversion": "/qcity:" + s.cfg.Version + "/", "protocolversion": 0,
		"localservices": "0000000000000000", "localservicesnames": []string{},
		"localrelay": false, "timeoffset": 0, "networkactive": false,
		"connections": 0, "connections_in": 0, "connections_out": 0,
		"networks": []any{}, "localaddresses": []any{}, "networkid": s.chain.Network().ID,
		"relayfee": amount(s.pool.MinFeeRate()), "incrementalfee": amount(s.pool.MinFeeRate()), "warnings": warnings(&standing),
	}, nil
}

// versionNumber is bitcoind's way to write a version: 1.2.3 is 10203. It is 0
// for a version that is not made of three numbers.
func versionNumber(version string) int {
	var major, minor, patch int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d.%d", &major, &minor, &patch); n != 3 {
		return 0
	}
	return 10000*major + 100*minor + patch
}

// amount writes base units as bitcoind does: coins, a number with 8 decimals.
func amount(v int64) json.Number { return json.Number(types.FormatAmount(v)) }
