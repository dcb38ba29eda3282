package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/node/types"
)

// Params are the fixed numbers of one network, as its network file writes them.
type Params struct {
	// Name of the network: 1–32 characters a–z, 0–9 and dashes.
	Name string `toml:"name" json:"name"`
	// Magic distinguishes networks on the wire before the handshake.
	Magic uint32 `toml:"magic" json:"magic"`
	// GenesisTime is the Unix time of block 0, in seconds.
	GenesisTime uint32 `toml:"genesisTime" json:"genesisTime"`
	// GenesisBits is the difficulty ASERT starts from, as a compact target.
	GenesisBits Bits `toml:"genesisBits" json:"genesisBits"`
	// PowLimitBits is the easiest target ever allowed.
	PowLimitBits Bits `toml:"powLimitBits" json:"powLimitBits"`

	// N makes every Nth height a slot.
	N uint32 `toml:"n" json:"n"`
	// IntervalSeconds is the mean time between blocks that ASERT aims at.
	IntervalSeconds uint32 `toml:"intervalSeconds" json:"intervalSeconds"`
	// HalfLifeSeconds is how far off schedule the chain must be for ASERT to
	// halve or double the target.
	HalfLifeSeconds uint32 `toml:"halfLifeSeconds" json:"halfLifeSeconds"`
	// SlotOpenSeconds after the parent, a slot opens to miners (C4).
	SlotOpenSeconds uint32 `toml:"slotOpenSeconds" json:"slotOpenSeconds"`
	// SlotCloseSeconds after the parent, a slot closes to validators (C3).
	SlotCloseSeconds uint32 `toml:"slotCloseSeconds" json:"slotCloseSeconds"`
	// RankStepSeconds is how long a validator waits for each one ranked before it (C3).
	RankStepSeconds uint32 `toml:"rankStepSeconds" json:"rankStepSeconds"`
	// FutureLimitSeconds is how far a header may be ahead of the clock (C1).
	FutureLimitSeconds uint32 `toml:"futureLimitSeconds" json:"futureLimitSeconds"`

	// Subsidy of a mined block before the first halving, in base units.
	Subsidy int64 `toml:"subsidy" json:"subsidy"`
	// HalvingInterval is the number of blocks between halvings.
	HalvingInterval uint32 `toml:"halvingInterval" json:"halvingInterval"`
	// CoinbaseMaturity is the number of blocks after which a coinbase or
	// CoinOnline output may be spent.
	CoinbaseMaturity uint32 `toml:"coinbaseMaturity" json:"coinbaseMaturity"`

	// MaxBlockBytes is the largest serialised block.
	MaxBlockBytes uint32 `toml:"maxBlockBytes" json:"maxBlockBytes"`
	// MaxSigOps is the most signature checks a block may need.
	MaxSigOps uint32 `toml:"maxSigOps" json:"maxSigOps"`
	// MaxDataBytes is the most bytes a data output may carry.
	MaxDataBytes uint32 `toml:"maxDataBytes" json:"maxDataBytes"`

	// Addresses are the Base58Check version bytes.
	Addresses types.AddressVersions `toml:"addresses" json:"addresses"`
	// Validators are the keys of validator set 0, an odd number up to 21.
	Validators []types.PublicKey `toml:"validators" json:"validators"`

	// Release is a block that a release of the software vouches for, or nil (L7):
	// nodes refuse chains without it. It is no part of the canonical encoding.
	Release *ReleaseCheckpoint `toml:"release" json:"release,omitempty"`
}

// ReleaseCheckpoint names a block as people write it.
type ReleaseCheckpoint struct {
	Height uint32     `toml:"height" json:"height"`
	Block  types.Hash `toml:"block" json:"block"`
}

// Checkpoint returns height and id.
func (r *ReleaseCheckpoint) Checkpoint() Checkpoint { return Checkpoint{Height: r.Height, ID: r.Block} }

// MaxValidators bounds a validator set.
const MaxValidators = 21

// maxInterval is the longest mean time between blocks, in seconds.
const maxInterval = 3600

// Bits is a compact target that reads and writes as eight hexadecimal digits.
type Bits uint32

// MarshalText writes eight hexadecimal digits.
func (b Bits) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%08x", uint32(b)), nil }

// UnmarshalText reads eight hexadecimal digits.
func (b *Bits) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 32)
	if len(text) != 8 || err != nil {
		return fmt.Errorf("compact target %q: want eight hexadecimal digits, for example 1d00ffff", text)
	}
	*b = Bits(v)
	return nil
}

// Check reports every parameter that cannot work, by its name in the network file.
func (p *Params) Check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(validName(p.Name), "name %q: want 1–32 of a–z, 0–9 and dashes", p.Name)
	limit, limitErr := types.CompactToTarget(uint32(p.PowLimitBits))
	genesis, genesisErr := types.CompactToTarget(uint32(p.GenesisBits))
	need(limitErr == nil, "powLimitBits %08x: not a canonical compact target", uint32(p.PowLimitBits))
	need(genesisErr == nil && !genesis.Gt(&limit), "genesisBits %08x: not a canonical compact target at or below powLimitBits", uint32(p.GenesisBits))
	need(p.N >= 2, "n = %d: want at least 2", p.N)
	// The upper bound keeps ASERT's fixed-point arithmetic inside 64 bits at every height.
	need(p.IntervalSeconds >= 1 && p.IntervalSeconds <= maxInterval, "intervalSeconds = %d: want 1 to %d", p.IntervalSeconds, maxInterval)
	need(p.HalfLifeSeconds >= 1, "halfLifeSeconds = 0: want at least 1")
	need(p.GenesisTime > p.IntervalSeconds, "genesisTime = %d: want a Unix time", p.GenesisTime)
	need(p.RankStepSeconds >= 1, "rankStepSeconds = 0: want at least 1")
	need(p.SlotCloseSeconds > p.SlotOpenSeconds, "slotCloseSeconds = %d: want more than slotOpenSeconds %d", p.SlotCloseSeconds, p.SlotOpenSeconds)
	need(p.FutureLimitSeconds >= 1 && 2*uint64(p.FutureLimitSeconds) <= uint64(p.SlotOpenSeconds), "futureLimitSeconds = %d: want 1 to half of slotOpenSeconds, so that no clock error lets a miner take a slot before it opens", p.FutureLimitSeconds)
	need(p.HalvingInterval >= 1, "halvingInterval = 0: want at least 1")
	need(p.Subsidy >= 0 && p.Subsidy <= types.MaxMoney/2/int64(max(p.HalvingInterval, 1)), "subsidy = %d: negative, or 2 × subsidy × halvingInterval exceeds the most money there may be", p.Subsidy)
	need(p.MaxBlockBytes >= 1000 && p.MaxBlockBytes <= types.MaxBlockBytes, "maxBlockBytes = %d: want 1,000 to %d", p.MaxBlockBytes, types.MaxBlockBytes)
	need(p.MaxSigOps >= 1 && p.MaxSigOps <= math.MaxInt32, "maxSigOps = %d: want 1 to %d", p.MaxSigOps, math.MaxInt32)
	need(p.MaxDataBytes <= math.MaxUint16, "maxDataBytes = %d: want at most 65,535", p.MaxDataBytes)
	need(p.Addresses.PubKeyHash != p.Addresses.ScriptHash, "addresses: pubKeyHash and scriptHash have the same version byte %d", p.Addresses.PubKeyHash)
	need(p.Release == nil || (p.Release.Height > 0 && p.Release.Height%max(p.N, 1) == 0), "release.height: want the height of a slot")
	if err := p.CheckSet(p.Validators); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// CheckSet reports why keys cannot be a validator set of this network.
func (p *Params) CheckSet(keys []types.PublicKey) error {
	var errs []error
	v := uint64(len(keys))
	if v%2 != 1 || v > MaxValidators {
		errs = append(errs, fmt.Errorf("validators: %d keys, want an odd number up to %d", v, MaxValidators))
	}
	if v*uint64(p.RankStepSeconds) >= uint64(p.SlotOpenSeconds) {
		errs = append(errs, fmt.Errorf("slotOpenSeconds = %d: want more than %d validators × rankStepSeconds %d, so that every rank has its turn before miners", p.SlotOpenSeconds, v, p.RankStepSeconds))
	}
	seen := make(map[types.PublicKey]bool)
	for i, k := range keys {
		if seen[k] {
			errs = append(errs, fmt.Errorf("validators[%d]: %s is listed twice", i, k))
		}
		seen[k] = true
		if _, err := types.NewPublicKey(k.Algorithm, k.Point[:]); err != nil {
			errs = append(errs, fmt.Errorf("validators[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func validName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// Encode returns the canonical encoding of the parameters, to which the
// genesis coinbase commits (docs/protocol.md, "Genesis").
func (p *Params) Encode() []byte {
	b := types.AppendVarBytes(nil, []byte(p.Name))
	for _, v := range []uint32{
		p.Magic, p.GenesisTime, uint32(p.GenesisBits), uint32(p.PowLimitBits), p.N,
		p.IntervalSeconds, p.HalfLifeSeconds, p.SlotOpenSeconds, p.SlotCloseSeconds,
		p.RankStepSeconds, p.FutureLimitSeconds,
	} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Subsidy))
	for _, v := range []uint32{p.HalvingInterval, p.CoinbaseMaturity, p.MaxBlockBytes, p.MaxSigOps, p.MaxDataBytes} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = append(b, p.Addresses.PubKeyHash, p.Addresses.ScriptHash, p.Addresses.PrivateKey)
	b = types.AppendVarInt(b, uint64(len(p.Validators)))
	for _, k := range p.Validators {
		b = append(b, k.Bytes()...)
	}
	return b
}

// ValidatorSet is an ordered list of keys. Its number is 0 at genesis and
// rises with every change of the set.
type ValidatorSet struct {
	Number uint32
	Keys   []types.PublicKey
}

// ID returns the set id that enters every signature made under this set.
func (s ValidatorSet) ID() types.Hash {
	b := binary.LittleEndian.AppendUint32(nil, s.Number)
	for _, k := range s.Keys {
		b = append(b, k.Bytes()...)
	}
	return types.TaggedHash("qcity/validators", b)
}

// Network is a checked set of parameters with what follows from them. It is
// immutable and shared by pointer.
type Network struct {
	Params
	// ID is the id of the genesis block. It enters every signature and the peer
	// handshake, so two networks never mistake each other's messages.
	ID        types.Hash
	genesis   *types.Block
	powLimit  uint256.Int
	authority *Authority // as of genesis
}

// NewNetwork checks p and derives the genesis block from it.
func NewNetwork(p Params) (*Network, error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("network %q: %w", p.Name, err)
	}
	p.Validators = append([]types.PublicKey(nil), p.Validators...)
	n := &Network{Params: p}
	n.powLimit, _ = types.CompactToTarget(uint32(p.PowLimitBits))
	n.genesis = genesisBlock(&n.Params)
	n.ID = n.genesis.Header.ID()
	n.authority = genesisAuthority(n.ID, p.Validators)
	return n, nil
}

// genesisBlock builds block 0: no proof of work, no parent, one coinbase whose
// script is the push of height 0 and the push of the parameters' tagged hash.
func genesisBlock(p *Params) *types.Block {
	commitment := types.TaggedHash("qcity/params", p.Encode())
	coinbase := &types.Transaction{
		Version: 1,
		Inputs: []types.TxIn{{
			Previous:        types.NullOutPoint,
			SignatureScript: append(append(types.HeightScript(0), 32), commitment[:]...),
			Sequence:        math.MaxUint32,
		}},
		Outputs: []types.TxOut{{PkScript: types.NullDataScript([]byte(p.Name))}},
	}
	b := &types.Block{Transactions: []*types.Transaction{coinbase}}
	b.Header = types.Header{
		Version:    1,
		MerkleRoot: coinbase.ID(),
		Time:       p.GenesisTime,
		Bits:       uint32(p.GenesisBits),
	}
	return b
}

// Genesis returns block 0. The caller must not change it.
func (n *Network) Genesis() *types.Block { return n.genesis }

// IsSlot reports whether a height belongs to the validators.
func (n *Network) IsSlot(height uint32) bool { return height > 0 && height%n.N == 0 }
