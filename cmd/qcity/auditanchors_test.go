package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestSignedBlocks reads off a chain who signed what, and with which anchor. A
// signature of somebody else is an error that names the block.
func TestSignedBlocks(t *testing.T) {
	g := chaingen.New(t, chaingen.Params())
	net := g.Network()
	anchor := consensus.AuditAnchor{Seq: 7, Head: types.Hash(bytes.Repeat([]byte{0xab}, 32))}
	g.Fill("b", int(net.N)-1)
	with := g.NextSigned("with", 1, chaingen.Records(&anchor))
	g.Fill("c", int(net.N)-1)
	without := g.NextSigned("without", 2)
	if with.Err != nil || without.Err != nil {
		t.Fatal(with.Err, without.Err)
	}
	chain := append([]*types.Block{nil}, g.Path("without")...) // without genesis
	read := func() ([]anchorJSON, error) {
		list, err := signedBlocks(t.Context(), net, func(height uint32) (*types.Block, bool, error) {
			if int(height) >= len(chain) {
				return nil, false, nil
			}
			return chain[height], true, nil
		})
		return anchorsOf(list, types.PublicKey{}), err
	}
	got, err := read()
	if err != nil {
		t.Fatal(err)
	}
	want := []anchorJSON{
		{net.N, with.State.ID, net.Validators[1], "7:" + strings.Repeat("ab", 32)},
		{2 * net.N, without.State.ID, net.Validators[2], ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	var out strings.Builder
	if err := printAnchors(&out, got); err != nil || !strings.HasSuffix(out.String(), net.Validators[2].String()+"  carries none\n") {
		t.Errorf("%v, %s", err, out.String())
	}
	last := chaingen.Clone(without.Block)
	last.VchBlockSig[0] = 3
	chain[2*net.N] = last
	if _, err := read(); err == nil || !strings.Contains(err.Error(), "block 20: ") {
		t.Errorf("a signature of another validator: %v", err)
	}
}
