package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// outside is what the outside check says of an export.
type outside struct {
	Blocks, Signed, Records, Certificates int
	Tip                                   string
	Certified, Final                      struct{ Height uint32 }
	Proven                                struct{ Certified, Final struct{ Height uint32 } }
	Set, Disabled                         int
	Handover                              bool
}

// runOutside has an export checked by a program that shares no code with the node.
func runOutside(t *testing.T, export string) (seen outside, says string, err error) {
	t.Helper()
	check := exec.Command("node", filepath.Join("..", "..", "internal", "interop", "bitcoinjs", "check-chain.mjs"))
	check.Stdin = strings.NewReader(export)
	out, err := check.CombinedOutput()
	if err == nil {
		if err := json.Unmarshal(out, &seen); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	}
	return seen, string(out), err
}

// checkOutside holds an export of a demo to its summary.
func checkOutside(t *testing.T, export string, want *summary) outside {
	t.Helper()
	seen, says, err := runOutside(t, export)
	if err != nil {
		t.Fatalf("the outside check of the export: %v: %s", err, says)
	}
	signed := 0
	for _, s := range want.Slots {
		if s.Type == "signed" {
			signed++
		}
	}
	if seen.Blocks != len(want.Blocks) || seen.Signed != signed || seen.Tip != want.Tip.String() {
		t.Fatalf("the outside check saw %+v, want %d blocks, %d signed, tip %s", seen, len(want.Blocks), signed, want.Tip)
	}
	if seen.Certified.Height != want.Certified || seen.Final.Height != want.Final || seen.Records == 0 || seen.Certificates == 0 {
		t.Fatalf("the outside check saw %+v, the node slot %d certified, %d final", seen, want.Certified, want.Final)
	}

	// The check itself must be able to fail: change one digit of a signature.
	forge := func(what, want string, at int) {
		t.Helper()
		digit := "0"
		if export[at] == '0' {
			digit = "1"
		}
		if _, says, err := runOutside(t, export[:at]+digit+export[at+1:]); err == nil || !strings.Contains(says, want) {
			t.Fatalf("%s passed the outside check: %v, %s", what, err, says)
		}
	}
	i := strings.Index(export, `"vchBlockSig":"0`)
	forge("a forged block signature", "C5", i+len(`"vchBlockSig":"0100`))
	// Behind the link and the signers, in the first of the signatures.
	i = strings.Index(export, `"certificates":["`) + len(`"certificates":["`)
	forge("a forged vote", "signature of voter", i+2*(104+4)+9)
	forge("a vote under other keys", "electorate", i+5)
	return seen
}

// recorded is a chain with every kind of record in it, made block by block.
type recorded struct {
	*chaingen.Generator
	// spoil changes what the slot at this height carries, with which the chain ends.
	at      uint32
	spoil   func([]consensus.Record)
	spoiled bool
}

// block adds blocks up to a height, the last of which may carry records.
func (r *recorded) block(height uint32, records ...consensus.Record) {
	for r.Tip().State.ChildHeight() < height {
		r.Next(fmt.Sprintf("b%d", r.Tip().State.ChildHeight()))
	}
	if height == r.at {
		r.spoil(records)
		r.spoiled = true
	}
	var mungers []chaingen.Munger
	if len(records) > 0 {
		mungers = append(mungers, chaingen.Records(records...))
	}
	r.Next(fmt.Sprintf("s%d", height), mungers...)
}

// recordedChain goes from set 0 through a handover to a set with keys of both
// algorithms and on to evidence of both kinds, and returns its export. The votes
// for its last slot are on no block.
func recordedChain(t *testing.T, p consensus.Params, at uint32, spoil func([]consensus.Record)) string {
	t.Helper()
	a := p.Validators[0].Algorithm
	other := types.Secp256k1 + types.P256 - a
	r := &recorded{Generator: chaingen.New(t, p), at: at, spoil: spoil}
	keys := append(chaingen.PublicKeys(a, 0, 7), chaingen.PublicKeys(other, 5)...)
	for _, step := range []func(){
		func() { r.block(10) },
		func() { r.block(20, r.Certificate("genesis", "s10", 0, 2, 4), r.SetChange(keys, 1, 2, 3)) },
		func() { r.block(30) },
		func() {
			// Voters 5 and 6 are the new keys; s20 was still the old set's.
			r.block(40, r.Certificate("s10", "s20", 0, 1, 2, 3), r.Certificate("s20", "s30", 0, 1, 2, 3, 5, 6))
		},
		func() { r.block(50, r.Certificate("s30", "s40", 0, 1, 2, 3, 4, 5, 6)) },
		func() {
			r.block(59)
			r.NextSigned("one", 2)
			r.SetTip("s59")
			r.NextSigned("two", 2)
		},
		func() {
			r.block(70, r.Certificate("s40", "s50", 0, 1), r.SlotEvidence("one", "two"), r.Evidence(r.Vote("s50", "two", 0), r.Vote("s40", "one", 0)))
		},
		func() { r.block(79) },
	} {
		if step(); r.spoiled {
			break
		}
	}
	var certificates []consensus.Certificate
	if r.spoiled && r.Tip().Err == nil {
		t.Fatal("the node takes what was spoiled")
	}
	if !r.spoiled {
		certificates = append(certificates, *r.Certificate("s50", "two", 0, 1))
		if err := errors.Join(r.Node("one").Err, r.Tip().Err); err != nil {
			t.Fatal(err)
		}
	}
	path := append([]*types.Block{r.Network().Genesis()}, r.Path(r.Tip().Name)...)
	var out bytes.Buffer
	err := exportChain(t.Context(), &out, r.Network(), certificates, func(height uint32) (*types.Block, bool, error) {
		if int(height) >= len(path) {
			return nil, false, nil
		}
		return path[height], true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestOutsideCheckOfRecords: the outside check derives from every kind of record
// what the node does, and sees each that is wrong though its block is whole.
func TestOutsideCheckOfRecords(t *testing.T) {
	for name, params := range map[string]func() consensus.Params{"secp256k1": chaingen.Params, "P-256": chaingen.P256Params} {
		t.Run(name, func(t *testing.T) {
			seen, says, err := runOutside(t, recordedChain(t, params(), 0, nil))
			if err != nil {
				t.Fatalf("%v: %s", err, says)
			}
			seen.Tip = ""
			want := outside{Blocks: 80, Signed: 7, Records: 8, Certificates: 1, Set: 1, Disabled: 2}
			want.Proven.Certified.Height, want.Proven.Final.Height = 50, 30
			want.Certified.Height, want.Final.Height = 60, 30
			if seen != want {
				t.Errorf("seen %+v, want %+v", seen, want)
			}
		})
	}
	certificate := func(i int) func(list []consensus.Record) *consensus.Certificate {
		return func(list []consensus.Record) *consensus.Certificate { return list[i].(*consensus.Certificate) }
	}
	first, second := certificate(0), certificate(1)
	for name, c := range map[string]struct {
		at    uint32
		spoil func(list []consensus.Record)
		want  string
	}{
		"a vote's signature":        {40, func(l []consensus.Record) { second(l).Signatures[5][63] ^= 1 }, "block 40: record 1 of kind 1: signature of voter 6 (C7)"},
		"another voter's signature": {40, func(l []consensus.Record) { first(l).Signatures[0] = first(l).Signatures[1] }, "record 0 of kind 1: signature of voter 0"},
		"too few votes": {20, func(l []consensus.Record) {
			first(l).Signers, first(l).Signatures = 5, first(l).Signatures[:2]
		}, "no quorum (C7)"},
		"a quorum of one set only": {40, func(l []consensus.Record) {
			second(l).Signers, second(l).Signatures = 15, second(l).Signatures[:4]
		}, "record 1 of kind 1: no quorum"},
		"another electorate":         {40, func(l []consensus.Record) { second(l).Set[3] ^= 1 }, "another electorate"},
		"a source that is not there": {40, func(l []consensus.Record) { second(l).Source.ID[0] ^= 1 }, "the source is not certified"},
		"a source not yet certified": {40, func(l []consensus.Record) { l[0] = l[1] }, "the source is not certified"},
		"a target that is not there": {40, func(l []consensus.Record) { first(l).Target.ID[0] ^= 1 }, "no recent slot"},
		"proves nothing new":         {40, func(l []consensus.Record) { l[1] = l[0] }, "nothing new"},
		"a voter there is not": {40, func(l []consensus.Record) {
			second(l).Signers ^= 1<<6 | 1<<9
		}, "no such voter"},
		"a set change's signature": {20, func(l []consensus.Record) { l[1].(*consensus.SetChange).Signatures[2][1] ^= 1 }, "signature of validator 3 (C9)"},
		"a set change's keys": {20, func(l []consensus.Record) {
			k := l[1].(*consensus.SetChange).Keys
			k[1], k[0] = k[0], k[1]
		}, "(C9)"},
		"a set change by two": {20, func(l []consensus.Record) {
			s := l[1].(*consensus.SetChange)
			s.Signers, s.Signatures = 6, s.Signatures[:2]
		}, "no quorum (C9)"},
		"evidence of one block":     {70, func(l []consensus.Record) { e := l[1].(*consensus.SlotEvidence); e.Blocks[1] = e.Blocks[0] }, "one block twice"},
		"slot evidence's signature": {70, func(l []consensus.Record) { l[1].(*consensus.SlotEvidence).Signatures[1][9] ^= 1 }, "kind 4: signature (C10)"},
		"evidence of one vote":      {70, func(l []consensus.Record) { e := l[2].(*consensus.Evidence); e.B = e.A }, "one vote twice"},
		"evidence's signature":      {70, func(l []consensus.Record) { l[2].(*consensus.Evidence).A.Signature[9] ^= 1 }, "kind 3: signature (C10)"},
		"evidence of two voters":    {70, func(l []consensus.Record) { l[2].(*consensus.Evidence).A.Index = 1 }, "not two votes of one voter"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, says, err := runOutside(t, recordedChain(t, chaingen.Params(), c.at, c.spoil)); err == nil || !strings.Contains(says, c.want) {
				t.Errorf("the outside check says %v, %s; want %q", err, says, c.want)
			}
		})
	}
}
