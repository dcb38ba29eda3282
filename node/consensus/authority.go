package consensus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"qcitycoin.org/qcity/node/types"
)

const (
	// takeoverDepth is how many certified slots above the one that carries a
	// change of the set let it take effect without being final: with two dead keys
	// of five slots are certified but never final, and must be replaceable (C9).
	takeoverDepth = 36
	// maxSlots bounds the signed slots that certificates on the chain may name.
	maxSlots = 64
)

// Slot is a signed slot of a chain, as certificates on it may name it.
type Slot struct {
	Checkpoint
	Voters    *Electorate // who may vote for it; nil for the genesis block
	Certified bool        // by certificates carried on this chain
}

// Authority is what a chain says of its validators as of a block: who signs
// and votes, and what the certificates it carries prove (C7, C9, C10). It
// follows from the signed blocks alone, so that every node has the same, and is
// what "the validator index" of the node's database holds. It is immutable.
type Authority struct {
	// Signers may sign slots and vote.
	Signers ValidatorSet
	// Next follows Signers; nil: no change is under way. Carrier is the slot that
	// carried it and Depth the number of slots certified above that.
	Next    *ValidatorSet
	Carrier Checkpoint
	Depth   uint32
	// Disabled are keys that evidence was carried against, in the order of their
	// bytes. They neither sign nor vote any more.
	Disabled []types.PublicKey
	// Final is the highest slot that carried certificates made final, or genesis.
	Final Checkpoint
	// Slots are the newest signed slots from Final on, ascending.
	Slots []Slot

	setID  types.Hash
	voters *Electorate
}

// genesisAuthority is the authority as of block 0.
func genesisAuthority(id types.Hash, keys []types.PublicKey) *Authority {
	genesis := Checkpoint{ID: id}
	a := &Authority{
		Signers: ValidatorSet{Keys: keys}, Final: genesis,
		Slots: []Slot{{Checkpoint: genesis, Certified: true}},
	}
	a.derive()
	return a
}

// derive fills in what follows from the sets.
func (a *Authority) derive() {
	a.setID = a.Signers.ID()
	a.voters = NewElectorate(a.Signers, a.Next, a.Disabled)
}

// Voters returns who may vote on the next slot.
func (a *Authority) Voters() *Electorate { return a.voters }

// IsDisabled reports whether evidence against a key was carried.
func (a *Authority) IsDisabled(k types.PublicKey) bool { return slices.Contains(a.Disabled, k) }

// Certified returns the highest slot that carried certificates certify.
func (a *Authority) Certified() Checkpoint {
	for _, s := range slices.Backward(a.Slots) {
		if s.Certified {
			return s.Checkpoint
		}
	}
	return a.Final
}

// slot returns the slot that a certificate names, or nil.
func (a *Authority) slot(c Checkpoint) *Slot {
	i := slices.IndexFunc(a.Slots, func(s Slot) bool { return s.Checkpoint == c })
	if i < 0 {
		return nil
	}
	return &a.Slots[i]
}

// clone returns a copy that may be changed until derive is called.
func (a *Authority) clone() *Authority {
	c := *a
	c.Slots = slices.Clone(a.Slots)
	c.Disabled = slices.Clone(a.Disabled)
	return &c
}

// certify notes what a checked certificate proves. n is the step of slots.
func (a *Authority) certify(c *Certificate, n uint32) {
	target := a.slot(c.Target)
	if !target.Certified {
		target.Certified = true
		if a.Next != nil && c.Target.Height > a.Carrier.Height {
			a.Depth++
		}
	}
	if a.finalises(c, target, n) {
		a.Final = c.Source
	}
}

func (a *Authority) finalises(c *Certificate, target *Slot, n uint32) bool {
	return c.Target.Height-c.Source.Height == n && c.Source.Height > a.Final.Height && target.Voters.Finalises(c.Signers)
}

// disable notes a key that evidence was carried against.
func (a *Authority) disable(k types.PublicKey) {
	i, _ := slices.BinarySearchFunc(a.Disabled, k, compareKeys)
	a.Disabled = slices.Insert(a.Disabled, i, k)
}

func compareKeys(a, b types.PublicKey) int { return bytes.Compare(a.Bytes(), b.Bytes()) }

// extend ends the work on a signed block, whose records were carried: a change
// of the set whose time has come takes effect for the next slot, and the block
// itself becomes a slot that voters can vote for.
func (a *Authority) extend(block Checkpoint, voters *Electorate) {
	switch {
	case a.Next == nil:
	case a.Carrier == Checkpoint{}:
		a.Carrier = block
	case a.Final.Height >= a.Carrier.Height || a.Depth >= takeoverDepth:
		a.Signers, a.Next, a.Carrier, a.Depth = *a.Next, nil, Checkpoint{}, 0
	}
	a.Slots = append(a.Slots, Slot{Checkpoint: block, Voters: voters})
	a.Slots = slices.DeleteFunc(a.Slots, func(s Slot) bool { return s.Height < a.Final.Height })
	if len(a.Slots) > maxSlots {
		// The oldest goes, but never the only one that votes can start from.
		i := 0
		if highest := a.Certified(); a.Slots[0].Checkpoint == highest {
			i = 1
		}
		a.Slots = slices.Delete(a.Slots, i, i+1)
	}
	a.derive()
}

// Bytes returns the encoding of the authority, for the node's database.
func (a *Authority) Bytes() []byte {
	b := appendSet(nil, &a.Signers)
	if a.Next == nil {
		b = append(b, 0)
	} else {
		b = appendSet(append(b, 1), a.Next)
		b = binary.LittleEndian.AppendUint32(a.Carrier.appendTo(b), a.Depth)
	}
	b = appendKeys(b, a.Disabled)
	b = a.Final.appendTo(b)
	// Slots share a few electorates: these come first, slots name them by number.
	var voters []*Electorate
	number := func(e *Electorate) byte {
		if e == nil {
			return 0
		}
		i := slices.IndexFunc(voters, func(v *Electorate) bool { return v.id == e.id && v.disabled == e.disabled })
		if i < 0 {
			i, voters = len(voters), append(voters, e)
		}
		return byte(i + 1)
	}
	var slots []byte
	for _, s := range a.Slots {
		certified := byte(0)
		if s.Certified {
			certified = 1
		}
		slots = append(s.appendTo(slots), certified, number(s.Voters))
	}
	b = types.AppendVarInt(b, uint64(len(voters)))
	for _, e := range voters {
		b = append(b, byte(len(e.sets)))
		for i := range e.sets {
			b = appendSet(b, &e.sets[i])
		}
		b = appendKeys(b, e.disabledKeys())
	}
	b = types.AppendVarInt(b, uint64(len(a.Slots)))
	return append(b, slots...)
}

// ID returns a hash of the authority, by which the database refers to it.
func (a *Authority) ID() types.Hash { return types.TaggedHash("qcity/authority", a.Bytes()) }

// DecodeAuthority reads what Bytes wrote. Keys were checked when they came on
// the chain and are not checked again.
func DecodeAuthority(b []byte) (*Authority, error) {
	d := types.NewDecoder(b)
	a := &Authority{Signers: decodeSet(d)}
	switch d.Uint8() {
	case 0:
	case 1:
		next := decodeSet(d)
		a.Next, a.Carrier, a.Depth = &next, DecodeCheckpoint(d), d.Uint32()
	default:
		d.Fail(types.ErrNonCanonical)
	}
	a.Disabled = decodeKeys(d)
	a.Final = DecodeCheckpoint(d)
	voters := []*Electorate{nil}
	for range d.Count(2) {
		sets := make([]ValidatorSet, d.Uint8())
		for i := range sets {
			sets[i] = decodeSet(d)
		}
		disabled := decodeKeys(d)
		if d.Err() != nil || len(sets) < 1 || len(sets) > 2 {
			d.Fail(types.ErrNonCanonical)
			break
		}
		voters = append(voters, newElectorate(sets, disabled, CertifyQuorum, FinalQuorum))
	}
	for range d.Count(checkpointBytes + 2) {
		s := Slot{Checkpoint: DecodeCheckpoint(d)}
		certified, i := d.Uint8(), d.Uint8()
		if certified > 1 || int(i) >= len(voters) {
			d.Fail(types.ErrNonCanonical)
			break
		}
		s.Certified, s.Voters = certified == 1, voters[i]
		a.Slots = append(a.Slots, s)
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	a.derive()
	return a, nil
}

const checkpointBytes = 4 + 32

func (c Checkpoint) appendTo(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, c.Height), c.ID[:]...)
}

// Bytes returns the 36 bytes of a checkpoint: height and id.
func (c Checkpoint) Bytes() []byte { return c.appendTo(nil) }

// DecodeCheckpoint reads what Bytes wrote.
func DecodeCheckpoint(d *types.Decoder) Checkpoint {
	return Checkpoint{Height: d.Uint32(), ID: d.Hash()}
}

func appendKeys(b []byte, keys []types.PublicKey) []byte {
	b = types.AppendVarInt(b, uint64(len(keys)))
	for _, k := range keys {
		b = append(b, k.Bytes()...)
	}
	return b
}

// keyBytes is the size of an encoded key.
const keyBytes = 34

// decodeKeys reads keys without checking their points.
func decodeKeys(d *types.Decoder) []types.PublicKey {
	count := d.Count(keyBytes)
	if count == 0 {
		return nil
	}
	keys := make([]types.PublicKey, count)
	for i := range keys {
		keys[i].Algorithm = types.KeyAlgorithm(d.Uint8())
		copy(keys[i].Point[:], d.Bytes(len(keys[i].Point)))
	}
	return keys
}

func appendSet(b []byte, s *ValidatorSet) []byte {
	return appendKeys(binary.LittleEndian.AppendUint32(b, s.Number), s.Keys)
}

func decodeSet(d *types.Decoder) ValidatorSet {
	return ValidatorSet{Number: d.Uint32(), Keys: decodeKeys(d)}
}
