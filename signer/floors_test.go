package signer

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/types"
)

func TestFloor(t *testing.T) {
	keys := testKeys()
	a, b := keys[0].public, keys[1].public
	for _, c := range []struct {
		name   string
		known  []Known
		floors map[types.PublicKey]uint32
		refuse []string // what the refusal says; empty: none
	}{
		{"nothing", nil, nil, nil},
		{"a new journal", []Known{{SourceJournal, a, 0, 0}}, nil, nil},
		{"a floor is enough", []Known{{SourceJournal, a, 40, 40}, {SourceChain, a, 40, 30}}, nil, nil},
		{"the chain knows no more", []Known{{SourceJournal, a, 50, 60}, {SourceChain, a, 50, 60}}, nil, nil},
		{"the chain knows less", []Known{{SourceJournal, a, 50, 60}, {SourceChain, a, 10, 20}, {SourceCounter, a, 10, 0}}, nil, nil},
		{"the chain knows a block more", []Known{{SourceJournal, a, 50, 60}, {SourceChain, a, 60, 60}}, nil, []string{a.String() + " signed a block at height 60", "as the chain shows", "none above 50", "--height 60"}},
		{"the chain knows a vote more", []Known{{SourceJournal, a, 70, 60}, {SourceChain, a, 50, 70}}, nil, []string{"signed a vote at height 70", "none above 60", "qcity watermark raise --key " + a.String() + " --height 70"}},
		{"the higher of the two is named", []Known{{SourceJournal, a, 10, 10}, {SourceChain, a, 90, 80}}, nil, []string{"a block at height 90", "--height 90"}},
		{"the counter knows more", []Known{{SourceJournal, a, 50, 60}, {SourceCounter, a, 60, 0}}, nil, []string{"as the TPM counter shows"}},
		{"the journal does not know the key", []Known{{SourceChain, b, 10, 0}}, nil, []string{b.String(), "none above 0"}},
		{"of two keys one", []Known{{SourceJournal, a, 50, 50}, {SourceJournal, b, 50, 50}, {SourceChain, a, 50, 50}, {SourceChain, b, 60, 50}}, nil, []string{b.String()}},
		{"both keys are named", []Known{{SourceChain, a, 50, 50}, {SourceChain, b, 60, 50}}, nil, []string{a.String(), b.String()}},
		{"the cluster knows more", []Known{{SourceJournal, a, 50, 60}, {SourceCluster, a, 70, 60}}, map[types.PublicKey]uint32{a: 70}, nil},
		{"the cluster explains the chain", []Known{{SourceChain, a, 70, 80}, {SourceJournal, a, 50, 60}, {SourceCluster, a, 70, 80}}, map[types.PublicKey]uint32{a: 80}, nil},
		{"the cluster does not explain it", []Known{{SourceJournal, a, 50, 60}, {SourceCluster, a, 60, 60}, {SourceChain, a, 70, 60}}, nil, []string{"none above 60"}},
		{"an import", []Known{{SourceJournal, a, 50, 60}, {SourceImport, a, 50, 90}}, map[types.PublicKey]uint32{a: 90}, nil},
		{"the cluster knows less", []Known{{SourceJournal, a, 50, 60}, {SourceCluster, a, 40, 60}}, nil, nil},
		{"the cluster knows another key", []Known{{SourceJournal, a, 50, 60}, {SourceCluster, b, 40, 30}}, map[types.PublicKey]uint32{b: 40}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			floors, err := Floor(c.known...)
			if len(c.refuse) == 0 {
				if err != nil || !maps.Equal(floors, c.floors) {
					t.Fatalf("%v, %v; want %v", floors, err, c.floors)
				}
				return
			}
			if !IsTerminal(err) || !errors.Is(err, ErrRolledBack) {
				t.Fatalf("got %v, %v", floors, err)
			}
			for _, want := range c.refuse {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestFloorRemedy does what a refusal asks for, with a journal that was set back.
func TestFloorRemedy(t *testing.T) {
	keys := testKeys()
	_, j := memJournal(t, keys, 0)
	must(t, j, claimOf(keys[0], 10, 1))
	chain := Known{Source: SourceChain, Key: keys[0].public, Block: 30, Vote: 20}
	if _, err := Floor(append(j.Known(), chain)...); !errors.Is(err, ErrRolledBack) {
		t.Fatalf("got %v", err)
	}
	if err := j.RaiseFloor(keys[0].public, 30); err != nil {
		t.Fatal(err)
	}
	if floors, err := Floor(append(j.Known(), chain)...); err != nil || len(floors) != 0 {
		t.Fatalf("after the floor was raised: %v, %v", floors, err)
	}
}
