package chain_test

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Numbers of the test network, written out again on purpose: tests calculate
// with them.
const (
	testN         = 4
	testInterval  = 60
	testOpen      = 120
	testClose     = 600
	testStep      = 20
	testFuture    = 60
	testSubsidy   = 50 * types.Coin
	testGenesis   = 1_600_000_000
	testLimitBits = 0x207fffff
)

func testKey(name string) *secp256k1.PrivateKey {
	sum := sha256.Sum256([]byte("qcity/chain/test/" + name))
	return secp256k1.PrivKeyFromBytes(sum[:])
}

func validatorKey(i uint8) *secp256k1.PrivateKey { return testKey("validator" + string('0'+rune(i))) }

func publicKey(k *secp256k1.PrivateKey) types.PublicKey {
	return types.PublicKey{Algorithm: types.Secp256k1, Point: [33]byte(k.PubKey().SerializeCompressed())}
}

// testNetwork has a slot at every fourth height, three validators, and blocks
// that take two hashes.
func testNetwork(tb testing.TB, change func(*consensus.Params)) *consensus.Network {
	tb.Helper()
	p := consensus.Params{
		Name: "chain-test", Magic: 1, GenesisTime: testGenesis, GenesisBits: testLimitBits, PowLimitBits: testLimitBits,
		N: testN, IntervalSeconds: testInterval, HalfLifeSeconds: 7200,
		SlotOpenSeconds: testOpen, SlotCloseSeconds: testClose, RankStepSeconds: testStep, FutureLimitSeconds: testFuture,
		Subsidy: testSubsidy, HalvingInterval: 1000, CoinbaseMaturity: 2,
		MaxBlockBytes: 1_000_000, MaxSigOps: 20_000, MaxDataBytes: 100,
		Addresses: types.AddressVersions{PubKeyHash: 111, ScriptHash: 196, PrivateKey: 239},
	}
	for i := range uint8(3) {
		p.Validators = append(p.Validators, publicKey(validatorKey(i)))
	}
	if change != nil {
		change(&p)
	}
	net, err := consensus.NewNetwork(p)
	if err != nil {
		tb.Fatal(err)
	}
	return net
}

// Every coin of these tests pays this key.
var (
	payee       = testKey("payee")
	payeeScript = types.PubKeyHashScript(types.Hash160(payee.PubKey().SerializeCompressed()))
)

// recipe says how to make a block. The zero value is a mined block one
// interval after its parent, or as soon as miners may at a slot.
type recipe struct {
	tag    uint32 // makes otherwise equal blocks differ
	delay  uint32 // seconds after the parent; 0: the default
	signed bool
	index  uint8 // of the validator that signs
	fees   int64
	txs    []*types.Transaction
	over   int64                // the coinbase pays this much too much
	munge  func(b *types.Block) // before the Merkle root, proof of work and signature
	carry  []consensus.Record
}

// make builds the block after parent, and the state after it.
func (r recipe) make(parent consensus.State) (*types.Block, consensus.State) {
	b := &types.Block{Transactions: append([]*types.Transaction{r.coinbase(&parent)}, r.txs...)}
	b.Header = types.Header{Version: 1, PrevBlock: parent.ID, Time: parent.Time + testInterval, Bits: parent.NextBits()}
	switch {
	case r.delay != 0:
		b.Time = parent.Time + r.delay
	case !r.signed && parent.ChildIsSlot():
		b.Time = parent.FallbackTime()
	}
	if r.munge != nil {
		r.munge(b)
	}
	b.MerkleRoot, _ = types.MerkleRoot(b.TxIDs())
	if r.signed {
		sign(&parent, b, r.index)
	} else {
		solve(&parent, b)
	}
	return b, parent.Child(&b.SignedHeader, b.Transactions[0])
}

func (r recipe) coinbase(parent *consensus.State) *types.Transaction {
	script := append(types.HeightScript(parent.ChildHeight()), 4)
	tx := &types.Transaction{
		Version: 1,
		Inputs: []types.TxIn{{
			Previous: types.NullOutPoint, Sequence: 0xffffffff,
			SignatureScript: binary.LittleEndian.AppendUint32(script, r.tag),
		}},
		Outputs: []types.TxOut{{Value: parent.Subsidy() + r.fees + r.over, PkScript: payeeScript}},
	}
	if r.signed {
		tx.Outputs = []types.TxOut{{}, {Value: r.fees + r.over, PkScript: types.KeyScript(publicKey(validatorKey(r.index)))}}
		if len(r.carry) > 0 {
			tx.Outputs = append(tx.Outputs, types.TxOut{PkScript: types.NullDataScript(consensus.EncodeRecords(r.carry))})
		}
	}
	return tx
}

func solve(parent *consensus.State, b *types.Block) {
	target := parent.NextTarget()
	for !types.HashMeets(b.Header.ID(), &target) {
		b.Nonce++
	}
}

// sign signs as validator index, also what is not its block.
func sign(parent *consensus.State, b *types.Block, index uint8) {
	digest := consensus.SlotDigest(parent.Network.ID, parent.ValidatorSetID(), parent.ChildHeight(), b.Header.ID())
	b.VchBlockSig = types.BlockSig{Index: index, Signature: signDigest(index, digest)}.Bytes()
}

// attest is validator index's vote for a link.
func attest(net *consensus.Network, l consensus.Link, index uint8) consensus.Attestation {
	return consensus.Attestation{Link: l, Index: index, Signature: signDigest(index, l.Digest(net.ID))}
}

func signDigest(index uint8, digest types.Hash) (s [64]byte) {
	sig := secpecdsa.Sign(validatorKey(index), digest[:])
	r, v := sig.R(), sig.S()
	r.PutBytesUnchecked(s[:32])
	v.PutBytesUnchecked(s[32:])
	return s
}

// pay spends outpoints of the payee into equal outputs to the payee.
func pay(from []types.OutPoint, value int64, outputs int) *types.Transaction {
	tx := &types.Transaction{Version: 1}
	for _, o := range from {
		tx.Inputs = append(tx.Inputs, types.TxIn{Previous: o, Sequence: 0xffffffff})
	}
	for range outputs {
		tx.Outputs = append(tx.Outputs, types.TxOut{Value: value / int64(outputs), PkScript: payeeScript})
	}
	for i := range tx.Inputs {
		digest := tx.SignatureHash(i, payeeScript)
		sig := types.DERSignature(secpecdsa.Sign(payee, digest[:]))
		key := payee.PubKey().SerializeCompressed()
		script := append([]byte{byte(len(sig))}, sig...)
		tx.Inputs[i].SignatureScript = append(append(script, byte(len(key))), key...)
	}
	return tx
}

// output is an output of a transaction of b.
func output(b *types.Block, tx, index int) types.OutPoint {
	return types.OutPoint{TxID: b.Transactions[tx].ID(), Index: uint32(index)}
}

// branch builds count mined or, at slots, signed blocks after parent.
func branch(parent consensus.State, count int, tag uint32) ([]*types.Block, consensus.State) {
	var blocks []*types.Block
	for range count {
		r := recipe{tag: tag, signed: parent.ChildIsSlot()}
		if r.signed {
			r.index = parent.ValidatorOfRank(0)
		}
		var b *types.Block
		b, parent = r.make(parent)
		blocks = append(blocks, b)
	}
	return blocks, parent
}
