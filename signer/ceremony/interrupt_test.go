package ceremony_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// TestPlantedKey: what somebody puts into a token during an interruption is not
// taken for the ceremony's own.
func TestPlantedKey(t *testing.T) {
	s := newStage(t, oneValidator(t))
	initialise := ceremony.Steps(s.script)[2]
	refused := ceremony.Answers{"*": ceremony.AsShown, initialise.ID: "no"}
	if err := ceremony.New(s.config(ceremony.Run, refused)).Run(t.Context()); !errors.Is(err, ceremony.ErrRefused) {
		t.Fatal(err)
	}
	w := softHSM(t, s.tokens)
	token, err := w.FindToken(t.Context(), "validator-0", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Login(t.Context(), token.TokenRef, []byte("pin-alidator-0-false")); err != nil {
		t.Fatal(err)
	}
	if _, err := ceremony.NewKey(t.Context(), w, token.TokenRef, worker.Secp256k1, "validator-0", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := ceremony.New(s.config(ceremony.Run, asShown)).Run(t.Context()); !errors.Is(err, ceremony.ErrTokenState) {
		t.Errorf("a planted key: %v", err)
	}
}

// TestTokenThatIsThere: a token that carries one of the labels beforehand.
func TestTokenThatIsThere(t *testing.T) {
	s := newStage(t, oneValidator(t))
	if _, err := ceremony.NewToken(t.Context(), softHSM(t, s.tokens), "validator-0", []byte("admin-pin"), []byte("user-pin")); err != nil {
		t.Fatal(err)
	}
	if err := ceremony.New(s.config(ceremony.Run, asShown)).Run(t.Context()); !errors.Is(err, ceremony.ErrTokenState) {
		t.Errorf("a token with the label: %v", err)
	}
}

// TestShortPIN: a user PIN that the token cannot take is refused before the token is
// changed, so that another can be chosen.
func TestShortPIN(t *testing.T) {
	for name, pin := range map[string]string{"short": "123", "long": strings.Repeat("1", 300)} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, oneValidator(t))
			cfg := s.config(ceremony.Run, asShown)
			good := cfg.PIN
			cfg.PIN = func(ctx context.Context, p ceremony.PINs) ([]byte, error) {
				if p.Admin {
					return good(ctx, p)
				}
				return []byte(pin), nil
			}
			if err := ceremony.New(cfg).Run(t.Context()); !errors.Is(err, worker.ErrPINInvalid) {
				t.Fatal(err)
			}
			s.run(t, ceremony.Run)
			s.verify(t)
		})
	}
}

// TestWorkerStillThere: as long as the worker of an interrupted run is in a call,
// no token is looked at.
func TestWorkerStillThere(t *testing.T) {
	s := newStage(t, oneValidator(t))
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "qcity-p11")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	linger := exec.Command(path) // until its input ends
	input, err := linger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := linger.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(linger.Process.Pid)
	if err := os.WriteFile(filepath.Join(s.dir, "softhsm2.worker"), []byte(pid+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err = ceremony.New(s.config(ceremony.Run, asShown)).Run(ended)
	if !errors.Is(err, ceremony.ErrTokenState) || !strings.Contains(err.Error(), pid) {
		t.Errorf("beside a worker at work: %v", err)
	}
	if err := errors.Join(input.Close(), linger.Wait()); err != nil {
		t.Fatal(err)
	}
	s.run(t, ceremony.Run)
	s.verify(t)
}
