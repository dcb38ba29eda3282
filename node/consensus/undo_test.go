package consensus_test

import (
	"bytes"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// eventful tells a story with everything in it that an authority remembers:
// set 2 is in force, 1 and 2 are disabled, and set 3 is to follow.
func eventful(t *testing.T, s *story) {
	t.Helper()
	blocks, _ := accused(t, s)
	s.slot(blocks, s.Certificate("s1", "s3", 0, 1, 3), s.SetChange(s.keys(4, 5, 6), 0, 1, 3))
	s.slot(s.Certificate("s3", "s4", 0, 1, 2))
	all := func(target string) (list []uint8) {
		for _, i := range everybody(s.Voters(target)) {
			if _, ok := s.Voters(target).Index(s.Voters(target).Keys()[i]); ok {
				list = append(list, i)
			}
		}
		return list
	}
	s.slot(s.Certificate("s4", "s5", all("s5")...))
	s.slot(s.SetChange(append(s.keys(3), chaingen.PublicKeys(types.Secp256k1+types.P256-s.alg, 5, 6)...), 0, 1, 2))
	s.slot(s.Evidence(s.Vote("s4", "s5", 1), s.Vote("s3", "s6", 1)))
	s.slot(s.Certificate("s5", "s6", all("s6")...), s.Certificate("s6", "s7", all("s7")...))
	s.slot(s.Certificate("s7", "s8", all("s8")...))
	s.slot(s.SetChange(s.keys(0, 3, 7), 0, 2), s.Certificate("s8", "s9", all("s9")...))
	s.slot()
	s.expect("set 2: 3 5' 6'; next 3: 0 3 7 since s11, 0 deep; disabled: " + s.numbers(s.Tip().State.Proven().Disabled) +
		"; final s8; slots s8* s9* s10 s11 s12")
}

// connectAll connects blocks from genesis, on a network of its own, and returns
// the state after each. between may replace a state before it goes on.
func connectAll(t *testing.T, p consensus.Params, blocks []*types.Block, between func(consensus.State) consensus.State) (list []consensus.State) {
	t.Helper()
	n, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	state := n.GenesisState()
	for _, b := range blocks {
		next, _, err := consensus.Connect(&state, b, nil)
		if err != nil {
			t.Fatalf("height %d: %v", state.ChildHeight(), err)
		}
		state = between(next)
		list = append(list, state)
	}
	return list
}

// same reports whether two states are equal, and their encodings.
func same(a, b *consensus.State) bool {
	return a.Equal(b) && b.Equal(a) && bytes.Equal(a.AppendTo(nil), b.AppendTo(nil)) && bytes.Equal(a.Proven().Bytes(), b.Proven().Bytes())
}

// TestSameBlocksSameState: on networks loaded separately, and where every state
// went through the database on the way, the same blocks give the same bytes.
func TestSameBlocksSameState(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		eventful(t, s)
		path := s.Path(s.Tip().Name)
		again := connectAll(t, s.Network().Params, path, func(st consensus.State) consensus.State { return st })
		stored := connectAll(t, s.Network().Params, path, func(st consensus.State) consensus.State {
			d := types.NewDecoder(st.AppendTo(nil))
			back, id := st.Network.DecodeState(d)
			if err := d.Finish(); err != nil {
				t.Fatal(err)
			}
			if st.Authority == nil {
				if id != (types.Hash{}) {
					t.Errorf("height %d: authority %s before the first slot", st.Height, id)
				}
				return back
			}
			a, err := consensus.DecodeAuthority(st.Authority.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if a.ID() != id || st.Authority.ID() != id {
				t.Errorf("height %d: authority %s, the state names %s", st.Height, a.ID(), id)
			}
			back.Authority = a
			return back
		})
		node := s.Tip()
		for i := len(path) - 1; i >= 0; i, node = i-1, node.Parent {
			if !same(&node.State, &again[i]) {
				t.Errorf("height %d: connected again %+v, was %+v", i+1, again[i], node.State)
			}
			if !same(&node.State, &stored[i]) {
				t.Errorf("height %d: through the database %+v, was %+v", i+1, stored[i], node.State)
			}
		}
	})
}

// TestDatabaseKeepsWhoMightVoteWhen: two slots of one set, before and after one of
// its keys was disabled, keep their own voters.
func TestDatabaseKeepsWhoMightVoteWhen(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		blocks, _ := accused(t, s)
		s.slot(blocks)
		s.slot()
		state := s.Tip().State
		back, err := consensus.DecodeAuthority(state.Proven().Bytes())
		if err != nil {
			t.Fatal(err)
		}
		state.Authority = back
		for target, want := range map[string]consensus.Rule{"s4": "", "s5": "attest-disabled"} {
			if err := state.CheckRecord(s.Certificate("s1", target, 0, 1, 2)); ruleOf(err) != want || (err == nil) != (want == "") {
				t.Errorf("a vote of the disabled key for %s: %v, want rule %q", target, err, want)
			}
		}
	})
}

// TestUndoIsTheParentState: branches that say different things of the validators
// know nothing of each other, in whatever order they are connected.
func TestUndoIsTheParentState(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		blocks, votes := accused(t, s)
		s.approach()
		fork := s.Tip()
		before := bytes.Clone(fork.State.Proven().Bytes())
		proof, change := s.Certificate("s1", "s2", 0, 1, 2, 3), s.SetChange(s.keys(5, 6, 7), 0, 1, 2)
		expectations := map[string]string{}
		tell := func(branch, want string, records ...consensus.Record) {
			s.SetTip(fork.Name)
			s.branch = branch + " "
			s.slot(records...)
			s.slot()
			s.expect(want)
			expectations[s.Tip().Name] = want
		}
		tell("a", "set 0: 0 1 2 3 4; next 1: 5 6 7 since a s4, 0 deep; final s1; slots s1* s2* s3 a s4 a s5", proof, change)
		tell("b", "set 0: 0 1 2 3 4; disabled: 2; final genesis; slots genesis* s1* s2 s3 b s4 b s5", blocks)
		tell("c", "set 0: 0 1 2 3 4; disabled: 2; final s1; slots s1* s2* s3 c s4 c s5", proof, votes)
		tell("d", "set 0: 0 1 2 3 4; final genesis; slots genesis* s1* s2 s3 d s4 d s5")
		if !bytes.Equal(fork.State.Proven().Bytes(), before) {
			t.Fatal("connecting a block changed its parent's state")
		}
		// Once more, back and forth: each branch is what it was.
		for _, order := range [][]string{{"a", "b", "c", "d"}, {"d", "a", "c", "b", "a"}} {
			for _, branch := range order {
				state := fork.State
				for _, name := range []string{branch + " s4", branch + " s5"} {
					for _, b := range s.Path(name)[state.Height:] {
						next, _, err := consensus.Connect(&state, b, nil)
						if err != nil {
							t.Fatal(err)
						}
						state = next
					}
					if node := s.Node(name); !same(&node.State, &state) {
						t.Errorf("%s: %+v, was %+v", name, state, node.State)
					}
				}
			}
		}
		for name, want := range expectations {
			if got := s.describe(s.Node(name)); got != want {
				t.Errorf("%s: %s, was %s", name, got, want)
			}
		}
	})
}

// TestStatesDiffer: Equal and the encoding see every field.
func TestStatesDiffer(t *testing.T) {
	s := newStory(t, chaingen.Params())
	s.slots(2)
	good := s.Tip().State
	other := s.slot(s.Certificate("genesis", "s1", 0, 1, 2)).State
	for name, change := range map[string]func(*consensus.State){
		"height":       func(st *consensus.State) { st.Height++ },
		"id":           func(st *consensus.State) { st.ID[31] ^= 1 },
		"time":         func(st *consensus.State) { st.Time++ },
		"signed slots": func(st *consensus.State) { st.SignedSlots-- },
		"last signed":  func(st *consensus.State) { st.LastSigned = 10 },
		"work":         func(st *consensus.State) { st.Work[3]++ },
		"authority":    func(st *consensus.State) { st.Authority = other.Authority },
		"no authority": func(st *consensus.State) { st.Authority = nil },
	} {
		changed := good
		change(&changed)
		if good.Equal(&changed) || changed.Equal(&good) {
			t.Errorf("%s: the states are equal", name)
		}
		if bytes.Equal(good.AppendTo(nil), changed.AppendTo(nil)) {
			t.Errorf("%s is not in the encoding", name)
		}
	}
	if copied := good; !good.Equal(&copied) {
		t.Error("a copy differs")
	}
}

// TestChildNeedsNoBodies: the state after a signed block follows from its header
// and first transaction, as a client without bodies has them.
func TestChildNeedsNoBodies(t *testing.T) {
	bothAlgorithms(t, func(t *testing.T, s *story) {
		eventful(t, s)
		state := s.Network().GenesisState()
		for _, b := range s.Path(s.Tip().Name) {
			var first *types.Transaction
			if b.IsSigned() {
				first = b.Transactions[0]
			}
			state = state.Child(&b.SignedHeader, first)
		}
		if !same(&state, &s.Tip().State) {
			t.Errorf("from headers %+v, from blocks %+v", state, s.Tip().State)
		}
	})
}
