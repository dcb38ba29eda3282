package consensus

import (
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A row is one case of the table of docs/votes.md, "What the model shows".
type row struct {
	slots, fork int
	rule        string
	allows      func(VoteRecord, Link) error
	size        int // validators
	certify     int
	final       int
	bad         int
	conflicts   int
}

func (r *row) model() voteModel {
	m := voteModel{slots: r.slots, fork: r.fork, allows: r.allows, size: r.size, certify: r.certify, final: r.final, bad: r.bad}
	m.voters = m.electorate()
	return m
}

var table = []row{
	// A fork at genesis.
	{3, 0, "strict", strict, 5, 3, 4, 1, 0},
	{3, 0, "no-surround", noSurround, 5, 3, 4, 1, 0},
	{3, 0, "strict", strict, 5, 3, 3, 0, 0},
	{3, 0, "strict", strict, 5, 3, 3, 1, 3285},
	{3, 0, "strict", strict, 5, 3, 4, 2, 410},
	{3, 0, "strict", strict, 5, 4, 4, 2, 0},
	{4, 0, "strict", strict, 5, 3, 4, 1, 0},
	{4, 0, "no-surround", noSurround, 5, 3, 4, 1, 30418},
	{4, 0, "strict", strict, 5, 3, 4, 2, 121220},
	{4, 0, "strict", strict, 5, 4, 4, 2, 0},
	// A fork after the first slot.
	{4, 1, "strict", strict, 5, 3, 4, 1, 0},
	{4, 1, "no-surround", noSurround, 5, 3, 4, 1, 0},
	{4, 1, "strict", strict, 5, 3, 4, 2, 21574},
	{4, 1, "strict", strict, 5, 4, 4, 2, 0},
	// Three validators.
	{4, 0, "strict", strict, 3, 2, 3, 1, 0},
	{4, 0, "no-surround", noSurround, 3, 2, 3, 1, 18},
}

// name is the row's name as a subtest.
func (r *row) name() string {
	return fmt.Sprintf("%s, %d slots, fork %d, %d+%d of %d, %d bad", r.rule, r.slots, r.fork, r.certify, r.final, r.size, r.bad)
}

// TestVoteModelIsDocumented: docs/votes.md has exactly these rows.
func TestVoteModelIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/votes.md")
	if err != nil {
		t.Fatal(err)
	}
	thousands := regexp.MustCompile(`(\d)(\d{3})$`)
	for _, r := range table {
		rule := map[string]string{"strict": "S1, S2", "no-surround": "S1, no surround"}[r.rule]
		fork := map[int]string{0: "genesis", 1: "slot 1"}[r.fork]
		line := fmt.Sprintf("| %d | %s | %s | %d | %d | %d | %d | %s | `TestVoteModel/%s` |", r.slots, fork, rule, r.size, r.certify, r.final, r.bad,
			thousands.ReplaceAllString(strconv.Itoa(r.conflicts), "$1,$2"), strings.ReplaceAll(r.name(), " ", "_"))
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("docs/votes.md lacks\n%s", line)
		}
	}
	if n := strings.Count(string(text), "`TestVoteModel/"); n != len(table) {
		t.Errorf("docs/votes.md has %d rows, want %d", n, len(table))
	}
}

// TestVoteModel explores every case of the table and counts the multisets of
// honest histories that make two conflicting slots final. Each one found must
// also expose at least as many offenders as finality says (two, or one where
// its quorum is a bare majority), and nobody else.
func TestVoteModel(t *testing.T) {
	for _, c := range table {
		m := c.model()
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			got := m.explore(func(votes [][]Link) bool {
				tally := m.tally(votes)
				found := m.conflicting(tally)
				if found && c.rule == "strict" {
					m.checkOffenders(t, tally)
				}
				return found
			})
			t.Logf("%d histories, %d sums of votes tallied", got.histories, got.tallied)
			if got.conflicts != c.conflicts {
				t.Errorf("%d conflicting multisets, want %d", got.conflicts, c.conflicts)
			}
		})
	}
}

// checkOffenders checks accountability: two conflicting final slots come with
// evidence against everybody both decisions have in common by breaking a rule,
// and against no honest validator.
func (m *voteModel) checkOffenders(t *testing.T, tally *Tally) {
	set := offenders(tally)
	if honest := set &^ m.badSet(); honest != 0 {
		t.Fatalf("evidence against honest validators %05b", honest)
	}
	if least := m.certify + m.final - m.size; bits.OnesCount32(set) < least {
		t.Fatalf("evidence against %05b only, want %d offenders", set, least)
	}
}

// TestVoteModelReduction holds the two shortcuts of explore to what they
// replace, where that is small enough: histories left out by maximal, and
// cases left out because no link has the votes.
func TestVoteModelReduction(t *testing.T) {
	t.Parallel()
	naive := 0
	for _, c := range table {
		m := c.model()
		judge := func(votes [][]Link) bool { return m.conflicting(m.tally(votes)) }
		if c.slots == 3 && c.bad == 2 {
			naive++
			if got := m.exploreNaively(judge); got != c.conflicts {
				t.Errorf("%+v: %d conflicts without leaving out any case", c, got)
			}
		}
		m.maximal = true
		if got := m.explore(judge); (got.conflicts > 0) != (c.conflicts > 0) {
			t.Errorf("%+v: %d conflicts among maximal histories, %d among all", c, got.conflicts, c.conflicts)
		}
	}
	if naive != 2 {
		t.Errorf("%d rows were explored naively", naive)
	}
}

// exploreNaively judges every multiset of three histories, one by one.
func (m *voteModel) exploreNaively(judge func(votes [][]Link) bool) (conflicts int) {
	all := m.histories()
	for i := range all {
		for j := range all[i:] {
			for k := range all[i+j:] {
				if judge([][]Link{all[i].links, all[i+j].links, all[i+j+k].links}) {
					conflicts++
				}
			}
		}
	}
	return conflicts
}

// TestVoteModelLong goes further than the table: existence only, over maximal
// histories. It takes minutes and runs where QCITY_MODEL is set (make model).
func TestVoteModelLong(t *testing.T) {
	if os.Getenv("QCITY_MODEL") == "" {
		t.Skip("set QCITY_MODEL=1 or run make model: it takes minutes")
	}
	for _, c := range []row{ // conflicts: 1 stands for some
		{4, 0, "strict", strict, 5, 3, 3, 0, 0},
		{4, 0, "strict", strict, 5, 3, 3, 1, 1},
		{5, 2, "strict", strict, 5, 3, 4, 1, 0},
		{5, 1, "strict", strict, 5, 3, 4, 1, 0},
		{5, 1, "no-surround", noSurround, 5, 3, 4, 1, 1},
		{5, 0, "strict", strict, 5, 3, 4, 1, 0},
		{5, 0, "strict", strict, 5, 4, 4, 2, 0},
		{5, 0, "strict", strict, 3, 2, 3, 1, 0},
		{3, 0, "strict", strict, 7, 4, 5, 1, 0},
	} {
		t.Run(c.name(), func(t *testing.T) {
			m := c.model()
			m.maximal = true
			got := m.explore(func(votes [][]Link) bool { return m.conflicting(m.tally(votes)) })
			t.Logf("%d maximal histories, %d sums of votes tallied, %d conflicting multisets", got.histories, got.tallied, got.conflicts)
			if (got.conflicts > 0) != (c.conflicts > 0) {
				t.Errorf("%d conflicting multisets, want some: %t", got.conflicts, c.conflicts > 0)
			}
		})
	}
}
