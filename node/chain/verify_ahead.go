package chain

import (
	"runtime"
	"sync"
	"sync/atomic"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// parallelFrom is the number of signatures from which it pays to share the work.
const parallelFrom = 8

// signedTx is a transaction whose signatures are still to be checked, with the
// scripts its inputs spend.
type signedTx struct {
	tx      *types.Transaction
	id      types.Hash
	scripts [][]byte
}

// verifyAhead checks the signatures of a block on all processors, before the
// rules go through its transactions one by one, and returns rules that know
// which ones hold. It decides nothing: what does not verify here, or spends what
// is not there, is left for the rules to find and name.
func verifyAhead(b *types.Block, coins consensus.Coins, rules []consensus.Option) []consensus.Option {
	jobs, inputs := toVerify(b, coins, rules)
	workers := min(runtime.GOMAXPROCS(0), len(jobs))
	if workers < 2 || inputs < parallelFrom {
		return rules
	}
	held := make([]bool, len(jobs))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(jobs); i = int(next.Add(1)) - 1 {
				held[i] = jobs[i].verify()
			}
		})
	}
	wg.Wait()
	known := make(map[types.Hash]bool, len(jobs))
	for i, ok := range held {
		if ok {
			known[jobs[i].id] = true
		}
	}
	// Full slice expression: the manager's own rules must not be written to.
	return append(rules[:len(rules):len(rules)], consensus.Verified(func(id types.Hash) bool { return known[id] }))
}

// toVerify lists the transactions that nobody has verified yet and whose coins
// are known, and counts their inputs.
func toVerify(b *types.Block, coins consensus.Coins, rules []consensus.Option) (jobs []signedTx, inputs int) {
	made := make(map[types.OutPoint][]byte)
	for i, tx := range b.Transactions {
		id := tx.ID()
		if i > 0 && !consensus.IsVerified(id, rules...) {
			if scripts, ok := spentScripts(tx, coins, made); ok {
				jobs = append(jobs, signedTx{tx, id, scripts})
				inputs += len(scripts)
			}
		}
		for n := range tx.Outputs {
			made[types.OutPoint{TxID: id, Index: uint32(n)}] = tx.Outputs[n].PkScript
		}
	}
	return jobs, inputs
}

func spentScripts(tx *types.Transaction, coins consensus.Coins, made map[types.OutPoint][]byte) ([][]byte, bool) {
	scripts := make([][]byte, len(tx.Inputs))
	for i := range tx.Inputs {
		previous := tx.Inputs[i].Previous
		if coin, ok := coins[previous]; ok {
			scripts[i] = coin.Output.PkScript
		} else if script, ok := made[previous]; ok {
			scripts[i] = script
		} else {
			return nil, false
		}
	}
	return scripts, true
}

func (s *signedTx) verify() bool {
	for i := range s.tx.Inputs {
		if types.VerifyInput(s.tx, i, s.scripts[i]) != nil {
			return false
		}
	}
	return true
}
