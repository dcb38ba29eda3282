package reward

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/holiman/uint256"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/stratum/pool/canon"
)

func newLedger(t interface{ Fatal(...any) }, r Rules) *Ledger {
	if r.Factor == 0 {
		r.Factor = 2000
	}
	l, err := New(r, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func id(n int) (h [32]byte) { h[0], h[1], h[2] = byte(n), byte(n>>8), 1; return h }

// find books a block by a plan, as the node does.
func find(t interface{ Fatal(...any) }, l *Ledger, n int, p Plan) {
	fresh, err := l.Found(Found{ID: id(n), Height: p.Height, Time: time.UnixMilli(1_800_000_000_000), Reward: p.Reward, Finder: "finder.1", Note: p.Note()})
	if err != nil || !fresh {
		t.Fatal("block", n, "was not booked:", fresh, err)
	}
}

func settle(t interface{ Fatal(...any) }, l *Ledger, n int, s State) {
	if _, err := l.Settle(id(n), s); err != nil {
		t.Fatal(err)
	}
}

func credits(p *Plan) map[string]int64 {
	m := map[string]int64{}
	for _, c := range p.Credits {
		m[c.Account] = c.Amount
	}
	return m
}

func TestModes(t *testing.T) {
	for name, c := range map[string]struct {
		rules    Rules
		finder   string
		credits  map[string]int64
		fee      int64
		payments []Payment
	}{
		"own":                   {Rules{Mode: Own, Fee: 100}, "", map[string]int64{"": 10_001}, 0, nil},
		"solo":                  {Rules{Mode: Solo, Fee: 100}, "carol", map[string]int64{"": 0, "carol": 9_901}, 100, []Payment{{"carol", 9_901}}},
		"solo, the operator's":  {Rules{Mode: Solo}, "", map[string]int64{"": 10_001}, 0, nil},
		"proportional":          {Rules{Mode: Proportional, Fee: 250}, "", map[string]int64{"": 1219, "alice": 4875, "bob": 3657}, 250, []Payment{{"alice", 4875}, {"bob", 3657}}},
		"proportional, minimum": {Rules{Mode: Proportional, MinPayout: 4876}, "", map[string]int64{"": 1250, "alice": 5001, "bob": 3750}, 0, []Payment{{"alice", 5001}}},
		"pplns":                 {Rules{Mode: PPLNS}, "", map[string]int64{"": 1250, "alice": 5001, "bob": 3750}, 0, []Payment{{"alice", 5001}, {"bob", 3750}}},
	} {
		l := newLedger(t, c.rules)
		l.Share("alice", 300)
		l.Share("bob", 300)
		l.Share("", 100)
		l.Share("alice", 100)
		p := l.Plan(c.finder, 7, 10_001, 3)
		if d := diff(c.credits, credits(&p)) + diff(c.payments, p.Payments); d != "" || p.Fee != c.fee {
			t.Errorf("%s: fee %d, %s", name, p.Fee, d)
		}
	}
}

// TestRound: the round of Proportional is the work since the last block that
// stands; that of an orphaned one returns, and goes again if it stands after all.
func TestRound(t *testing.T) {
	l := newLedger(t, Rules{Mode: Proportional})
	expect := func(when string, want map[string]int64) {
		t.Helper()
		p := l.Plan("", 99, 1000, 0)
		if d := diff(want, credits(&p)); d != "" {
			t.Fatalf("%s: %s", when, d)
		}
	}
	l.Share("alice", 100)
	first := l.Plan("", 10, 1000, 0)
	l.Share("bob", 100) // after the plan: of the next round
	find(t, l, 1, first)
	settle(t, l, 1, Accepted)
	expect("after a block", map[string]int64{"": 0, "bob": 1000})
	second := l.Plan("", 11, 1000, 0)
	find(t, l, 2, second)
	settle(t, l, 2, Accepted)
	l.Share("carol", 100)
	expect("after another", map[string]int64{"": 0, "carol": 1000})
	settle(t, l, 2, Orphaned)
	expect("the other orphaned", map[string]int64{"": 0, "bob": 500, "carol": 500})
	settle(t, l, 1, Orphaned)
	expect("both orphaned", map[string]int64{"": 0, "alice": 334, "bob": 333, "carol": 333})
	settle(t, l, 1, Accepted)
	settle(t, l, 2, Confirmed)
	expect("both back", map[string]int64{"": 0, "carol": 1000})
}

// TestWindow: PPLNS counts the last work only, the oldest bucket in proportion,
// and it counts again after a block.
func TestWindow(t *testing.T) {
	l := newLedger(t, Rules{Mode: PPLNS, Factor: 2000})
	l.SetNetwork(*hashes(5_000)) // the last 10,000 hashes, in buckets of 200
	for range 100 {
		l.Share("old", 100)
	}
	for range 75 {
		l.Share("new", 100)
	}
	want := map[string]int64{"": 0, "old": 250, "new": 750}
	for i := range 3 {
		p := l.Plan("", uint32(i), 1000, 9)
		if d := diff(want, credits(&p)); d != "" {
			t.Fatal(d)
		}
		find(t, l, i, p)
		settle(t, l, i, Accepted)
	}
	l.Share("new", 100) // the oldest bucket, 200 by old, counts half
	p := l.Plan("", 9, 1000, 9)
	if d := diff(map[string]int64{"": 0, "old": 240, "new": 760}, credits(&p)); d != "" {
		t.Fatal(d)
	}
	l.SetNetwork(*hashes(2_000))
	p = l.Plan("", 9, 1000, 9)
	if d := diff(map[string]int64{"": 0, "new": 1000}, credits(&p)); d != "" {
		t.Fatal(d)
	}
}

func TestWindowStaysBounded(t *testing.T) {
	l := newLedger(t, Rules{Mode: PPLNS, Factor: 1000})
	for i := range 200_000 {
		if i%20_000 == 0 { // tenfold up and down
			l.SetNetwork(*hashes([]uint64{10_000, 1_000_000, 0}[i/20_000%3]))
		}
		l.Share(fmt.Sprint(i%3), uint64(1+i%50))
		if n := len(l.window.buckets); n > maxBuckets {
			t.Fatalf("%d buckets", n)
		}
	}
	sum, keep := l.window.total, l.window.span
	keep.Lsh(&keep, 1)
	for _, b := range l.window.buckets {
		sum.Sub(&sum, &b.total)
	}
	if !sum.IsZero() {
		t.Errorf("the total is off by %v", &sum)
	}
}

// TestPayments: the largest balances are paid first, within the reward, the
// number of outputs and the minimum; what is not paid is carried.
func TestPayments(t *testing.T) {
	l := newLedger(t, Rules{Mode: Proportional, MinPayout: 150})
	pay := func(n int, want ...Payment) {
		t.Helper()
		p := l.Plan("", uint32(n), 1000, 2)
		if d := diff(want, p.Payments); d != "" {
			t.Fatalf("block %d: %s", n, d)
		}
		find(t, l, n, p)
		settle(t, l, n, Accepted)
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"d", "c", "b", "a"} { // 100, 200, 300, 400
		l.Share(name, uint64(100*(i+1)))
	}
	pay(1, Payment{"a", 400}, Payment{"b", 300})
	l.Share("d", 1) // 1100 due to d, 200 to c: more than the reward
	pay(2, Payment{"d", 1000})
	l.Share("", 1)
	pay(3, Payment{"c", 200}) // d's 100 are below the minimum
	r := l.Report()
	if d := diff([]AccountReport{
		{"a", 400, 400, 400, 0, 0}, {"b", 300, 300, 300, 0, 0}, {"c", 200, 200, 200, 0, 0}, {"d", 1100, 1100, 1000, 100, 0},
	}, r.Accounts); d != "" {
		t.Error(d)
	}
	settle(t, l, 1, Orphaned) // d, b and c lose what it gave
	r = l.Report()
	if d := diff([]AccountReport{{"c", 0, 0, 200, -200, 0}, {"d", 1000, 1000, 1000, 0, 0}}, r.Accounts); d != "" {
		t.Error(d)
	}
	if err := errors.Join(r.Check(), l.Check()); err != nil {
		t.Error(err)
	}
}

// TestHeldBlocks: as long as it is open whether a block stands, nobody is paid
// twice, nor what may not be there.
func TestHeldBlocks(t *testing.T) {
	l := newLedger(t, Rules{Mode: Proportional})
	l.Share("a", 1)
	find(t, l, 1, l.Plan("", 10, 1000, 9))
	if p := l.Plan("", 10, 1000, 9); len(p.Payments) != 1 { // its sibling
		t.Errorf("another block of the same height pays %v", p.Payments)
	}
	p := l.Plan("", 11, 1000, 9) // its child
	if d := diff(map[string]int64{"": 1000}, credits(&p)); d != "" || p.Payments != nil {
		t.Errorf("the work of a held block counts twice: %s, %v", d, p.Payments)
	}
	r := l.Report()
	if len(r.Accounts) != 1 || r.Accounts[0] != (AccountReport{Account: "a", Held: 1000}) || r.Rewards != 0 {
		t.Errorf("%+v", r)
	}
}

func TestFoundRefuses(t *testing.T) {
	l := newLedger(t, Rules{Mode: Solo})
	p := l.Plan("a", 5, 1000, 1)
	good := Found{ID: id(1), Height: 5, Reward: 1000, Note: p.Note()}
	bad := map[string]Found{}
	for name, change := range map[string]func(f *Found){
		"another height": func(f *Found) { f.Height++ },
		"another reward": func(f *Found) { f.Reward++ },
		"half a note":    func(f *Found) { f.Note = f.Note[:len(f.Note)/2] },
		"a longer note":  func(f *Found) { f.Note = append(slices.Clone(f.Note), 0) },
		"negative":       func(f *Found) { f.Reward, f.Note = -1, nil },
		"a later format": func(f *Found) { f.Note = append([]byte{2}, f.Note[1:]...) },
	} {
		f := good
		change(&f)
		bad[name] = f
	}
	before := string(l.AppendState(nil))
	for name, f := range bad {
		if fresh, err := l.Found(f); fresh || err == nil || l.CheckFound(&f) == nil {
			t.Errorf("%s: booked", name)
		}
	}
	if string(l.AppendState(nil)) != before {
		t.Error("a refused block left traces")
	}
	if fresh, err := l.Found(good); !fresh || err != nil {
		t.Fatal(err)
	}
	if fresh, err := l.Found(good); fresh || err != nil {
		t.Errorf("twice: %v, %v", fresh, err)
	}
	good.Note = nil
	if _, err := l.Found(good); err == nil {
		t.Error("the same block with another note")
	}
	if _, err := l.Settle(id(9), Accepted); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown block: %v", err)
	}
	if _, err := l.Settle(id(1), states); err == nil {
		t.Error("unknown state")
	}
}

// TestFullTable: the work of accounts without room is the operator's, and
// nothing that is owed makes room.
func TestFullTable(t *testing.T) {
	l, err := New(Rules{Mode: Proportional, Factor: 1000}, Limits{Accounts: 3})
	if err != nil {
		t.Fatal(err)
	}
	l.Share("", 1)
	l.Share("a", 10)
	l.Share("b", 10)
	l.Share("c", 10) // no room
	p := l.Plan("", 1, 310, 1)
	if d := diff(map[string]int64{"": 110, "a": 100, "b": 100}, credits(&p)); d != "" {
		t.Fatal(d)
	}
}

// TestHistories walks through random histories and checks, after every step,
// that the sums are right, that a ledger read from its own bytes is the same,
// and that a second one fed with the same events is, too.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		limits := Limits{Accounts: rapid.SampledFrom([]int{4, 0}).Draw(t, "accounts"), Blocks: rapid.SampledFrom([]int{3, 0}).Draw(t, "blocks")}
		l, err := New(rules, limits)
		if err != nil {
			t.Fatal(err)
		}
		twin, _ := New(rules, limits)
		plans := []Plan{l.Plan("", 1, 5000, 3)}
		n, settled := 0, map[int]State{}
		names := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"})
		both := func(f func(*Ledger) error) {
			if err := errors.Join(f(l), f(twin)); err != nil && !errors.Is(err, ErrUnknown) {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"share": func(t *rapid.T) {
				name, w := names.Draw(t, "name"), rapid.Uint64Range(1, MaxWeight).Draw(t, "weight")
				both(func(l *Ledger) error { l.Share(name, w); return nil })
			},
			"network": func(t *rapid.T) {
				w := rapid.Uint64().Draw(t, "hashes")
				both(func(l *Ledger) error { l.SetNetwork(*hashes(w)); return nil })
			},
			"plan": func(t *rapid.T) {
				finder, reward := names.Draw(t, "finder"), rapid.Int64Range(0, 1e12).Draw(t, "reward")
				height, outputs := uint32(rapid.IntRange(1, 9).Draw(t, "height")), rapid.IntRange(0, 4).Draw(t, "outputs")
				p := l.Plan(finder, height, reward, outputs)
				checkPlan(t, l, &p, outputs)
				plans = append(plans, p)
			},
			"found": func(t *rapid.T) {
				p := rapid.SampledFrom(plans).Draw(t, "plan")
				n++
				both(func(l *Ledger) error {
					_, err := l.Found(Found{ID: id(n), Height: p.Height, Reward: p.Reward, Note: p.Note()})
					return err
				})
			},
			"settle": func(t *rapid.T) {
				if n == 0 {
					return
				}
				k, s := rapid.IntRange(1, n).Draw(t, "block"), State(rapid.IntRange(0, int(states)-1).Draw(t, "state"))
				settled[k] = s
				both(func(l *Ledger) error { _, err := l.Settle(id(k), s); return err })
			},
			"rules": func(t *rapid.T) {
				r := drawRules(t)
				both(func(l *Ledger) error { return l.SetRules(r) })
			},
			"restart": func(t *rapid.T) {
				r := canon.NewReader(l.AppendState(nil))
				again, err := ReadState(r, limits)
				if err := errors.Join(err, r.Done()); err != nil {
					t.Fatal(err)
				}
				l = again
			},
			"": func(t *rapid.T) {
				if err := l.Check(); err != nil {
					t.Fatal(err)
				}
				if string(l.AppendState(nil)) != string(twin.AppendState(nil)) {
					t.Fatal("the same events make another ledger")
				}
				checkStanding(t, l, n, settled)
			},
		})
	})
}

func drawRules(t *rapid.T) Rules {
	return Rules{
		Mode: Mode(rapid.IntRange(0, int(modes)-1).Draw(t, "mode")), Fee: rapid.Int64Range(0, MaxFee).Draw(t, "fee"),
		Factor: rapid.Uint64Range(1, MaxFactor).Draw(t, "factor"), MinPayout: rapid.Int64Range(0, 1e12).Draw(t, "minimum"),
	}
}

// checkPlan: credits and fee are the reward, payments are within it and within
// what is due, and the note says the same.
func checkPlan(t *rapid.T, l *Ledger, p *Plan, outputs int) {
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	if q, err := ParseNote(p.Note()); err != nil || diff(*p, q) != "" {
		t.Fatalf("the note says another thing: %v %s", err, diff(*p, q))
	}
	if len(p.Payments) > outputs {
		t.Fatalf("%d payments of at most %d", len(p.Payments), outputs)
	}
	mine := credits(p)
	for _, pay := range p.Payments {
		balance := mine[pay.Account]
		if a := l.accounts[pay.Account]; a != nil {
			balance += a.balance()
		}
		if pay.Amount > balance || pay.Amount < l.rules.MinPayout {
			t.Fatalf("%q is paid %d of %d", pay.Account, pay.Amount, balance)
		}
	}
}

// checkStanding: the rewards are those of the blocks that stand.
func checkStanding(t *rapid.T, l *Ledger, n int, settled map[int]State) {
	r := l.Report()
	if r.PastBlocks+r.PastOrphans > 0 {
		return // what came of folded blocks later is not booked
	}
	var want int64
	for _, b := range r.Blocks {
		for k := 1; k <= n; k++ {
			if b.ID == id(k) && settled[k].Stands() {
				want += b.Reward
			}
		}
	}
	if r.Rewards != want || len(r.Blocks) != n {
		t.Fatalf("rewards of %d in %d blocks, want %d in %d", r.Rewards, len(r.Blocks), want, n)
	}
}

// TestNoteGolden pins the format down.
func TestNoteGolden(t *testing.T) {
	l := newLedger(t, Rules{Mode: Proportional, Fee: 100})
	l.Share("bob", 3)
	l.Share("alice", 0x1234)
	p := l.Plan("", 300, 5_000_000_000, 1)
	const want = "0102ac0280e497d01280e1eb170300000005616c696365fbd2e9b61202123403626f6285b0c20101030105616c696365fbd2e9b612" // calculated by hand
	if got := fmt.Sprintf("%x", p.Note()); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}

func FuzzNote(f *testing.F) {
	l := newLedger(f, Rules{Mode: PPLNS, Fee: 100})
	l.Share("bob", 3)
	l.Share("alice", 4)
	p := l.Plan("", 300, 5_000_000_000, 1)
	f.Add(p.Note())
	f.Fuzz(func(t *testing.T, note []byte) {
		p, err := ParseNote(note)
		if err != nil {
			return
		}
		if string(p.Note()) != string(note) {
			t.Fatal("a note with two forms")
		}
		l := newLedger(t, Rules{Mode: Proportional})
		find(t, l, 1, p)
		for _, s := range []State{Accepted, Orphaned, Confirmed} {
			settle(t, l, 1, s)
			if err := l.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzState: whatever is read as a ledger writes the same bytes again.
func FuzzState(f *testing.F) {
	l := newLedger(f, Rules{Mode: Proportional, Fee: 100})
	l.SetNetwork(*hashes(1000))
	for i := range 40 {
		l.Share([]string{"", "a", "b"}[i%3], uint64(10*i+1))
	}
	find(f, l, 1, l.Plan("", 3, 1000, 2))
	settle(f, l, 1, Accepted)
	f.Add(l.AppendState(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := canon.NewReader(b)
		l, err := ReadState(r, Limits{})
		if err != nil || r.Len() > 0 {
			return
		}
		l.Share("a", 5)
		l.Plan("", 9, 1000, 3)
	})
}

func diff(want, got any) string { return cmp.Diff(want, got) }

func hashes(n uint64) *uint256.Int { return uint256.NewInt(n) }
