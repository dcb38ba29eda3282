package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/faultmodule"
	"qcitycoin.org/qcity/signer/worker"
)

// faultBench is a Supervisor over the fault module over SoftHSM, logged in, with
// two keys, and with a budget that a matrix of faults does not use up.
type faultBench struct {
	*faultmodule.Control
	s    *worker.Supervisor
	keys [2]worker.KeyRef
}

func newFaultBench(t *testing.T, change func(*worker.Config)) *faultBench {
	t.Helper()
	ctx := context.Background()
	b := newBench(t)
	f := &faultBench{Control: faultmodule.NewControl(t, softHSM(t))}
	b.cfg.Module = faultmodule.Build(t)
	b.cfg.Env = append(b.cfg.Env, f.Env()...)
	b.cfg.Budget = worker.Budget{Restarts: 1 << 20}
	if change != nil {
		change(&b.cfg)
	}
	f.s = b.start(t)
	f.keys[0] = makeKey(t, f.s, "validator", worker.Secp256k1)
	other := must[worker.Key](t)(f.s.GenerateKey(ctx, f.keys[0].Token, worker.Secp256k1, "other", []byte{2}))
	f.keys[1] = worker.KeyRef{Token: f.keys[0].Token, Algorithm: other.Algorithm, PublicKey: other.PublicKey}
	return f
}

// recovered takes the fault away, does what an operator would do, and signs.
func (f *faultBench) recovered(t *testing.T, after string) {
	t.Helper()
	ctx := context.Background()
	f.Clear()
	if err := f.s.Reset(ctx); err != nil {
		t.Fatalf("after %s: %v", after, err)
	}
	// A PIN that was refused needs a person; otherwise this does nothing.
	if err := f.s.Login(ctx, f.keys[0].Token, []byte(userPIN)); err != nil {
		t.Fatalf("after %s: login: %v", after, err)
	}
	d := digest(after)
	sig, err := f.s.Sign(ctx, f.keys[0], d)
	if err != nil {
		t.Fatalf("after %s: signing does not work again: %v", after, err)
	}
	checkSignature(t, f.keys[0], d, sig)
}

// standardCodes are all codes with a name, and one each that has none.
func standardCodes() []worker.RV {
	codes := []worker.RV{0x777, 0x80000123}
	for rv := worker.RV(1); rv < 0x400; rv++ {
		if strings.HasPrefix(rv.String(), "CKR_") {
			codes = append(codes, rv)
		}
	}
	return codes
}

// TestEveryCodeOfSixFunctions: every code of the standard at each of six functions, through
// supervisor, worker and SoftHSM. Whatever comes out is a good signature or an
// error; a code whose class promises recovery does no harm, and one that is for
// a person comes through with its name; afterwards signing works.
func TestEveryCodeOfSixFunctions(t *testing.T) {
	codes := standardCodes()
	if len(codes) < 90 {
		t.Fatalf("only %d codes have a name", len(codes))
	}
	for _, tc := range []struct {
		function string
		starts   bool // called only by a new worker
	}{
		{"C_Initialize", true},
		{"C_OpenSession", true},
		{"C_Login", true},
		{"C_FindObjectsInit", false},
		{"C_SignInit", false},
		{"C_Sign", false},
	} {
		t.Run(tc.function, func(t *testing.T) {
			t.Parallel()
			f := newFaultBench(t, nil)
			for _, rv := range codes {
				f.try(t, tc.function, rv, tc.starts)
			}
			t.Logf("%d codes, %d workers", len(codes), f.s.Status().Generation)
		})
	}
}

func (f *faultBench) try(t *testing.T, function string, rv worker.RV, starts bool) {
	t.Helper()
	ctx := context.Background()
	name := fmt.Sprintf("%s from %s", rv, function)
	if starts || function == "C_FindObjectsInit" {
		// A new worker has to start, or to look its keys up again.
		killWorker(t, f.s)
	}
	before := f.Faults(function)
	f.Order(function, 1, faultmodule.Return(rv))
	d := digest(name)
	sig, err := f.s.Sign(ctx, f.keys[0], d)
	if f.Faults(function) != before+1 {
		t.Errorf("%s: the fault happened %d times", name, f.Faults(function)-before)
	}
	switch {
	case err == nil && rv.Class() == worker.ClassStop:
		t.Errorf("%s is for a person, but was passed over", name)
	case err == nil:
		checkSignature(t, f.keys[0], d, sig)
	case sig != worker.Signature{}:
		t.Errorf("%s: an error came with a signature", name)
	case rv.Class() != worker.ClassStop:
		t.Errorf("%s is of class %q, but signing ended with: %v", name, rv.Class(), err)
	default:
		var e *worker.Error
		if !errors.As(err, &e) || e.RV != rv && !strings.Contains(err.Error(), rv.String()) {
			t.Errorf("%s: the error does not name the code: %v", name, err)
		}
	}
	f.recovered(t, name)
}

// TestSpoiltSignatures: nothing of what a token can do to a signature gets out,
// and each of it stops signing until a person has looked.
func TestSpoiltSignatures(t *testing.T) {
	f := newFaultBench(t, nil)
	spoilt := map[string]faultmodule.Action{
		"zeros": faultmodule.Zero, "r and s exchanged": faultmodule.Swap,
		"63 bytes": faultmodule.Truncate(63), "half": faultmodule.Truncate(32), "nothing": faultmodule.Truncate(0),
		"success without work": faultmodule.Return(worker.RVOK),
	}
	for bit := 0; bit < 512; bit += 37 {
		spoilt[fmt.Sprintf("bit %d", bit)] = faultmodule.Flip(bit)
	}
	for name, action := range spoilt {
		f.Order("C_Sign", 1, action)
		before := f.Calls("C_Sign")
		for range 2 { // the second call must not reach the token
			if sig, err := f.s.Sign(t.Context(), f.keys[0], digest(name)); !errors.Is(err, worker.ErrBadSignature) || sig != (worker.Signature{}) {
				t.Errorf("%s: got %x, %v; want %s", name, sig, err, worker.ErrBadSignature)
			}
		}
		if n := f.Calls("C_Sign") - before; n != 1 {
			t.Errorf("%s: %d calls reached the token, want 1", name, n)
		}
		if f.s.Status().Halted == "" {
			t.Errorf("%s: signing was not halted", name)
		}
		f.recovered(t, name)
	}
}

// TestStaleHandle: a handle that now means another key signs without an error;
// the signature is refused.
func TestStaleHandle(t *testing.T) {
	f := newFaultBench(t, nil)
	killWorker(t, f.s)
	must[worker.Signature](t)(f.s.Sign(t.Context(), f.keys[0], digest("first")))
	f.Order("C_SignInit", 1, faultmodule.Stale)
	if sig, err := f.s.Sign(t.Context(), f.keys[1], digest("second")); !errors.Is(err, worker.ErrBadSignature) || sig != (worker.Signature{}) {
		t.Errorf("got %x, %v; want %s", sig, err, worker.ErrBadSignature)
	}
	f.recovered(t, "a stale key handle")
}

// TestFailAfterWork: a call that did its work and then reports failure is made
// again with the same digest; what comes out is good.
func TestFailAfterWork(t *testing.T) {
	f := newFaultBench(t, nil)
	for _, function := range []string{"C_SignInit", "C_Sign"} {
		for _, rv := range []worker.RV{worker.RVDeviceError, worker.RVKeyHandleInvalid, 0xb3} {
			name := fmt.Sprintf("%s after %s", rv, function)
			f.Order(function, 1, faultmodule.FailAfter(rv))
			d := digest(name)
			sig, err := f.s.Sign(t.Context(), f.keys[0], d)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				checkSignature(t, f.keys[0], d, sig)
			}
			f.recovered(t, name)
		}
	}
}

// TestCrashesAndHangs: a library that dies or never returns costs its worker,
// not the supervisor, and a signature is made by the next worker.
func TestCrashesAndHangs(t *testing.T) {
	for _, function := range []string{"C_FindObjectsInit", "C_SignInit", "C_Sign"} {
		for name, action := range map[string]faultmodule.Action{"segfault": faultmodule.Segfault, "abort": faultmodule.Abort, "hang": faultmodule.Hang} {
			t.Run(function+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFaultBench(t, func(c *worker.Config) {
					if name == "hang" {
						c.Timeouts.Call = time.Second // as a rule it is enough; a slow call only costs another worker
					}
				})
				if function == "C_FindObjectsInit" {
					killWorker(t, f.s)
				}
				was := f.s.Status().Generation
				f.Order(function, 1, action)
				d := digest(function, name)
				sig, err := f.s.Sign(t.Context(), f.keys[0], d)
				if err != nil {
					t.Fatal(err)
				}
				checkSignature(t, f.keys[0], d, sig)
				if f.Faults(function) != 1 {
					t.Errorf("the fault happened %d times", f.Faults(function))
				}
				if f.s.Status().Generation == was {
					t.Error("the worker was not replaced")
				}
				f.recovered(t, name)
			})
		}
	}
}

// TestHangCutOff: with the deadline of an ordinary configuration a hung call is
// given up by the deadline itself: the worker it hangs in is gone afterwards.
func TestHangCutOff(t *testing.T) {
	f := newFaultBench(t, func(c *worker.Config) { c.Timeouts.Call = 300 * time.Millisecond })
	must[worker.Signature](t)(f.s.Sign(t.Context(), f.keys[0], digest(0)))
	pid := f.s.Status().PID
	f.Always("C_Sign", faultmodule.Hang)
	if _, err := f.s.Sign(t.Context(), f.keys[0], digest(1)); !errors.Is(err, worker.ErrDeadline) {
		t.Fatalf("got %v, want %s", err, worker.ErrDeadline)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("worker %d is still there: %v", pid, err)
	}
	f.recovered(t, "hang")
}
