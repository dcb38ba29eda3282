package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/template"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// accounts lets the books of the Stratum port and the chain talk: what coinbases
// pay, which blocks were found, and what became of them.
type accounts struct {
	books    *pool.Books
	net      *consensus.Network
	operator []byte // script that gets what is paid to nobody else
	room     int    // bytes of a coinbase for its outputs
	solo     bool   // a block pays its finder: each account has work of its own
	log      *slog.Logger

	node *node.Node        // set before anything runs
	lost map[[32]byte]bool // orphans that no reorganisation brings back
}

// longestScript is an address's script that takes the most room.
const longestScript = 25

// most is how many accounts a coinbase can pay beside the operator.
func (a *accounts) most() int {
	room := a.room - template.OutputSize(a.operator)
	return max(0, room/template.OutputSize(make([]byte, longestScript)))
}

// Plan implements template.Payouts.
func (a *accounts) Plan(height uint32, reward int64) template.Plan {
	payments, note := a.books.Plan(height, reward, a.most())
	return a.outputs(payments, note, reward)
}

// outputs turns a plan of the books into one of the chain. An account that is no
// address any more, which would be a mistake of the books, makes a plan that the
// template refuses, loudly.
func (a *accounts) outputs(payments []pool.Payment, note []byte, reward int64) template.Plan {
	plan := template.Plan{Note: note}
	rest := reward
	for _, p := range payments {
		script, err := a.net.Addresses.Script(p.Account)
		if err != nil {
			a.log.Error("an account that cannot be paid is in the plan for a coinbase", "account", p.Account, "err", err)
		}
		plan.Outputs = append(plan.Outputs, types.TxOut{Value: p.Amount, PkScript: script})
		rest -= p.Amount
	}
	if rest > 0 || len(plan.Outputs) == 0 {
		plan.Outputs = append(plan.Outputs, types.TxOut{Value: rest, PkScript: a.operator})
	}
	return plan
}

// payable reports whether an account is an address of the network.
func payable(net *consensus.Network) func(account string) bool {
	return func(account string) bool {
		_, err := net.Addresses.Script(account)
		return err == nil
	}
}

// personal returns the work of one account on a template.
func (a *accounts) personal(job *work.Job, worker string) (*work.Job, bool) {
	payments, note := a.books.PlanFor(pool.Account(worker), job.Height, job.Reward)
	if len(payments) == 0 {
		return nil, false // all is the operator's, as in the common work
	}
	return a.node.Variant(job.ID, a.outputs(payments, note, job.Reward))
}

// found is node.Config.OnFound.
func (a *accounts) found(b node.FoundBlock) error {
	f := pool.Found{ID: b.ID, Height: b.Height, Time: b.Time, Reward: b.Reward, Finder: b.Finder, Note: b.Note}
	err := a.books.Found(f)
	if errors.Is(err, reward.ErrNote) {
		// Trying again would not help. Its outputs may pay accounts: a person has to look.
		a.log.Error("a found block is booked as the operator's, as its note says nothing of use", "block", b.ID, "height", b.Height, "err", err)
		f.Note = nil
		if err = a.books.Found(f); errors.Is(err, reward.ErrNote) {
			return nil // it is in the books already
		}
	}
	return err
}

// settlePause is how long a settlement that failed waits for the next try, and how
// long a block that is neither connected nor beaten is left alone.
const settlePause = 5 * time.Second

// run settles found blocks as the chain decides, until ctx ends.
func (a *accounts) run(ctx context.Context) error {
	said := false
	for {
		changed := a.node.Chain.Changed()
		err := a.settle()
		if err != nil && !said {
			a.log.Error("what became of found blocks cannot be booked, trying again", "err", err)
		}
		said = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(settlePause):
		}
	}
}

// settle asks the chain for every block that may still change. Losers go first:
// then two blocks of one height never both count.
func (a *accounts) settle() error {
	var won, lost [][32]byte
	states := map[[32]byte]pool.State{}
	var errs error
	for _, b := range a.books.OpenBlocks() {
		if a.lost[b.ID] {
			continue
		}
		is, err := a.node.BlockState(b.ID)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		state := stateOf(is)
		if state == b.State {
			a.lost[b.ID] = state == pool.Orphaned && is.Final
			continue
		}
		states[b.ID] = state
		if state == pool.Orphaned || state == pool.Held {
			lost = append(lost, b.ID)
		} else {
			won = append(won, b.ID)
		}
	}
	for _, id := range append(lost, won...) {
		if err := a.books.Settle(id, states[id]); err != nil && !errors.Is(err, reward.ErrUnknown) {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// stateOf is what the books make of what the chain says.
func stateOf(b node.BlockState) pool.State {
	switch b.Status {
	case node.BlockOnChain:
		if b.Final || b.Mature {
			return pool.Confirmed
		}
		return pool.Accepted
	case node.BlockHeld:
		return pool.Held
	}
	return pool.Orphaned
}
