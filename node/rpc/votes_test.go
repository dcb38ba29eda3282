package rpc_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"testing"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func init() { maps.Copy(calls, voteCalls) }

// encoded is what has a canonical encoding, in hex.
func encoded(v interface{ AppendTo([]byte) []byte }) string {
	return hex.EncodeToString(v.AppendTo(nil))
}

// vote has these voters vote for a link between two named blocks.
func (w *world) vote(t *testing.T, source, target string, voters ...uint8) {
	t.Helper()
	for _, i := range voters {
		v := w.g.Vote(source, target, i)
		w.want(t, `null`, "submitattestation", encoded(&v))
	}
}

// badHex are the texts that no call reads.
func (w *world) badHex(t *testing.T, what, method string) {
	t.Helper()
	for _, bad := range []string{"", "0", "xy", "00", "ff00ff"} {
		w.fails(t, -22, what, method, bad)
	}
	w.fails(t, -3, "wrong type", method, 7)
	w.fails(t, -1, "hexdata", method)
}

// voteCalls are the tests of the calls about validators and their votes.
var voteCalls = map[string]func(t *testing.T, w *world){
	"getfinality": func(t *testing.T, w *world) {
		answer := func(certified, final, degraded string) string {
			return fmt.Sprintf(`{"height":25,"hash":%q,"signed":10,"certified":%s,"final":%s,"degraded":%s}`, w.id("b5"), certified, final, degraded)
		}
		genesis, owed := w.checkpoint("genesis"), fmt.Sprintf(`{"since":20,"missing":"signed","message":%q}`, degraded)
		w.want(t, answer(genesis, genesis, owed), "getfinality")
		w.vote(t, "genesis", "a10", 0, 1)
		w.want(t, answer(genesis, genesis, owed), "getfinality")
		w.vote(t, "genesis", "a10", 2)
		w.want(t, answer(w.checkpoint("a10"), genesis, owed), "getfinality")
		// A signed slot again: nothing is owed before the next one.
		finality := func(slot, certified, final, degraded string) {
			t.Helper()
			height := w.g.Node(slot).State.Height
			w.want(t, fmt.Sprintf(`{"height":%d,"hash":%q,"signed":%d,"certified":%s,"final":%s,"degraded":%s}`,
				height, w.id(slot), height, w.checkpoint(certified), w.checkpoint(final), degraded), "getfinality")
		}
		uncertified := `{"since":30,"missing":"certified","message":"degraded: no slot was certified since 30: too few validators vote"}`
		unfinal := `{"since":10,"missing":"final","message":"degraded: no slot became final since 10: not enough validators vote"}`
		w.follow(t, 4)
		w.next(t, "s30")
		finality("s30", "a10", "genesis", "null")
		w.follow(t, 9)
		w.next(t, "s40")
		finality("s40", "a10", "genesis", uncertified)
		w.vote(t, "a10", "s30", 1, 2, 3, 4)
		finality("s40", "s30", "genesis", "null")
		w.vote(t, "s30", "s40", 1, 2, 3)
		w.follow(t, 9)
		w.next(t, "s50")
		finality("s50", "s40", "genesis", unfinal)
		w.vote(t, "s40", "s50", 1, 2, 3, 4)
		finality("s50", "s50", "s40", "null")
		var info struct {
			Certified, Final struct{ Height int }
			Warnings         []string
		}
		w.call(&info, "getblockchaininfo")
		if info.Certified.Height != 50 || info.Final.Height != 40 || info.Warnings == nil || len(info.Warnings) != 0 {
			t.Errorf("%+v", info)
		}
	},
	"getcertificates": func(t *testing.T, w *world) {
		w.want(t, `[]`, "getcertificates")
		w.vote(t, "genesis", "a10", 4, 0)
		w.want(t, `[]`, "getcertificates")
		w.vote(t, "genesis", "a10", 3)
		answer := func(voters ...uint8) string {
			return fmt.Sprintf(`[{"source":%s,"target":%s,"signers":%d,"hex":%q}]`, w.checkpoint("genesis"), w.checkpoint("a10"),
				len(voters), encoded(w.g.Certificate("genesis", "a10", voters...)))
		}
		w.want(t, answer(0, 3, 4), "getcertificates")
		w.vote(t, "genesis", "a10", 1)
		w.want(t, answer(0, 1, 3, 4), "getcertificates")
	},
	"submitcertificate": func(t *testing.T, w *world) {
		digits := encoded(w.g.Certificate("genesis", "a10", 0, 2, 4))
		w.want(t, `null`, "submitcertificate", digits)
		w.want(t, `"duplicate"`, "submitcertificate", digits)
		w.want(t, `null`, "submitcertificate", encoded(w.g.Certificate("genesis", "a10", 1, 2, 4)))
		w.fails(t, -26, "certificate-quorum", "submitcertificate", encoded(w.g.Certificate("genesis", "a10", 1, 3)))
		bad := w.g.Certificate("genesis", "a10", 1, 2, 3)
		bad.Signatures[1][40] ^= 1
		w.fails(t, -26, "attest-signature", "submitcertificate", encoded(bad))
		w.ahead("c5")
		w.fails(t, -25, "block voted for is not known: "+w.id("c5"), "submitcertificate", encoded(w.g.Certificate("a10", "c5", 0, 1, 2)))
		w.badHex(t, "certificate", "submitcertificate")
	},
	"submitattestation": func(t *testing.T, w *world) {
		w.vote(t, "genesis", "a10", 3)
		good := w.g.Vote("genesis", "a10", 3)
		w.want(t, `"duplicate"`, "submitattestation", encoded(&good))
		for rule, spoil := range map[string]func(v *consensus.Attestation){
			"attest-signature": func(v *consensus.Attestation) { v.Signature[0] ^= 1 },
			"attest-index":     func(v *consensus.Attestation) { v.Index = 5 },
			"attest-set":       func(v *consensus.Attestation) { v.Set[0] ^= 1 },
			"attest-source":    func(v *consensus.Attestation) { v.Source.Height = 9 },
			"attest-target":    func(v *consensus.Attestation) { v.Target.Height = 20 },
		} {
			v := w.g.Vote("genesis", "a10", 1)
			spoil(&v)
			w.fails(t, -26, rule, "submitattestation", encoded(&v))
		}
		fallback := w.g.SignLink(w.g.Link("a10", "fallback"), w.g.Voters("fallback"), 1)
		w.fails(t, -26, "attest-target", "submitattestation", encoded(&fallback))
		w.ahead("c5")
		early := w.g.Vote("a10", "c5", 1)
		w.fails(t, -25, "too early for this vote: block voted for is not known: "+w.id("c5"), "submitattestation", encoded(&early))
		// Once it is there it counts.
		for _, b := range w.g.Path("c5")[25:] {
			if _, err := w.node.Chain.AddBlock(b); err != nil {
				t.Fatal(err)
			}
		}
		w.want(t, `null`, "submitattestation", encoded(&early))
		w.badHex(t, "attestation", "submitattestation")
		big := w.g.Vote("genesis", "a10", 1)
		big.Index = consensus.MaxVoters
		w.fails(t, -22, "voter index 32", "submitattestation", encoded(&big))
	},
	"getvalidators": func(t *testing.T, w *world) {
		set, tip := w.net.Validators, w.g.Tip().State
		w.want(t, fmt.Sprintf(`{"number":0,"id":%q,"validators":%s,"next":null}`, tip.ValidatorSetID(), keysJSON(set)), "getvalidators")

		// Slot 30 carries a change, slot 40 evidence against a key of both sets.
		keys := chaingen.PublicKeys(types.P256, 3, 4)
		keys = append(keys, set[3])
		w.follow(t, 4)
		w.next(t, "s30", chaingen.Records(w.g.SetChange(keys, 0, 1, 2)))
		next := consensus.ValidatorSet{Number: 1, Keys: keys}
		w.want(t, fmt.Sprintf(`{"number":0,"id":%q,"validators":%s,"next":{"number":1,"id":%q,"validators":%s,"carrier":%s,"certifiedabove":0}}`,
			tip.ValidatorSetID(), keysJSON(set), next.ID(), keysJSON(keys), w.checkpoint("s30")), "getvalidators")
		w.follow(t, 9)
		parent := w.g.Tip().Name
		w.g.NextSigned("one", 3)
		w.g.SetTip(parent)
		w.g.NextSigned("two", 3)
		w.add(t, "two")
		w.follow(t, 9)
		w.next(t, "s50", chaingen.Records(w.g.SlotEvidence("one", "two")))
		w.want(t, fmt.Sprintf(`{"number":0,"id":%q,"validators":%s,"next":{"number":1,"id":%q,"validators":%s,"carrier":%s,"certifiedabove":0}}`,
			tip.ValidatorSetID(), keysJSON(set, 3), next.ID(), keysJSON(keys, 2), w.checkpoint("s30")), "getvalidators")
	},
	"setchangedigest": func(t *testing.T, w *world) {
		tip, keys := w.g.Tip().State, chaingen.PublicKeys(types.Secp256k1, 0, 8, 9)
		set := tip.Validators()
		next := consensus.ValidatorSet{Number: 1, Keys: keys}
		digest := consensus.SetChangeDigest(w.net.ID, set, keys)
		w.want(t, fmt.Sprintf(`{"current":%q,"next":%q,"number":1,"digest":"%x","quorum":3}`, set.ID(), next.ID(), digest[:]), "setchangedigest", keys)
		text := keys[0].String()
		w.fails(t, -8, "publickeys[1]", "setchangedigest", []string{text, "secp256k1:00"})
		w.fails(t, -8, "odd number", "setchangedigest", []string{text, keys[1].String()})
		w.fails(t, -8, "odd number", "setchangedigest", []string{})
		w.fails(t, -8, "twice", "setchangedigest", []string{text, text, text})
		w.fails(t, -3, "wrong type", "setchangedigest", text)
		w.fails(t, -1, "publickeys", "setchangedigest")
	},
	"submitsetchange": func(t *testing.T, w *world) {
		keys := chaingen.PublicKeys(types.Secp256k1, 0, 8, 9)
		// As an operator does it: the digest from here, signatures from elsewhere.
		var d struct{ Digest string }
		w.call(&d, "setchangedigest", keys)
		raw, err := hex.DecodeString(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		change := &consensus.SetChange{Keys: keys}
		for _, i := range []uint8{4, 0, 2} {
			change.Sign(i, chaingen.ValidatorKey(types.Secp256k1, int(i)).Sign(types.Hash(raw)))
		}
		w.want(t, `null`, "submitsetchange", encoded(change))
		w.want(t, `null`, "submitsetchange", encoded(change)) // until the chain has carried it
		w.fails(t, -26, "set-change-quorum", "submitsetchange", encoded(w.g.SetChange(keys, 0, 1)))
		w.fails(t, -26, "set-change-keys", "submitsetchange", encoded(w.g.SetChange(keys[:2], 0, 1, 2)))
		bad := w.g.SetChange(keys, 0, 1, 2)
		bad.Signatures[2][9] ^= 1
		w.fails(t, -26, "set-change-signature", "submitsetchange", encoded(bad))
		w.badHex(t, "set change", "submitsetchange")

		w.follow(t, 4)
		w.next(t, "s30", chaingen.Records(change))
		w.fails(t, -26, "set-change-open", "submitsetchange", encoded(change))
		w.fails(t, -26, "set-change-open", "setchangedigest", keys)
	},
}

// checkpoint is a named block as getfinality shows it.
func (w *world) checkpoint(name string) string {
	n := w.g.Node(name)
	return fmt.Sprintf(`{"height":%d,"hash":%q}`, n.State.Height, n.State.ID)
}

func keysJSON(keys []types.PublicKey, disabled ...int) string {
	text := "["
	for i, k := range keys {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(`{"index":%d,"algorithm":%q,"publicKey":"%x","disabled":%t}`, i, k.Algorithm, k.Point, slices.Contains(disabled, i))
	}
	return text + "]"
}

// ahead makes blocks up to slot 30 that the node does not have, the last of them
// of this name.
func (w *world) ahead(name string) {
	w.g.Fill("ahead", 4)
	w.g.Next(name)
	w.g.SetTip("b5")
}

// add hands the node a named block.
func (w *world) add(t *testing.T, name string) {
	t.Helper()
	if _, err := w.node.Chain.AddBlock(w.g.Node(name).Block); err != nil {
		t.Fatal(err)
	}
}

// next makes a block and adds it.
func (w *world) next(t *testing.T, name string, mungers ...chaingen.Munger) {
	t.Helper()
	w.g.Next(name, mungers...)
	w.add(t, name)
}

// follow makes n blocks and adds them.
func (w *world) follow(t *testing.T, n int) {
	t.Helper()
	for range n {
		w.next(t, fmt.Sprintf("f%d", w.g.Tip().State.ChildHeight()))
	}
}

// TestStatusRises follows blocks, their transactions and coins from pow to final
// as a slot is signed and votes come in, in every answer that has a status.
func TestStatusRises(t *testing.T) {
	t.Parallel()
	g := chaingen.New(t, chaingen.Params())
	w := world{start(t, func(c *node.Config) { c.Network = g.Network() }), g}
	w.follow(t, 9)
	// all checks what stands behind a block, in all answers.
	all := func(height uint32, want any) {
		t.Helper()
		name := fmt.Sprintf("f%d", height)
		n := g.Node(name)
		tx := n.Block.Transactions[0].ID()
		type status struct{ Status any }
		var header, block, transaction, coin status
		var full struct {
			Status any
			Tx     []status
		}
		w.call(&header, "getblockheader", n.State.ID)
		w.call(&block, "getblock", n.State.ID)
		w.call(&full, "getblock", n.State.ID, 2)
		w.call(&transaction, "getrawtransaction", tx, 1, n.State.ID)
		answers := []any{header.Status, block.Status, full.Status, full.Tx[0].Status, transaction.Status}
		if !n.Block.IsSigned() {
			w.call(&coin, "gettxout", tx, 0)
			answers = append(answers, coin.Status)
		}
		for i, got := range answers {
			if got != want {
				t.Errorf("block %d, answer %d: %v, want %v", height, i, got, want)
			}
		}
	}
	slots := func(want ...string) {
		t.Helper()
		var info struct{ Past []struct{ Status string } }
		w.call(&info, "getslotinfo")
		var got []string
		for _, p := range info.Past {
			got = append(got, p.Status)
		}
		if !slices.Equal(got, want) {
			t.Errorf("past slots are %v, want %v", got, want)
		}
	}
	all(9, "pow")
	slots()
	w.follow(t, 3)
	all(9, "signed")
	all(10, "signed")
	all(11, "pow")
	slots("signed")
	w.vote(t, "genesis", "f10", 0, 1)
	all(9, "signed")
	w.vote(t, "genesis", "f10", 2)
	all(9, "certified")
	all(10, "certified")
	all(11, "pow")
	w.follow(t, 8)
	all(11, "signed")
	slots("signed", "certified")
	w.vote(t, "f10", "f20", 0, 1, 4)
	all(10, "certified")
	all(20, "certified")
	w.vote(t, "f10", "f20", 3)
	all(9, "final")
	all(10, "final")
	all(11, "certified")
	slots("certified", "final")

	// A block beside the best chain has no status, nor has what is in it.
	w.follow(t, 3)
	g.SetTip("f22")
	g.Next("side")
	w.add(t, "side")
	side := g.Node("side")
	var header, transaction map[string]any
	w.call(&header, "getblockheader", side.State.ID)
	w.call(&transaction, "getrawtransaction", side.Block.Transactions[0].ID(), 1, side.State.ID)
	for _, m := range []map[string]any{header, transaction} {
		if status, there := m["status"]; status != nil || !there || m["confirmations"] != -1.0 {
			t.Errorf("beside the best chain: status %v, confirmations %v", status, m["confirmations"])
		}
	}
	// In no block at all: null as well.
	tx := w.spend(w.reward(1), 49*types.Coin)
	w.call(nil, "sendrawtransaction", txHex(tx), 0)
	var coin map[string]any
	w.call(&coin, "gettxout", tx.ID(), 0)
	if status, there := coin["status"]; status != nil || !there {
		t.Errorf("a coin of the mempool has status %v", status)
	}
}
