package simnet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// hsm is a signer.Token over SoftHSM2 tokens with a key in each, through the
// worker process that ships. What it does happens outside of every bubble:
// virtual time stands still meanwhile.
type hsm struct {
	keys []types.PublicKey

	mu   sync.Mutex // one call at a time
	refs map[types.PublicKey]worker.KeyRef
	ask  chan order
	got  chan answer
}

type order struct {
	key    worker.KeyRef
	digest [32]byte
}

type answer struct {
	sig [64]byte
	err error
}

// newHSM makes tokens with keys of alternating curves. It is called outside of
// bubbles.
func newHSM(t *testing.T, tokens int) *hsm {
	t.Helper()
	h := &hsm{refs: make(map[types.PublicKey]worker.KeyRef), ask: make(chan order), got: make(chan answer)}
	sup := softHSM(t)
	for i := range tokens {
		if err := h.generate(t.Context(), sup, i); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for o := range h.ask {
			sig, err := sup.Sign(context.Background(), o.key, o.digest)
			h.got <- answer{sig, err}
		}
	})
	t.Cleanup(func() {
		close(h.ask)
		wg.Wait()
		if err := sup.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// softHSM starts the worker on a SoftHSM of its own.
func softHSM(t *testing.T) *worker.Supervisor {
	t.Helper()
	dir := t.TempDir()
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "qcity-p11")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "qcitycoin.org/qcity/cmd/qcity-p11")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build qcity-p11: %v\n%s", err, out)
	}
	tokens, conf := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf")
	if err := errors.Join(os.Mkdir(tokens, 0o700), os.WriteFile(conf, []byte(worker.SoftHSMConf(tokens)), 0o600)); err != nil {
		t.Fatal(err)
	}
	sup, err := worker.New(worker.Config{
		Binary: binary, Module: module, Env: []string{"SOFTHSM2_CONF=" + conf}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return sup
}

func (h *hsm) generate(ctx context.Context, sup *worker.Supervisor, i int) error {
	label, pin := fmt.Sprintf("validator-%d", i), []byte("1234-user")
	info, err := sup.InitToken(ctx, label, []byte("1234-officer"), pin)
	if err != nil {
		return err
	}
	if err := sup.Login(ctx, info.TokenRef, pin); err != nil {
		return err
	}
	algorithm := types.Secp256k1
	if i%2 == 1 {
		algorithm = types.P256
	}
	key, err := sup.GenerateKey(ctx, info.TokenRef, worker.Algorithm(algorithm), label, []byte{1})
	if err != nil {
		return err
	}
	public, err := types.NewPublicKey(algorithm, key.PublicKey[:])
	h.keys = append(h.keys, public)
	h.refs[public] = worker.KeyRef{Token: info.TokenRef, Algorithm: key.Algorithm, PublicKey: key.PublicKey}
	return err
}

// Ready implements signer.Token.
// Reset is for workers; there is none here.
func (h *hsm) Reset(context.Context) error { return nil }

func (h *hsm) Ready(key types.PublicKey) error {
	if _, ok := h.refs[key]; !ok {
		return fmt.Errorf("%s is in none of the tokens", key)
	}
	return nil
}

// Sign implements signer.Token.
func (h *hsm) Sign(_ context.Context, key types.PublicKey, digest [32]byte) ([64]byte, error) {
	if err := h.Ready(key); err != nil {
		return [64]byte{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ask <- order{h.refs[key], digest}
	a := <-h.got
	return a.sig, a.err
}

// must signs for a test.
func (h *hsm) must(t *testing.T, key types.PublicKey, digest types.Hash) [64]byte {
	t.Helper()
	sig, err := h.Sign(t.Context(), key, digest)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}
