package reward

import (
	"testing"

	"pgregory.net/rapid"
)

// chainBlock is a block of a model chain; n is 0 for somebody else's.
type chainBlock struct{ n int }

// modelChain is a chain and the pool that mines on it, as the node drives it:
// losers of a reorganisation are settled from the tip down before the winners
// are from below, and templates die with their parent.
type modelChain struct {
	t      *rapid.T
	l      *Ledger
	blocks []chainBlock
	n      int    // blocks found
	plans  []Plan // templates on this tip
	lost   []chainBlock
	losers int // height at which lost begins
}

func (m *modelChain) height() uint32 { return uint32(len(m.blocks)) }

func (m *modelChain) template() {
	finder := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(m.t, "finder")
	m.plans = append(m.plans, m.l.Plan(finder, m.height(), rapid.Int64Range(0, 1e6).Draw(m.t, "reward"), rapid.IntRange(0, 3).Draw(m.t, "outputs")))
}

func (m *modelChain) extend(b chainBlock) {
	m.blocks = append(m.blocks, b)
	m.plans, m.lost = nil, nil
	m.template()
}

func (m *modelChain) found() {
	p := rapid.SampledFrom(m.plans).Draw(m.t, "plan")
	m.n++
	find(m.t, m.l, m.n, p)
	switch rapid.IntRange(0, 3).Draw(m.t, "outcome") {
	case 0: // somebody else was faster
		settle(m.t, m.l, m.n, Orphaned)
	case 1: // held: another one of the same height may be found meanwhile
		m.template()
		held := m.n
		if rapid.Bool().Draw(m.t, "sibling") {
			m.found()
		}
		if m.plans != nil && len(m.blocks) == int(p.Height) {
			settle(m.t, m.l, held, Accepted)
			m.extend(chainBlock{held})
		} else {
			settle(m.t, m.l, held, Orphaned)
		}
	default:
		settle(m.t, m.l, m.n, Accepted)
		m.extend(chainBlock{m.n})
	}
}

// reorganise replaces the last blocks by as many of others and one more.
func (m *modelChain) reorganise() {
	depth := rapid.IntRange(1, len(m.blocks)).Draw(m.t, "depth")
	m.losers = len(m.blocks) - depth
	lost := append([]chainBlock(nil), m.blocks[m.losers:]...)
	m.pop(depth)
	for range depth + 1 {
		m.blocks = append(m.blocks, chainBlock{})
	}
	m.plans = nil
	m.template()
	m.lost = lost
}

func (m *modelChain) pop(depth int) {
	for range depth {
		last := m.blocks[len(m.blocks)-1]
		m.blocks = m.blocks[:len(m.blocks)-1]
		if last.n > 0 {
			settle(m.t, m.l, last.n, Orphaned)
		}
	}
}

// back brings the last losers back, with two blocks of others on top.
func (m *modelChain) back() {
	lost := m.lost
	m.pop(len(m.blocks) - m.losers)
	for _, b := range append(lost, chainBlock{}, chainBlock{}) {
		m.blocks = append(m.blocks, b)
		if b.n > 0 {
			settle(m.t, m.l, b.n, Accepted)
		}
	}
	m.plans, m.lost = nil, nil
	m.template()
}

// TestNobodyIsPaidTwice: on a chain that the node follows, whatever is held,
// orphaned and brought back, no account is ever paid more than it was credited,
// and the running round never holds work that a standing block was divided by.
func TestNobodyIsPaidTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		rules.MinPayout = rapid.Int64Range(0, 1000).Draw(t, "least")
		l, err := New(rules, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		m := &modelChain{t: t, l: l, blocks: []chainBlock{{}}}
		l.SetNetwork(*hashes(10_000))
		m.template()
		t.Repeat(map[string]func(*rapid.T){
			"share": func(t *rapid.T) {
				l.Share(rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "name"), rapid.Uint64Range(1, 3000).Draw(t, "weight"))
			},
			"template": func(t *rapid.T) { m.t = t; m.template() },
			"found":    func(t *rapid.T) { m.t = t; m.found() },
			"foreign":  func(t *rapid.T) { m.t = t; m.extend(chainBlock{}) },
			"reorganise": func(t *rapid.T) {
				m.t = t
				if len(m.blocks) > 1 {
					m.reorganise()
				}
			},
			"back": func(t *rapid.T) {
				m.t = t
				if m.lost != nil {
					m.back()
				}
			},
			"": func(t *rapid.T) {
				if err := l.Check(); err != nil {
					t.Fatal(err)
				}
				for _, a := range l.accounts {
					if a.name != "" && a.balance() < 0 {
						t.Fatalf("%q has %d", a.name, a.balance())
					}
					if a.round.Lt(&a.consumed) {
						t.Fatalf("%q: more work was divided than done", a.name)
					}
				}
			},
		})
	})
}
