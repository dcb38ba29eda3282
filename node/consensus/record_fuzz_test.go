package consensus_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// recordFuzz is a chain on which a record of each kind is good: its slots are
// s1, and s2 by validator 2, which signed twin2 and voted for both.
type recordFuzz struct {
	state consensus.State
	good  []consensus.Record
}

func newRecordFuzz(f *testing.F) *recordFuzz {
	f.Helper()
	g := chaingen.New(f, quick())
	g.Next("b1")
	g.Next("s1")
	g.Next("b3")
	g.NextSigned("twin2", 2)
	g.SetTip("b3")
	g.Next("s2")
	g.Next("b5")
	return &recordFuzz{state: g.Tip().State, good: []consensus.Record{
		g.Certificate("genesis", "s2", 0, 1, 4),
		g.SetChange(append(chaingen.PublicKeys(types.P256, 5, 6), chaingen.PublicKeys(types.Secp256k1, 1)...), 0, 2, 3),
		g.Evidence(g.Vote("genesis", "twin2", 2), g.Vote("s1", "s2", 2)),
		g.SlotEvidence("s2", "twin2"),
	}}
}

// judge checks that a record which decoded is judged by a rule, and that none
// is accepted but the good ones, whose signatures nobody else can make. Evidence
// may come in either order.
func (r *recordFuzz) judge(t *testing.T, record consensus.Record) {
	t.Helper()
	before := encoded(&r.state)
	err := r.state.CheckRecord(record)
	if _, ok := consensus.RuleOf(err); err != nil && !ok {
		t.Fatalf("an error that names no rule: %v", err)
	}
	if !bytes.Equal(encoded(&r.state), before) {
		t.Fatal("judging a record changed the state")
	}
	if err != nil {
		return
	}
	raw := consensus.EncodeRecords([]consensus.Record{record})
	for _, good := range r.good {
		all := []consensus.Record{good}
		switch e := good.(type) {
		case *consensus.Evidence:
			all = append(all, &consensus.Evidence{A: e.B, B: e.A})
		case *consensus.SlotEvidence:
			turned := *e
			turned.Blocks[0], turned.Blocks[1] = e.Blocks[1], e.Blocks[0]
			turned.Signatures[0], turned.Signatures[1] = e.Signatures[1], e.Signatures[0]
			all = append(all, &turned)
		}
		for _, one := range all {
			if bytes.Equal(raw, consensus.EncodeRecords([]consensus.Record{one})) {
				return
			}
		}
	}
	t.Fatalf("forged: %x", raw)
}

// fuzz checks that what decodes as such a record is what would be written.
func (r *recordFuzz) fuzz(f *testing.F, index int, make func() consensus.Record) {
	f.Helper()
	if err := r.state.CheckRecord(r.good[index]); err != nil {
		f.Fatalf("the seed is no good: %v", err)
	}
	raw := r.good[index].AppendTo(nil)
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(append(bytes.Clone(raw), 0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		record := make()
		d := types.NewDecoder(raw)
		if record.DecodeFrom(d); d.Finish() != nil {
			return
		}
		if again := record.AppendTo(nil); !bytes.Equal(again, raw) {
			t.Fatalf("%x comes back as %x", raw, again)
		}
		r.judge(t, record)
	})
}

func FuzzDecodeSetChange(f *testing.F) {
	newRecordFuzz(f).fuzz(f, 1, func() consensus.Record { return new(consensus.SetChange) })
}

func FuzzDecodeEvidence(f *testing.F) {
	newRecordFuzz(f).fuzz(f, 2, func() consensus.Record { return new(consensus.Evidence) })
}

func FuzzDecodeSlotEvidence(f *testing.F) {
	newRecordFuzz(f).fuzz(f, 3, func() consensus.Record { return new(consensus.SlotEvidence) })
}

// FuzzDecodeRecords is the same for lists.
func FuzzDecodeRecords(f *testing.F) {
	r := newRecordFuzz(f)
	f.Add(consensus.EncodeRecords(r.good))
	f.Add(consensus.EncodeRecords(r.good[2:]))
	f.Add([]byte{})
	f.Add([]byte{5, 0})
	f.Add(append(consensus.EncodeRecords(r.good[3:]), consensus.EncodeRecords(r.good[:1])...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := consensus.DecodeRecords(raw)
		if err != nil {
			return
		}
		if len(list) > testMaxRecords {
			t.Fatalf("%d records", len(list))
		}
		if again := consensus.EncodeRecords(list); !bytes.Equal(again, raw) {
			t.Fatalf("%x comes back as %x", raw, again)
		}
		for _, record := range list {
			r.judge(t, record)
		}
	})
}

// FuzzDecodeAuthority: whatever decodes is written in a form that stays, and
// can be asked everything. The database holds nothing that Bytes did not write.
func FuzzDecodeAuthority(f *testing.F) {
	r := newRecordFuzz(f)
	f.Add(r.state.Proven().Bytes())
	for _, line := range []string{"genesis-authority", "height30-authority"} {
		raw, err := hex.DecodeString(goldenFile(f, "records.txt")[line])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := consensus.DecodeAuthority(raw)
		if err != nil {
			return
		}
		once := a.Bytes()
		again, err := consensus.DecodeAuthority(once)
		if err != nil {
			t.Fatalf("what Bytes wrote does not decode: %v\n%x", err, once)
		}
		if !bytes.Equal(again.Bytes(), once) || again.ID() != a.ID() {
			t.Fatalf("%x comes back as %x", once, again.Bytes())
		}
		if again.Voters().ID() != a.Voters().ID() || again.Certified() != a.Certified() {
			t.Fatalf("%x is another authority after a round trip", once)
		}
		state := r.state
		state.Authority = a
		for _, record := range r.good {
			if err := state.CheckRecord(record); err != nil {
				if _, ok := consensus.RuleOf(err); !ok {
					t.Fatalf("an error that names no rule: %v", err)
				}
			}
		}
	})
}
