package template

import (
	"errors"
	"fmt"
	"math"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/node/types"
)

// DefaultMaxCoinbase is the size, in bytes, of a coinbase transaction with its
// extranonce that every mining device is known to take. Those with the smallest
// buffers choke on more: docs/found.md lists them.
const DefaultMaxCoinbase = 220

// MaxNote is the most that a plan's note may have, in bytes: some 60,000 accounts
// with what each is owed.
const MaxNote = 8 << 20

// Plan is what one coinbase pays. It must not be changed once it was handed over.
type Plan struct {
	// Outputs of the coinbase. Their values add up to the block's reward exactly, and
	// each script can be spent.
	Outputs []types.TxOut
	// Note is for whoever made the plan: it is not in the block, but goes with it
	// into the record of found blocks. At most MaxNote bytes.
	Note []byte
}

// Payouts decides what coinbases pay.
type Payouts interface {
	// Plan is asked for every template, several times a minute, and has to answer at
	// once: miners wait. reward is subsidy and fees, in base units.
	Plan(height uint32, reward int64) Plan
}

// check reports what is wrong with a plan for a reward whose coinbase, with a
// tag, may have this many bytes.
func (p *Plan) check(reward int64, tag string, most int) error {
	if len(p.Outputs) == 0 {
		return errors.New("payout plan has no outputs")
	}
	if len(p.Note) > MaxNote {
		return fmt.Errorf("payout plan has a note of %d bytes, at most %d are kept", len(p.Note), MaxNote)
	}
	var sum int64
	for i := range p.Outputs {
		out := &p.Outputs[i]
		if !payable(out.PkScript) {
			return fmt.Errorf("payout plan: output %d has script %x, which nobody can spend from a mined block", i, out.PkScript)
		}
		// Both are at most MaxMoney, so the sum cannot overflow.
		if !types.ValidAmount(out.Value) || !types.ValidAmount(sum+out.Value) {
			return fmt.Errorf("payout plan: output %d pays %d", i, out.Value)
		}
		sum += out.Value
	}
	if sum != reward {
		return fmt.Errorf("payout plan pays %d of a reward of %d base units", sum, reward)
	}
	if size := coinbaseSize(tag, p.Outputs); size > most {
		return fmt.Errorf("payout plan makes a coinbase of %d bytes, at most %d are allowed (stratum.max_coinbase)", size, most)
	}
	return nil
}

// payable reports whether a mined block can pay a script to somebody.
func payable(script []byte) bool {
	t, err := types.ParseTemplate(script)
	return err == nil && t.Kind != types.NullData && t.Kind != types.PayToValidatorKey
}

// fixed is the plan that pays all to one script.
func fixed(script []byte) func(uint32, int64) Plan {
	return func(_ uint32, reward int64) Plan {
		return Plan{Outputs: []types.TxOut{{Value: reward, PkScript: script}}}
	}
}

// OutputSize returns the bytes that an output with this script takes in a coinbase.
func OutputSize(script []byte) int { return 8 + varIntSize(len(script)) + len(script) }

// CoinbaseRoom returns how many bytes a coinbase of at most this size, with a tag,
// has for up to 252 outputs, at any height.
func CoinbaseRoom(most int, tag string) int { return max(0, most-coinbaseSize(tag, nil)) }

// MaxOutputs returns how many outputs with scripts as long as this one a coinbase of
// at most this size, with a tag, can hold at any height.
func MaxOutputs(most int, tag string, script []byte) int {
	room, size := CoinbaseRoom(most, tag), OutputSize(script)
	n := room / size
	for n > 0 && n*size+varIntSize(n)-1 > room {
		n--
	}
	return n
}

// coinbaseSize returns the size of a coinbase transaction with its extranonce, at
// the height whose push is the longest.
func coinbaseSize(tag string, outputs []types.TxOut) int {
	script := len(types.HeightScript(math.MaxUint32)) + 1 + work.ExtranonceSize + jobPush + tagPush(tag)
	return 4 + 1 + 36 + 1 + script + 4 + outputsSize(outputs) + 4
}

func outputsSize(outputs []types.TxOut) int {
	size := varIntSize(len(outputs))
	for i := range outputs {
		size += OutputSize(outputs[i].PkScript)
	}
	return size
}

func varIntSize(n int) int { return len(types.AppendVarInt(make([]byte, 0, 9), uint64(n))) }
