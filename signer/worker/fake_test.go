package worker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// fakeMain is a worker that answers OpOpen properly and then breaks the
// protocol in one way. It never produces a signature.
func fakeMain(fault string) int {
	socket := os.NewFile(worker.SocketFD, "socket")
	for {
		req, err := worker.ReadRequest(socket)
		if err != nil {
			return 0
		}
		resp := &worker.Response{ID: req.ID}
		if req.Op == worker.OpOpen {
			resp.Module = &worker.ModuleInfo{Description: "fake"}
			if fault == "silent open" {
				resp.Module = nil
			}
			if err := worker.WriteResponse(socket, resp); err != nil {
				return 1
			}
			continue
		}
		switch fault {
		case "wrong id":
			resp.ID++
			err = worker.WriteResponse(socket, resp)
		case "huge frame":
			err = binary.Write(socket, binary.LittleEndian, uint32(worker.MaxFrame+1))
		case "garbage":
			_, err = socket.WriteString("\x10\x00\x00\x00\x00\x00\x00\x00not json at all")
		case "half a frame":
			_, err = socket.WriteString("\x10\x00\x00\x00\x00\x00")
			if err == nil {
				return 0
			}
		case "exit":
			return 3
		case "silence":
		case "no key", "no signature":
			if fault == "no signature" && req.Op == worker.OpFindKey {
				resp.Key = &worker.Key{Algorithm: req.Key.Algorithm, PublicKey: req.Key.PublicKey}
			}
			err = worker.WriteResponse(socket, resp)
		case "another key each time":
			if req.Op == worker.OpFindKey {
				resp.Key = &worker.Key{Algorithm: req.Key.Algorithm, PublicKey: req.Key.PublicKey, Label: fmt.Sprint("made by ", os.Getpid())}
			}
			err = worker.WriteResponse(socket, resp)
		case "key off the curve":
			resp.Key = &worker.Key{Algorithm: worker.P256, PublicKey: worker.PublicKey{5}}
			err = worker.WriteResponse(socket, resp)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

func TestBrokenProtocol(t *testing.T) {
	for _, tc := range []struct {
		fault string
		want  worker.Kind
	}{
		{"silent open", worker.ErrProtocol},
		{"wrong id", worker.ErrProtocol},
		{"huge frame", worker.ErrLost},
		{"garbage", worker.ErrLost},
		{"half a frame", worker.ErrLost},
		{"exit", worker.ErrLost},
		{"silence", worker.ErrDeadline},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			patience := generous
			if tc.want == worker.ErrDeadline {
				patience = 300 * time.Millisecond
			}
			s := start(t, worker.Config{
				Binary:   must[string](t)(os.Executable()),
				Module:   "none",
				Env:      []string{envFake + "=" + tc.fault},
				Timeouts: worker.Timeouts{Call: patience},
				Log:      logger(t),
			})
			_, err := s.ListTokens(context.Background())
			if !errors.Is(err, tc.want) || worker.Classify(err) != worker.ClassRestart {
				t.Fatalf("got %v (%s), want %s", err, worker.Classify(err), tc.want)
			}
		})
	}
}

func TestWorthlessAnswers(t *testing.T) {
	ctx := context.Background()
	token := worker.TokenRef{Label: "fake", Serial: "1"}
	find := func(s *worker.Supervisor) error {
		_, err := s.FindKey(ctx, token, worker.KeyQuery{})
		return err
	}
	sign := func(s *worker.Supervisor) error {
		_, err := s.Sign(ctx, worker.KeyRef{Token: token, Algorithm: worker.Secp256k1, PublicKey: generator(t)}, digest(0))
		return err
	}
	for _, tc := range []struct {
		fault string
		call  func(*worker.Supervisor) error
		want  worker.Kind
	}{
		{"no key", find, worker.ErrProtocol},
		{"key off the curve", find, worker.ErrProtocol},
		{"no signature", sign, worker.ErrBadSignature},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			s := start(t, worker.Config{
				Binary: must[string](t)(os.Executable()),
				Module: "none",
				Env:    []string{envFake + "=" + tc.fault},
				Log:    logger(t),
			})
			if err := s.Login(ctx, token, []byte(userPIN)); err != nil {
				t.Fatal(err)
			}
			if err := tc.call(s); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// generator is the point every implementation of the curve knows.
func generator(t *testing.T) (k worker.PublicKey) {
	t.Helper()
	if err := k.UnmarshalText([]byte("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestChangedKey: what a new worker finds must be what was judged before, or
// nothing is signed until somebody has judged it again.
func TestChangedKey(t *testing.T) {
	ctx := context.Background()
	token := worker.TokenRef{Label: "fake", Serial: "1"}
	s := start(t, worker.Config{
		Binary: must[string](t)(os.Executable()),
		Module: "none",
		Env:    []string{envFake + "=another key each time"},
		Log:    logger(t),
	})
	if err := s.Login(ctx, token, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	ref := worker.KeyRef{Token: token, Algorithm: worker.Secp256k1, PublicKey: generator(t)}
	find := func() {
		t.Helper()
		must[worker.Key](t)(s.FindKey(ctx, token, worker.KeyQuery{Algorithm: ref.Algorithm, PublicKey: ref.PublicKey}))
	}
	find()
	killWorker(t, s)
	for range 2 {
		if _, err := s.Sign(ctx, ref, digest(0)); !errors.Is(err, worker.ErrKeyChanged) || worker.Classify(err) != worker.ClassStop {
			t.Fatalf("got %v, want %s", err, worker.ErrKeyChanged)
		}
	}
	find() // the fake has no signature to give, so that it is asked shows that it is trusted
	if _, err := s.Sign(ctx, ref, digest(0)); !errors.Is(err, worker.ErrBadSignature) {
		t.Fatalf("judged again: got %v, want %s", err, worker.ErrBadSignature)
	}
}
