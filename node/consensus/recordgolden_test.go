package consensus_test

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// goldenTwin is the id of a block that is nowhere.
var goldenTwin = types.Hash(bytes.Repeat([]byte{0x33}, 32))

// goldenKeys are those of the set that follows: two P-256 keys and one of secp256k1.
func goldenKeys() []types.PublicKey {
	return append(chaingen.PublicKeys(types.P256, 5), chaingen.PublicKeys(types.Secp256k1, 6)[0], chaingen.PublicKeys(types.P256, 7)[0])
}

// goldenRecords go on from the slot of golden.txt: slot2 at height 20 carries a
// record of each kind, slot3 at height 30 none.
func goldenRecords(t *testing.T) map[string][]byte {
	t.Helper()
	g := chaingen.New(t, goldenParams())
	g.Fill("b", 9)
	g.NextSigned("slot", 1)
	votes := func(index uint8) *consensus.Evidence {
		l := g.Link("genesis", "slot")
		l.Target.ID = goldenTwin
		return g.Evidence(g.Vote("genesis", "slot", index), g.SignLink(l, g.Voters("slot"), index))
	}
	blocks := func(index uint8) *consensus.SlotEvidence {
		set := g.Node("slot").Parent.State.Validators()
		e := &consensus.SlotEvidence{Set: set.ID(), Height: 10, Index: index, Blocks: [2]types.Hash{g.Node("slot").State.ID, goldenTwin}}
		for i, id := range e.Blocks {
			e.Signatures[i] = g.Secret(set.Keys[index]).Sign(consensus.SlotDigest(g.Network().ID, e.Set, e.Height, id))
		}
		return e
	}
	change := g.SetChange(goldenKeys(), 1, 0)
	digest := consensus.SetChangeDigest(g.Network().ID, g.Tip().State.Validators(), goldenKeys())
	list := []consensus.Record{blocks(1), votes(0), change, g.Certificate("genesis", "slot", 0, 1)}
	g.Fill("c", 9)
	ten := g.Tip()
	twenty := g.NextSigned("slot2", 2, chaingen.Records(list...))
	g.Fill("d", 9)
	joint := g.Tip().State.Voters().ID()
	thirty := g.NextSigned("slot3", 2)
	if thirty.Err != nil {
		t.Fatal(thirty.Err)
	}
	genesis := g.Network().GenesisState()
	id := func(s *consensus.State) []byte { h := s.Proven().ID(); return h[:] }
	next := consensus.ValidatorSet{Number: 1, Keys: goldenKeys()}.ID()
	return map[string][]byte{
		"set-1-id":              next[:],
		"joint-id":              joint[:],
		"change-digest":         digest[:],
		"change":                change.AppendTo(nil),
		"vote-evidence-0":       votes(0).AppendTo(nil),
		"vote-evidence-1":       votes(1).AppendTo(nil),
		"slot-evidence-0":       blocks(0).AppendTo(nil),
		"slot-evidence-1":       blocks(1).AppendTo(nil),
		"records":               consensus.EncodeRecords(list),
		"coinonline":            twenty.Block.Transactions[0].Bytes(),
		"slot2-id":              twenty.State.ID[:],
		"slot3-id":              thirty.State.ID[:],
		"genesis-authority":     genesis.Proven().Bytes(),
		"genesis-authority-id":  id(&genesis),
		"height10-authority":    ten.State.Proven().Bytes(),
		"height20-authority":    twenty.State.Proven().Bytes(),
		"height30-authority":    thirty.State.Proven().Bytes(),
		"height30-authority-id": id(&thirty.State),
		"genesis-state":         genesis.AppendTo(nil),
		"height30-state":        thirty.State.AppendTo(nil),
	}
}

func TestGoldenRecords(t *testing.T) {
	got, want := goldenRecords(t), goldenFile(t, "records.txt")
	if len(want) != len(got) {
		t.Errorf("golden file has %d values, want %d", len(want), len(got))
	}
	for name, b := range got {
		if h := hex.EncodeToString(b); h != want[name] {
			t.Errorf("%s: now\n%s\nwas\n%s", name, h, want[name])
		}
	}
}

// TestGoldenRecordsAgain derives the golden records a second time, with SHA-256,
// byte strings and school arithmetic only, from docs/protocol.md and
// docs/votes.md. Ids of blocks and signatures are taken as given; the latter
// are verified.
func TestGoldenRecordsAgain(t *testing.T) {
	want, blocks, votes := goldenFile(t, "records.txt"), golden(t), goldenVotesFile(t)
	value := func(values map[string]string, name string) []byte {
		t.Helper()
		b, err := hex.DecodeString(values[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return b
	}
	is := func(name string, b []byte) {
		t.Helper()
		if h := hex.EncodeToString(b); h != want[name] {
			t.Errorf("%s: derived\n%s\ngolden\n%s", name, h, want[name])
		}
	}
	network, set0, slot := value(blocks, "network-id"), value(blocks, "set-id"), value(blocks, "slot-id")
	twin := bytes.Repeat([]byte{0x33}, 32)
	old := goldenParams().Validators
	key := func(algorithm byte, k types.PublicKey) []byte { return cat([]byte{algorithm}, k.Point[:]) }
	keys0 := cat([]byte{3}, key(1, old[0]), key(2, old[1]), key(1, old[2]))
	keys1 := cat([]byte{3}, key(2, goldenKeys()[0]), key(1, goldenKeys()[1]), key(2, goldenKeys()[2]))
	set1 := tagged("qcity/validators", le32(1), keys1[1:])
	is("set-1-id", set1)
	joint := tagged("qcity/validators/joint", set0, set1)
	is("joint-id", joint)

	// verified checks signatures at the end of a value and returns it.
	verified := func(name string, signed []byte, digests [][]byte, validators ...int) []byte {
		t.Helper()
		sigs := signed[len(signed)-64*len(digests):]
		for i, digest := range digests {
			k := old[validators[i]]
			if on := curves[k.Algorithm]; !on.verifies(k.Point, digest, sigs[64*i:64*i+64]) {
				t.Errorf("%s: signature %d does not verify", name, i)
			}
		}
		return sigs
	}
	digest := tagged("qcity/poo/set", network, set0, set1)
	is("change-digest", digest)
	sigs := verified("change", value(want, "change"), [][]byte{digest, digest}, 0, 1)
	change := cat(keys1, []byte{3, 0, 0, 0}, sigs)
	is("change", change)

	first, second := cat(set0, le32(0), network, le32(10), slot), cat(set0, le32(0), network, le32(10), twin)
	var evidence, slotEvidence [2][]byte
	for i, name := range []string{"vote-evidence-0", "vote-evidence-1"} {
		raw := value(want, name)
		a, b := raw[105:169], raw[274:]
		digests := [][]byte{tagged("qcity/poo/attest", network, first), tagged("qcity/poo/attest", network, second)}
		verified(name, cat(a, b), digests, i, i)
		evidence[i] = cat(first, []byte{byte(i)}, a, second, []byte{byte(i)}, b)
		is(name, evidence[i])
	}
	for i, name := range []string{"slot-evidence-0", "slot-evidence-1"} {
		raw := value(want, name)
		a, b := raw[69:133], raw[165:]
		digests := [][]byte{tagged("qcity/poo/block", network, set0, le32(10), slot), tagged("qcity/poo/block", network, set0, le32(10), twin)}
		verified(name, cat(a, b), digests, i, i)
		slotEvidence[i] = cat(set0, le32(10), []byte{byte(i)}, slot, a, twin, b)
		is(name, slotEvidence[i])
	}

	certificate := value(votes, "first-certificate")
	records := cat(
		[]byte{1, byte(len(certificate))}, certificate, // 236 bytes: one byte of length
		[]byte{2, byte(len(change))}, change, // 235
		[]byte{3, 0xfd}, le32(338)[:2], evidence[0],
		[]byte{4, byte(len(slotEvidence[1]))}, slotEvidence[1], // 229
	)
	is("records", records)
	coinOnline := cat(le32(1), []byte{1}, make([]byte, 32), le32(0xffffffff),
		[]byte{8, 0x01, 20, 5}, []byte("slot2"), le32(0xffffffff), // height, then the generator's tag
		[]byte{3}, le64(0), []byte{0}, le64(0), []byte{35, 33}, old[2].Point[:], []byte{0xac},
		le64(0), []byte{0xfd}, le32(uint32(len(records)) + 4)[:2], []byte{0x6a, 0x4d}, le32(uint32(len(records)))[:2], records, le32(0))
	is("coinonline", coinOnline)

	goldenAuthorityAgain(t, is, authorityParts{
		network: network, slot: slot, slot2: value(want, "slot2-id"), slot3: value(want, "slot3-id"),
		set0: cat(le32(0), keys0), set1: cat(le32(1), keys1), offenders: cat([]byte{2}, key(1, old[0]), key(2, old[1])),
	})
}

type authorityParts struct{ network, slot, slot2, slot3, set0, set1, offenders []byte }

// goldenAuthorityAgain derives the encodings for the node's database.
func goldenAuthorityAgain(t *testing.T, is func(string, []byte), p authorityParts) {
	t.Helper()
	genesis := cat(le32(0), p.network)
	none := []byte{0}
	atGenesis := cat(p.set0, none, none, genesis, none, []byte{1}, genesis, []byte{1, 0})
	is("genesis-authority", atGenesis)
	is("genesis-authority-id", tagged("qcity/authority", atGenesis))

	ten, twenty, thirty := cat(le32(10), p.slot), cat(le32(20), p.slot2), cat(le32(30), p.slot3)
	alone := cat([]byte{1}, p.set0, none)
	is("height10-authority", cat(p.set0, none, none, genesis, []byte{1}, alone,
		[]byte{2}, genesis, []byte{1, 0}, ten, []byte{0, 1}))
	change := cat([]byte{1}, p.set1, twenty, le32(0))
	is("height20-authority", cat(p.set0, change, p.offenders, genesis, []byte{1}, alone,
		[]byte{3}, genesis, []byte{1, 0}, ten, []byte{1, 1}, twenty, []byte{0, 1}))
	both := cat([]byte{2}, p.set0, p.set1, p.offenders)
	atThirty := cat(p.set0, change, p.offenders, genesis, []byte{2}, alone, both,
		[]byte{4}, genesis, []byte{1, 0}, ten, []byte{1, 1}, twenty, []byte{0, 1}, thirty, []byte{0, 2})
	is("height30-authority", atThirty)
	id := tagged("qcity/authority", atThirty)
	is("height30-authority-id", id)

	// Every block of this chain counts two expected hashes.
	work := func(height int64) []byte { return big.NewInt(2 * (height + 1)).FillBytes(make([]byte, 32)) }
	is("genesis-state", cat(le32(0), p.network, le32(1577836800), le32(0), le32(0), work(0), make([]byte, 32)))
	// 27 mined blocks a minute each, the first two slots in turn and so one
	// second after their parents; at the third validator 2 has rank 2 and waits.
	at := uint32(1577836800 + 27*60 + 1 + 1 + 2*20)
	is("height30-state", cat(le32(30), p.slot3, le32(at), le32(3), le32(30), work(30), id))
}
