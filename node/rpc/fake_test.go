package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// genesisChain is a chain of one block, which has no use for votes.
type genesisChain struct {
	net  *consensus.Network
	vote error
}

func (c genesisChain) Network() *consensus.Network { return c.net }
func (c genesisChain) Tip() consensus.State        { return c.net.GenesisState() }

func (c genesisChain) State(id types.Hash) (consensus.State, bool, error) {
	return c.Tip(), id == c.net.ID, nil
}

func (c genesisChain) Header(id types.Hash) (types.SignedHeader, bool, error) {
	return c.net.Genesis().SignedHeader, id == c.net.ID, nil
}

func (c genesisChain) Block(id types.Hash) (*types.Block, bool, error) {
	return c.net.Genesis(), id == c.net.ID, nil
}

func (c genesisChain) BestID(height uint32) (types.Hash, bool, error) {
	return c.net.ID, height == 0, nil
}

func (c genesisChain) View([]types.OutPoint) (consensus.State, consensus.Coins, error) {
	return c.Tip(), nil, nil
}

func (c genesisChain) InvalidReason(types.Hash) (string, bool, error) { return "", false, nil }

func (c genesisChain) Standing() consensus.Standing {
	genesis := consensus.Checkpoint{ID: c.net.ID}
	return consensus.Standing{Tip: c.Tip(), Certified: genesis, Final: genesis}
}

func (genesisChain) Certificates() []consensus.Certificate { return nil }

func (c genesisChain) AddAttestation(consensus.Attestation) (bool, error) { return false, c.vote }

func (c genesisChain) AddCertificate(consensus.Certificate) (bool, error) { return false, c.vote }

func (c genesisChain) AddSetChange(*consensus.SetChange) error { return c.vote }

// emptyPool takes nothing, for a reason of its own or because inputs are missing.
type emptyPool struct{ err error }

func (p emptyPool) Add(tx *types.Transaction) (types.Hash, error) {
	e, err := p.Test(tx)
	return e.TxID, err
}

func (p emptyPool) Test(tx *types.Transaction) (PoolEntry, error) {
	if p.err != nil {
		return PoolEntry{TxID: tx.ID()}, p.err
	}
	return PoolEntry{TxID: tx.ID()}, &consensus.RuleError{Rule: consensus.RuleTxMissing, Detail: "input 0"}
}

func (emptyPool) Entry(types.Hash) (PoolEntry, bool)        { return PoolEntry{}, false }
func (emptyPool) Entries() []PoolEntry                      { return nil }
func (emptyPool) Spender(types.OutPoint) (types.Hash, bool) { return types.Hash{}, false }
func (emptyPool) MinFeeRate() int64                         { return 1000 }

// mining does what its functions do; nil ones answer as a node without work.
type mining struct {
	template func(ctx context.Context, longPollID string) (*Template, error)
	submit   func(*types.Block) (Submission, error)
	generate func(ctx context.Context) (types.Hash, error)
}

func (m *mining) BlockTemplate(ctx context.Context, longPollID string) (*Template, error) {
	if m.template == nil {
		return nil, ErrNoWork
	}
	return m.template(ctx, longPollID)
}

func (m *mining) SubmitBlock(b *types.Block) (Submission, error) {
	if m.submit == nil {
		return SubmitNoParent, nil
	}
	return m.submit(b)
}

func (m *mining) Generate(ctx context.Context, _ []byte) (types.Hash, error) {
	if m.generate == nil {
		return types.Hash{}, ErrNotForThisNetwork{"fake"}
	}
	return m.generate(ctx)
}

func (m *mining) HashRate() float64 { return 0 }

// faked is a server among fakes.
type faked struct {
	*Server
	mining *mining
	cookie string
}

func newFaked(t testing.TB) *faked {
	t.Helper()
	network, err := consensus.NewNetwork(chaingen.Params())
	if err != nil {
		t.Fatal(err)
	}
	m := new(mining)
	cfg := Config{CookieFile: filepath.Join(t.TempDir(), "cookie")}
	f := &faked{New(cfg, genesisChain{network, fmt.Errorf("%w: no block", ErrTooEarly)}, emptyPool{}, m, slog.New(slog.DiscardHandler)), m, ""}
	if err := f.writeCookie(); err != nil {
		t.Fatal(err)
	}
	f.readCookie(t)
	return f
}

func (f *faked) readCookie(t testing.TB) {
	t.Helper()
	cookie, err := os.ReadFile(f.cfg.CookieFile)
	if err != nil {
		t.Fatal(err)
	}
	f.cookie = string(cookie)
}

func (f *faked) request(ctx context.Context, body string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/", strings.NewReader(body))
	user, password, _ := strings.Cut(f.cookie, ":")
	r.SetBasicAuth(user, password)
	return r
}

// post hands a request to the handler.
func (f *faked) post(ctx context.Context, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, f.request(ctx, body))
	return w
}

var errDisk = errors.New("input/output error")
