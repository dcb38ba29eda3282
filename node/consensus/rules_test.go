package consensus_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// The numbers of the test network are written out here a second time, as a
// changed constant or parameter must fail a test.
const (
	testSlotOpen  = 120
	testSlotClose = 600
	testRankStep  = 20
	testMaturity  = 10
	testMaxBytes  = 100_000
	testMaxSigOps = 200
	testMaxData   = 80
	testFuture    = 60
	testSubsidy   = 50 * 100_000_000
	testMaxMoney  = 2_100_000_000 * 100_000_000
)

// kind is one of the three blocks that can follow a fixture's tip.
type kind int

const (
	mined kind = iota
	signed
	fallback
	voted // signed, on a chain that carries records, and carrying some itself
)

// fixture is a chain with a valid block of each kind that may come next. Every
// block holds two payments; a corruption changes a deep copy of it.
type fixture struct {
	*chaingen.Generator
	t                                  *testing.T
	matureHash, matureKey, matureMulti consensus.UTXO
	young                              consensus.UTXO // a coinbase one block short of maturity
	parent                             *chaingen.Node
	block                              *types.Block
	index                              uint8 // who signs a signed block: rank 1
}

func newFixture(t *testing.T, k kind) *fixture {
	t.Helper()
	f := &fixture{Generator: chaingen.New(t, chaingen.Params()), t: t}
	if k == voted {
		f.vote()
		return f
	}
	f.matureHash = f.Next("hash", chaingen.PayMinerTo(chaingen.PayToHash(1))).Reward()
	f.matureKey = f.Next("key", chaingen.PayMinerTo(chaingen.PayToKey(2))).Reward()
	f.matureMulti = f.Next("multi", chaingen.PayMinerTo(chaingen.PayToMultisig())).Reward()
	height := 15
	if k != mined {
		height = 19
	}
	f.Fill("a", height-3)
	f.parent = f.Tip()
	f.young = f.Node("a" + strconv.Itoa(height+1-testMaturity+1-3)).Reward()
	pay := f.Include(
		f.Spend([]consensus.UTXO{f.matureHash}, chaingen.Pay(49*types.Coin, chaingen.PayToHash(3)), chaingen.Pay(0, types.NullDataScript([]byte("note")))),
		f.Spend([]consensus.UTXO{f.matureKey}, chaingen.Pay(48*types.Coin, chaingen.PayToMultisig())),
	)
	f.index = f.parent.State.ValidatorOfRank(1)
	var node *chaingen.Node
	switch k {
	case mined:
		node = f.Next("valid", pay)
	case signed:
		node = f.NextSigned("valid", f.index, pay)
	case fallback:
		node = f.NextFallback("valid", pay)
	}
	if node.Err != nil {
		t.Fatalf("the block to corrupt is invalid itself: %v", node.Err)
	}
	f.SetTip(f.parent.Name)
	f.block = chaingen.Clone(node.Block)
	return f
}

// seal makes the Merkle root, then the nonce or the signature.
func (f *fixture) seal() {
	chaingen.FixMerkleRoot(f.block)
	f.sealHeader()
}

func (f *fixture) sealHeader() {
	if f.block.IsSigned() {
		f.Sign(f.block, f.block.VchBlockSig[0])
		return
	}
	f.Solve(f.block)
}

// add appends a transaction and seals the block.
func (f *fixture) add(tx *types.Transaction) {
	f.block.Transactions = append(f.block.Transactions, tx)
	f.seal()
}

func (f *fixture) connect() (consensus.State, consensus.Diff, error) {
	return consensus.Connect(&f.parent.State, f.block, f.CoinsFor(f.block))
}

// violation is one way to break one rule.
type violation struct {
	name    string
	rule    consensus.Rule
	kind    kind
	corrupt func(*fixture)
	// check replaces Connect where the rule is not part of it.
	check func(*fixture) error
}

func violations() []violation {
	return slices.Concat(headerViolations(), signedViolations(), blockViolations(), transactionViolations(),
		listViolations(), carriedCertificateViolations(), setChangeViolations(), evidenceViolations())
}

func TestRules(t *testing.T) {
	for _, v := range violations() {
		t.Run(string(v.rule)+"/"+v.name, func(t *testing.T) {
			f := newFixture(t, v.kind)
			v.corrupt(f)
			var err error
			if v.check != nil {
				err = v.check(f)
			} else {
				_, _, err = f.connect()
			}
			if !errors.Is(err, v.rule) {
				t.Fatalf("got %v, want rule %s", err, v.rule)
			}
			if rule, ok := consensus.RuleOf(err); !ok || rule != v.rule {
				t.Errorf("RuleOf says %q, %t", rule, ok)
			}
			if got, want := consensus.BlamesBlock(err), !innocent[v.rule]; got != want {
				t.Errorf("BlamesBlock is %t, want %t", got, want)
			}
			// A block that was stored after these two checks is never found
			// wrong later without proof that its id is bad.
			header, body := consensus.ValidateHeader(&f.parent.State, &f.block.SignedHeader), f.parent.State.CheckBlock(f.block)
			if v.check == nil && header == nil && body == nil && !consensus.BlamesBlock(err) {
				t.Errorf("%v shows only when the block is connected", err)
			}
		})
	}
}

// innocent are the rules that say nothing about the block's id: what they look
// at is not committed to by the 80 bytes of the header.
var innocent = map[consensus.Rule]bool{
	"prev-block": true, "time-future": true, "merkle-root": true, "merkle-mutated": true,
	"proof-of-work": true, "not-a-slot": true, "sig-format": true, "validator": true,
	"slot-nonce": true, "slot-early": true, "slot-late": true, "block-signature": true,
	"fallback-early": true, "coinonline-shape": true, "validator-disabled": true, "below-final": true, "twin-limit": true,
}

// elsewhere are rules of blocks that node/chain applies and tests.
var elsewhere = map[string]bool{"below-final": true, "twin-limit": true}

// declaredRules reads the names and texts of the constants of rules that only
// blocks can break. TestVoteRulesAreCompleteAndDocumented has those of votes,
// which certificates in blocks are held to as well.
func declaredRules(t *testing.T) map[string]string {
	t.Helper()
	rules := make(map[string]string)
	for name, least := range map[string]int{"rules.go": 30, "records.go": 4, "setchange.go": 4, "evidence.go": 4} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := rulesIn(t, file)
		if len(found) < least {
			t.Fatalf("only %d rules found in %s: this test reads it wrongly", len(found), name)
		}
		maps.Copy(rules, found)
	}
	return rules
}

// rulesIn returns the names and texts of a file's Rule constants.
func rulesIn(t *testing.T, file *ast.File) map[string]string {
	t.Helper()
	rules := make(map[string]string)
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			value := spec.(*ast.ValueSpec)
			if id, ok := value.Type.(*ast.Ident); !ok || id.Name != "Rule" {
				continue
			}
			text, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			rules[value.Names[0].Name] = text
		}
	}
	return rules
}

func TestEveryRuleHasAViolation(t *testing.T) {
	tested := make(map[string]bool)
	for _, v := range violations() {
		tested[string(v.rule)] = true
	}
	declared := declaredRules(t)
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		text := declared[name]
		if tested[text] == elsewhere[text] {
			t.Errorf("%s (%q) has no case in the tables of violations, or is said to be applied elsewhere", name, text)
		}
		if other, ok := seen[text]; ok {
			t.Errorf("%s and %s have the same text %q", name, other, text)
		}
		seen[text] = name
	}
}

func TestErrorsThatAreNoRuleBlameNobody(t *testing.T) {
	for _, err := range []error{nil, errors.New("disk is full"), types.ErrTruncated} {
		if rule, ok := consensus.RuleOf(err); ok {
			t.Errorf("%v reports rule %s", err, rule)
		}
		if consensus.BlamesBlock(err) {
			t.Errorf("%v blames the block", err)
		}
	}
}

func TestMaxMoneyLeavesRoomForAddition(t *testing.T) {
	if types.MaxMoney != testMaxMoney {
		t.Errorf("MaxMoney is %d", int64(types.MaxMoney))
	}
	if testMaxMoney > math.MaxInt64/2 {
		t.Error("two amounts may overflow")
	}
}
