package signer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

// softKey signs in this process, with a new random nonce each time: two
// signatures over one digest differ, as they do on a token.
type softKey struct {
	secret []byte // 32 bytes
	public types.PublicKey
}

func newSoftKey(a types.KeyAlgorithm, secret byte) softKey {
	k := softKey{secret: make([]byte, 32)}
	k.secret[0], k.secret[31] = 1, secret
	var point []byte
	if a == types.Secp256k1 {
		point = secp256k1.PrivKeyFromBytes(k.secret).PubKey().SerializeCompressed()
	} else {
		priv := k.p256()
		point = elliptic.MarshalCompressed(elliptic.P256(), priv.X, priv.Y)
	}
	var err error
	if k.public, err = types.NewPublicKey(a, point); err != nil {
		panic(err)
	}
	return k
}

func (k softKey) p256() *ecdsa.PrivateKey {
	priv, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.secret)
	if err != nil {
		panic(err)
	}
	return priv
}

func (k softKey) sign(digest [32]byte) (sig [64]byte) {
	if k.public.Algorithm == types.P256 {
		r, s, err := ecdsa.Sign(rand.Reader, k.p256(), digest[:])
		if err != nil {
			panic(err)
		}
		n := elliptic.P256().Params().N
		if s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
			s.Sub(n, s)
		}
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return sig
	}
	return k.signSecp256k1(digest)
}

// signSecp256k1 is textbook ECDSA: the library's own would take its nonce from
// the digest, and hide a second signature.
func (k softKey) signSecp256k1(digest [32]byte) (sig [64]byte) {
	nonce, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		panic(err)
	}
	var r, s, z, d, inv secp256k1.ModNScalar
	r.SetByteSlice(nonce.PubKey().SerializeCompressed()[1:])
	z.SetByteSlice(digest[:])
	d.SetByteSlice(k.secret)
	inv.InverseValNonConst(&nonce.Key)
	s.Mul2(&r, &d).Add(&z).Mul(&inv)
	if s.IsOverHalfOrder() {
		s.Negate()
	}
	r.PutBytesUnchecked(sig[:32])
	s.PutBytesUnchecked(sig[32:])
	return sig
}

// softToken is a Token that fails on demand.
type softToken struct {
	mu    sync.Mutex
	keys  map[types.PublicKey]softKey
	ready error
	// before is asked before each signature; after changes what was signed.
	before func() error
	after  func([64]byte) [64]byte
	// observe is told what is about to be signed.
	observe func(types.PublicKey, types.Hash) error
	signed  int
}

func newSoftToken(keys ...softKey) *softToken {
	t := &softToken{keys: make(map[types.PublicKey]softKey)}
	for _, k := range keys {
		t.keys[k.public] = k
	}
	return t
}

func (t *softToken) Ready(types.PublicKey) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready
}

func (t *softToken) Reset(context.Context) error { return nil }

func (t *softToken) Sign(ctx context.Context, key types.PublicKey, digest [32]byte) ([64]byte, error) {
	t.mu.Lock()
	before, after := t.before, t.after
	t.mu.Unlock()
	if before != nil {
		if err := before(); err != nil {
			return [64]byte{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return [64]byte{}, err
	}
	k, ok := t.keys[key]
	if !ok {
		return [64]byte{}, errors.New("no such key")
	}
	if t.observe != nil {
		if err := t.observe(key, digest); err != nil {
			panic(err)
		}
	}
	sig := k.sign(digest)
	if after != nil {
		sig = after(sig)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.signed++
	return sig, nil
}

// memoryAudit is an Audit that keeps its end in one place, so that a block made
// twice is the same block.
type memoryAudit struct {
	mu      sync.Mutex
	entries []audit.Entry
	fails   error
}

var testHead = audit.Head{Seq: 1, Hash: types.Hash{0xad}}

func (a *memoryAudit) Append(e audit.Entry) (audit.Head, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fails != nil {
		return audit.Head{}, a.fails
	}
	a.entries = append(a.entries, e)
	return testHead, nil
}

func (a *memoryAudit) Head() audit.Head { return testHead }

func (a *memoryAudit) HashAt(seq uint64) (types.Hash, error) {
	if seq != testHead.Seq {
		return types.Hash{}, audit.ErrSequence
	}
	return testHead.Hash, nil
}

// last returns the newest entry.
func (a *memoryAudit) last() audit.Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.entries) == 0 {
		return audit.Entry{}
	}
	return a.entries[len(a.entries)-1]
}

const (
	testSlot  = 10
	testClose = 600
	testStep  = 20
	testAhead = 60
)

// testKeys are five validators, of both curves.
func testKeys() []softKey {
	var keys []softKey
	for i := range 5 {
		a := types.Secp256k1
		if i%2 == 1 {
			a = types.P256
		}
		keys = append(keys, newSoftKey(a, byte(i+1)))
	}
	return keys
}

func publics(keys []softKey) (list []types.PublicKey) {
	for _, k := range keys {
		list = append(list, k.public)
	}
	return list
}

func testNetwork(tb testing.TB, name string, validators []types.PublicKey) *consensus.Network {
	tb.Helper()
	n, err := consensus.NewNetwork(testParams(name, validators))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func testParams(name string, validators []types.PublicKey) consensus.Params {
	return consensus.Params{
		Name: name, Magic: 1, GenesisTime: 1_700_000_000, GenesisBits: 0x207fffff, PowLimitBits: 0x207fffff,
		N: testSlot, IntervalSeconds: 60, HalfLifeSeconds: 7200,
		SlotOpenSeconds: 120, SlotCloseSeconds: testClose, RankStepSeconds: testStep, FutureLimitSeconds: testAhead,
		Subsidy: 50 * types.Coin, HalvingInterval: 1000, CoinbaseMaturity: 100,
		MaxBlockBytes: 1_000_000, MaxSigOps: 20_000, MaxDataBytes: 1024,
		Addresses:  types.AddressVersions{PubKeyHash: 1, ScriptHash: 2, PrivateKey: 3},
		Validators: validators,
	}
}

// proposal returns a valid proposal for a slot by validator index, whose
// parent has the given time. salt makes different blocks.
func proposal(n *consensus.Network, height uint32, index uint8, parentTime uint32, salt byte) *consensus.Proposal {
	return proposalUnder(n, firstSet(n), height, index, parentTime, salt)
}

func firstSet(n *consensus.Network) consensus.ValidatorSet {
	return consensus.ValidatorSet{Keys: n.Validators}
}

func proposalUnder(n *consensus.Network, set consensus.ValidatorSet, height uint32, index uint8, parentTime uint32, salt byte) *consensus.Proposal {
	p := &consensus.Proposal{Height: height, Set: set, Index: index}
	p.Parent = types.Header{Version: 1, MerkleRoot: types.Hash{salt}, Time: parentTime, Bits: 0x207fffff}
	work(&p.Parent)
	parent := consensus.State{
		Network: n, Height: height - 1, ID: p.Parent.ID(), Time: parentTime,
		Authority: &consensus.Authority{Signers: set},
	}
	from, _ := parent.SignedWindow(index)
	p.CoinOnline = &types.Transaction{
		Version: 1,
		Inputs: []types.TxIn{{
			Previous: types.NullOutPoint, Sequence: 0xffffffff,
			SignatureScript: append(types.HeightScript(height), 1, salt),
		}},
		Outputs: []types.TxOut{{}, {Value: 7, PkScript: types.KeyScript(set.Keys[index])}, anchorOutput(testHead)},
	}
	p.Branch = []types.Hash{{1, salt}, {2}}
	p.Header = types.Header{
		Version: 1, PrevBlock: p.Parent.ID(), Time: from, Bits: parent.NextBits(),
		MerkleRoot: types.FoldBranch(p.CoinOnline.ID(), p.Branch),
	}
	return p
}

// anchorOutput is the third output of a CoinOnline that carries an audit anchor.
func anchorOutput(h audit.Head) types.TxOut {
	return types.TxOut{PkScript: types.NullDataScript(consensus.EncodeRecords([]consensus.Record{&consensus.AuditAnchor{Seq: h.Seq, Head: h.Hash}}))}
}

// work mines a header.
func work(h *types.Header) {
	target, err := types.CompactToTarget(h.Bits)
	if err != nil {
		panic(err)
	}
	for !types.HashMeets(h.ID(), &target) {
		h.Nonce++
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// bench is a service over software keys and a journal on a real disk.
type bench struct {
	network *consensus.Network
	keys    []softKey
	token   *softToken
	audit   *memoryAudit
	path    string
	journal *Journal
	service *Service
	now     time.Time
	limit   RateLimit
	link    *testLink // nil: the server is reached by its socket
}

const parentTime = 1_700_100_000

func newBench(tb testing.TB) *bench { return newBenchIn(tb, tb.TempDir()) }

func newBenchIn(tb testing.TB, dir string) *bench {
	tb.Helper()
	b := &bench{keys: testKeys(), path: dir + "/journal", limit: RateLimit{1e6, 1e6}}
	b.network = testNetwork(tb, "signertest", publics(b.keys))
	b.token = newSoftToken(b.keys...)
	b.now = time.Unix(parentTime+100, 0)
	if err := CreateJournal(b.path, b.network.ID, publics(b.keys), 0); err != nil {
		tb.Fatal(err)
	}
	b.open(tb, publics(b.keys))
	tb.Cleanup(func() { b.journal.Close() })
	return b
}

// open starts, or starts again, with these keys.
func (b *bench) open(tb testing.TB, keys []types.PublicKey) {
	tb.Helper()
	if b.journal != nil {
		if err := b.journal.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	var err error
	if b.journal, err = OpenJournal(b.path, b.network.ID, keys); err != nil {
		tb.Fatal(err)
	}
	b.audit = new(memoryAudit)
	b.service, err = NewService(ServiceConfig{
		Network: b.network, Journal: b.journal, Token: b.token, Audit: b.audit, Keys: keys,
		Limit: b.limit, Clock: func() time.Time { return b.now }, Log: quiet(),
	})
	if err == nil {
		err = b.service.Seen(tb.Context(), SeenRequest{})
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// resume has two people lift the halt that something wrong has led to.
func (b *bench) resume(tb testing.TB) {
	tb.Helper()
	for i, name := range []string{"alice", "bob"} {
		if done, err := b.service.Resume(tb.Context(), name); err != nil || done != (i == 1) {
			tb.Fatalf("%s resumes: %v, %v", name, done, err)
		}
	}
}

func (b *bench) proposal(height uint32, index uint8, salt byte) *consensus.Proposal {
	return proposal(b.network, height, index, parentTime, salt)
}

func (b *bench) sign(p *consensus.Proposal) (Response, error) {
	return b.service.SignSlot(context.Background(), NewRequest(p))
}

func (b *bench) mustSign(tb testing.TB, p *consensus.Proposal) Response {
	tb.Helper()
	r, err := b.sign(p)
	if err != nil {
		tb.Fatal(err)
	}
	b.checkSignature(tb, p, r)
	return r
}

func (b *bench) checkSignature(tb testing.TB, p *consensus.Proposal, r Response) {
	tb.Helper()
	sig, err := r.BlockSig()
	if err != nil {
		tb.Fatal(err)
	}
	key, ok := b.network.Key(p)
	if err := key.Verify(b.network.Digest(p), sig.Signature); err != nil || !ok || sig.Index != p.Index {
		tb.Fatalf("index %d, signature: %v", sig.Index, err)
	}
}

// wantRefused asks, and wants the rule to refuse without a look at the token, to be
// counted and to be in the audit log.
func (b *bench) wantRefused(tb testing.TB, rule Rule, ask func() (Response, error)) {
	tb.Helper()
	before := b.token.signed
	_, err := ask()
	wantRule(tb, err, rule)
	if n := b.service.Status(context.Background()).Refusals[rule]; n != 1 {
		tb.Fatalf("counted %d refusals by %s", n, rule)
	}
	if e := b.audit.last(); e.Event != audit.EventRefused || e.Rule != string(rule) || e.Detail == "" {
		tb.Fatalf("the audit log says %+v", e)
	}
	if b.token.signed != before {
		tb.Fatal("the token was asked although the request was refused")
	}
}

func wantRule(tb testing.TB, err error, want Rule) {
	tb.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Rule != want {
		tb.Fatalf("got %v, want a refusal by %s", err, want)
	}
}
