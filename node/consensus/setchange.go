package consensus

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

// The rules about a change of the validator set (C9).
const (
	RuleSetOpen   Rule = "set-change-open"      // another change is under way
	RuleSetKeys   Rule = "set-change-keys"      // the new keys cannot be a set of this network
	RuleSetQuorum Rule = "set-change-quorum"    // no majority of the set in force signed
	RuleSetSig    Rule = "set-change-signature" // a signature does not verify
)

// SetChange puts another validator set in the place of the one in force, which
// signs it by majority: keys are added, removed, put in another order, or
// authority passes to other keys as a whole.
type SetChange struct {
	Keys []types.PublicKey // of the new set, in order
	// Signers has bit i set when validator i of the set in force signed.
	Signers uint32
	// Signatures holds r ‖ s of each signer, in ascending order of index.
	Signatures [][64]byte
}

// SetChangeDigest returns what a validator of the set current signs so that
// keys follow it. The new set's number is one higher.
func SetChangeDigest(network types.Hash, current ValidatorSet, keys []types.PublicKey) types.Hash {
	from, to := current.ID(), ValidatorSet{Number: current.Number + 1, Keys: keys}.ID()
	return types.TaggedHash("qcity/poo/set", network[:], from[:], to[:])
}

// Sign adds the signature of validator index, which replaces an earlier one.
func (c *SetChange) Sign(index uint8, sig [64]byte) {
	i := bits.OnesCount32(c.Signers & (1<<index - 1))
	if c.Signers>>index&1 == 1 {
		c.Signatures[i] = sig
		return
	}
	c.Signatures = slices.Insert(c.Signatures, i, sig)
	c.Signers |= 1 << index
}

// check applies the rules about a change that is carried by the block after a.
func (c *SetChange) check(n *Network, a *Authority) error {
	if a.Next != nil {
		return broken(RuleSetOpen, "the set of number %d follows already", a.Next.Number)
	}
	if err := c.checkKeys(n, a); err != nil {
		return err
	}
	if top := bits.Len32(c.Signers); top > len(a.Signers.Keys) || bits.OnesCount32(c.Signers) != len(c.Signatures) {
		return broken(RuleSetQuorum, "%d signatures, signers %x of a set of %d", len(c.Signatures), c.Signers, len(a.Signers.Keys))
	}
	enabled := 0
	for i, k := range a.Signers.Keys {
		if c.Signers>>i&1 == 1 && !a.IsDisabled(k) {
			enabled++
		}
	}
	if need := CertifyQuorum(len(a.Signers.Keys)); enabled < need {
		return broken(RuleSetQuorum, "%d signatures that count, want %d", enabled, need)
	}
	digest := SetChangeDigest(n.ID, a.Signers, c.Keys)
	for i, rest := 0, c.Signers; rest != 0; i, rest = i+1, rest&(rest-1) {
		index := bits.TrailingZeros32(rest)
		if err := a.Signers.Keys[index].Verify(digest, c.Signatures[i]); err != nil {
			return &RuleError{Rule: RuleSetSig, Detail: "validator " + a.Signers.Keys[index].String(), Cause: err}
		}
	}
	return nil
}

func (c *SetChange) checkKeys(n *Network, a *Authority) error {
	if err := n.CheckSet(c.Keys); err != nil {
		return &RuleError{Rule: RuleSetKeys, Detail: "new set", Cause: err}
	}
	both := slices.Clone(a.Signers.Keys)
	for _, k := range c.Keys {
		if a.IsDisabled(k) {
			return broken(RuleSetKeys, "%s is disabled", k)
		}
		if !slices.Contains(both, k) {
			both = append(both, k)
		}
	}
	if len(both) > MaxVoters {
		return broken(RuleSetKeys, "%d different keys in both sets, at most %d can vote together: change in two steps", len(both), MaxVoters)
	}
	return nil
}

// AppendTo appends the change's only encoding: the keys with their number,
// Signers as u32, and 64 bytes of each signature.
func (c *SetChange) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(appendKeys(b, c.Keys), c.Signers)
	for i := range c.Signatures {
		b = append(b, c.Signatures[i][:]...)
	}
	return b
}

// DecodeFrom reads what AppendTo writes.
func (c *SetChange) DecodeFrom(d *types.Decoder) {
	*c = SetChange{Keys: decodeKeys(d), Signers: d.Uint32()}
	c.Signatures = decodeSignatures(d, c.Signers)
}

// DecodeSetChange reads a change that fills b exactly.
func DecodeSetChange(b []byte) (SetChange, error) {
	d := types.NewDecoder(b)
	var c SetChange
	c.DecodeFrom(d)
	if err := d.Finish(); err != nil {
		return SetChange{}, fmt.Errorf("set change: %w", err)
	}
	return c, nil
}

// decodeSignatures reads a signature for each bit of signers.
func decodeSignatures(d *types.Decoder, signers uint32) (list [][64]byte) {
	for range bits.OnesCount32(signers) {
		sig := d.Bytes(64)
		if sig == nil {
			return nil
		}
		list = append(list, [64]byte(sig))
	}
	return list
}
