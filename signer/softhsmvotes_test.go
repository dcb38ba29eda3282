package signer

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// voting returns the electorate of the first set, whose blocks a software key signed.
func (v *vault) voting() *electorate {
	first := testKeys()[0]
	i := slices.Index(v.network.Validators, first.public)
	return &electorate{network: v.network, sets: []consensus.ValidatorSet{firstSet(v.network)}, signer: first, index: uint8(i)}
}

func TestSoftHSMVotes(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1, types.P256)
	v.found(t)
	e := v.voting()
	c, stop := v.start(t)
	first := make(map[*consensus.Ballot]Response)
	for i := range 4 {
		ballot := e.ballot(e.at(0, 0), uint32(1+i/2)*testSlot, uint8(i%2), 1)
		r, err := c.Attest(patience(t), NewVoteRequest(ballot))
		if err != nil {
			t.Fatal(err)
		}
		e.checkVote(t, ballot, r)
		first[ballot] = r
	}
	stop()

	c, stop = v.start(t)
	defer stop()
	for ballot, want := range first {
		r, err := c.Attest(patience(t), NewVoteRequest(ballot))
		if err != nil || !r.Repeated || !bytes.Equal(r.Signature, want.Signature) {
			t.Fatalf("after a restart: %+v, %v", r, err)
		}
	}
	for i := range uint8(2) {
		_, err := c.Attest(patience(t), NewVoteRequest(e.ballot(e.at(0, 0), 2*testSlot, i, 2)))
		wantRule(t, err, Rule(consensus.RuleVoteTarget))
	}
}

// TestSoftHSMKeyToJoin: a key outside the network's first set is taken, with a
// warning, and signs and votes once it is in the set.
func TestSoftHSMKeyToJoin(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.P256)
	key := v.config.Keys[0].PublicKey
	v.network = testNetwork(t, "vault", publics(testKeys()))
	v.books(t, []types.PublicKey{key})
	var log bytes.Buffer
	d := need[*Daemon](t)(Open(patience(t), v.config, v.network, slog.New(slog.NewTextHandler(&log, nil))))
	defer d.close()
	if s := log.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, key.String()) {
		t.Fatalf("logged %s", s)
	}
	if k := d.Status(patience(t)).Keys[0]; k.Index != -1 || !k.Ready || k.PublicKey != key {
		t.Fatalf("status %+v", k)
	}
	next := consensus.ValidatorSet{Number: 1, Keys: []types.PublicKey{key}}
	p := v.anchored(proposalUnder(v.network, next, testSlot, 0, uint32(time.Now().Unix())-100, 1))
	if err := d.service.Seen(patience(t), SeenRequest{}); err != nil {
		t.Fatal(err)
	}
	r, err := d.service.SignSlot(patience(t), NewRequest(p))
	if err != nil {
		t.Fatal(err)
	}
	(&bench{network: v.network}).checkSignature(t, p, r)
	e := v.voting()
	e.sets = append(e.sets, next)
	ballot := e.ballot(e.at(0, 0), testSlot, 5, 1)
	r, err = d.service.Attest(patience(t), NewVoteRequest(ballot))
	if err != nil {
		t.Fatal(err)
	}
	e.checkVote(t, ballot, r)
}
