package conformance_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/tokentest"
	"qcitycoin.org/qcity/signer/worker"
)

// TestInterruptedProbe: a Ctrl-C, which reaches both processes, ends a probe between
// two calls to the token, and nothing that it made is left there.
func TestInterruptedProbe(t *testing.T) {
	d := tokentest.SoftHSM(t)
	r := on(d)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last int
	_, err := r.Probe(ctx, conformance.Options{Label: d.Label, PIN: []byte(tokentest.UserPIN), Scratch: true, Progress: func(o conformance.Outcome) {
		if last = o.Number; o.Result == conformance.Fail {
			t.Errorf("%+v", o)
		}
		switch o.Number {
		case 508: // the key is there
			for _, pid := range children(t) {
				if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
					t.Error(err)
				}
			}
		case 510:
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || last < 510 || last > 529 {
		t.Errorf("the probe ended with %v, after case %d", err, last)
	}
	w, err := worker.New(worker.Config{Binary: binary, Module: d.Module, Env: d.Env, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	token, err := w.FindToken(t.Context(), d.Label, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Login(t.Context(), token.TokenRef, []byte(tokentest.UserPIN)); err != nil {
		t.Fatal(err)
	}
	if keys, err := w.ListKeys(t.Context(), token.TokenRef); err != nil || len(keys) > 0 {
		t.Errorf("%d keys are left: %v", len(keys), err)
	}
}

// children finds the probing processes of this one.
func children(t *testing.T) (pids []int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // ended
		}
		if f := strings.Fields(string(text)); len(f) > 3 && f[1] == "(qcity-p11)" && f[3] == strconv.Itoa(os.Getpid()) {
			pid, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}
