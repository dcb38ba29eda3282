package consensus

import "testing"

// modelSets returns set 0 of keys 0 to 2, set 1 of three keys that shares so
// many with it, and set 2 of three others.
func modelSets(shared int) [][]int {
	return [][]int{{0, 1, 2}, {3 - shared, 4 - shared, 5 - shared}, {6, 7, 8}}
}

// A handoverRow is a case of TestVoteModelHandover, tried with these numbers of
// keys in both sets.
type handoverRow struct {
	name        string
	slots, fork int
	a, b        schedule
	shared      []int
}

// run explores a row with no bad key and with one of each kind, and returns
// the number of conflicts without and with it, over all of these.
func (r *handoverRow) run(t *testing.T, newOnly bool, depth int) (without, with int) {
	t.Helper()
	all := 0
	for _, shared := range r.shared {
		sets := modelSets(shared)
		if r.a.next != 2 && r.b.next != 2 {
			sets = sets[:2]
		}
		for _, bad := range badKeys(shared, len(sets)) {
			m := handoverModel{
				slots: r.slots, fork: r.fork, sets: sets, branches: [2]schedule{r.a, r.b},
				bad: bad, newOnly: newOnly, depth: depth,
			}
			judged, conflicts := m.explore()
			t.Logf("%d slots, %s, %d shared, bad key %d: %d ways to vote judged, %d conflicts", r.slots, r.name, shared, bad, judged, conflicts)
			all += judged
			if bad == none {
				without += conflicts
			} else {
				with += conflicts
			}
		}
	}
	if all == 0 {
		t.Errorf("%s: nothing to judge", r.name)
	}
	return without, with
}

// badKeys are none and one of each kind: of the old set, of both, of the next,
// and of a third one.
func badKeys(shared, sets int) []int {
	bad := []int{none}
	if shared < 3 {
		bad = append(bad, 0, 5-shared)
	}
	if shared > 0 {
		bad = append(bad, 2)
	}
	if sets > 2 {
		bad = append(bad, 6)
	}
	return bad
}

var (
	anyShared = []int{0, 1, 2, 3}
	noChange  = schedule{}
)

// TestVoteModelHandover: with the joint electorate no two slots that contradict
// each other are final, whatever the branches know of a change of the set, with
// one bad key or none.
func TestVoteModelHandover(t *testing.T) {
	for _, r := range []handoverRow{
		{"one branch changes, the other does not", 4, 0, schedule{1, 0, 1}, noChange, anyShared},
		{"one branch has taken over, the other does not change", 4, 0, schedule{1, 3, 1}, noChange, anyShared},
		{"one branch has taken over, the other changes", 4, 0, schedule{1, 3, 1}, schedule{1, 0, 1}, anyShared},
		{"one branch has taken over, the other changes later", 4, 0, schedule{1, 3, 1}, schedule{2, 0, 1}, anyShared},
		{"a common change, one branch has taken over", 4, 1, schedule{1, 3, 1}, schedule{1, 0, 1}, anyShared},
		{"one branch has taken over, the other changes to other keys", 4, 0, schedule{1, 3, 1}, schedule{1, 0, 2}, []int{2, 3}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if without, with := r.run(t, false, 0); without+with != 0 {
				t.Errorf("%d conflicts without, %d with a bad key", without, with)
			}
		})
	}
}

// TestVoteModelHandoverLong takes five slots, so that the new set makes slots
// final alone, and all numbers of shared keys.
func TestVoteModelHandoverLong(t *testing.T) {
	longModel(t)
	for _, r := range []handoverRow{
		{"one branch has taken over, the other does not change", 5, 0, schedule{1, 3, 1}, noChange, anyShared},
		{"one branch takes over later, the other does not change", 5, 0, schedule{1, 4, 1}, noChange, anyShared},
		{"one branch has taken over, the other changes", 5, 0, schedule{1, 3, 1}, schedule{1, 0, 1}, anyShared},
		{"one branch has taken over, the other changes later", 5, 0, schedule{1, 3, 1}, schedule{3, 0, 1}, anyShared},
		{"a common change, one branch has taken over", 5, 1, schedule{1, 3, 1}, schedule{1, 0, 1}, anyShared},
		{"a common change, one branch has taken over, later fork", 5, 2, schedule{1, 3, 1}, schedule{1, 0, 1}, anyShared},
		{"one branch has taken over, the other changes to other keys", 4, 0, schedule{1, 3, 1}, schedule{1, 0, 2}, anyShared},
	} {
		if without, with := r.run(t, false, 0); without+with != 0 {
			t.Errorf("%+v: %d conflicts without, %d with a bad key", r, without, with)
		}
	}
}

// TestVoteModelHandoverWithoutJointRule: where only the new set is asked, slots
// of two branches are final without anybody breaking a rule.
func TestVoteModelHandoverWithoutJointRule(t *testing.T) {
	t.Parallel()
	r := handoverRow{"new set only", 4, 0, schedule{1, 0, 1}, noChange, []int{1, 2}}
	without, with := r.run(t, true, 0)
	if without == 0 || with == 0 {
		t.Errorf("%d conflicts without, %d with a bad key: the joint rule is good for nothing", without, with)
	}
}

// TestVoteModelHandoverByDepth shows the price of taking over without finality,
// with one certified slot in place of 36. Without a bad key no two slots that
// contradict each other are final; but one bad key of the old set and a split of
// its honest members that lasts until the takeover are enough for that.
func TestVoteModelHandoverByDepth(t *testing.T) {
	t.Parallel()
	r := handoverRow{"by depth", 4, 0, schedule{1, 3, 1}, noChange, []int{1, 2, 3}}
	without, with := r.run(t, false, 1)
	if without != 0 || with == 0 {
		t.Errorf("%d conflicts without, %d with a bad key", without, with)
	}
}

// TestVoteModelHandoverByDepthLong takes disjoint sets, and two certified slots.
func TestVoteModelHandoverByDepthLong(t *testing.T) {
	longModel(t)
	r := handoverRow{"by depth", 4, 0, schedule{1, 3, 1}, noChange, []int{0}}
	if without, with := r.run(t, false, 1); without != 0 || with == 0 {
		t.Errorf("%d conflicts without, %d with a bad key", without, with)
	}
	m := handoverModel{slots: 5, sets: modelSets(1)[:2], branches: [2]schedule{{1, 4, 1}, noChange}, bad: 2, depth: 2}
	judged, conflicts := m.explore()
	t.Logf("depth 2, the key of both sets bad: %d ways to vote judged, %d conflicts", judged, conflicts)
	if conflicts == 0 {
		t.Error("no conflict")
	}
}
