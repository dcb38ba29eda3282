package signer

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// TestWatch pulls a token while nobody signs, and puts it back.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, tk := fakeTokens(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		if err := tk.prepare(ctx); err != nil {
			t.Fatal(err)
		}
		go func() { tk.watch(ctx); close(done) }()
		ready := func() error { synctest.Wait(); return tk.Ready(f.key.public) }
		pass := func(d time.Duration) { <-time.After(d); synctest.Wait() }

		pass(10 * checkEvery)
		if err := ready(); err != nil || f.logins != 1 {
			t.Fatalf("a quiet time: %v, %d logins", err, f.logins)
		}
		f.set(true, fault(worker.ErrTokenNotFound))
		pass(checkEvery)
		if ready() == nil {
			t.Fatal("nobody noticed that the token went away")
		}
		pass(time.Hour)
		f.set(false, nil)
		pass(shortestLook)
		if err := ready(); err != nil {
			t.Fatalf("%s after its return: %v", shortestLook, err)
		}
		// A signature that fails is looked into at once.
		f.sign = fault(worker.ErrDown)
		if _, err := tk.Sign(ctx, f.key.public, [32]byte{}); !errors.Is(err, worker.ErrDown) {
			t.Fatal(err)
		}
		if err := ready(); err != nil {
			t.Fatalf("not looked after at once: %v", err)
		}
		// A key that needs a person is left alone.
		f.sign = fault(worker.ErrBadSignature)
		_, _ = tk.Sign(ctx, f.key.public, [32]byte{})
		logins := f.logins
		pass(time.Hour)
		if err := ready(); !IsTerminal(err) || f.logins != logins {
			t.Fatalf("%v, %d logins more", err, f.logins-logins)
		}
		cancel()
		<-done
	})
}

// TestSlowLooks: where a look takes long there are few of them.
func TestSlowLooks(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: shortestLook, 20 * time.Millisecond: shortestLook, 400 * time.Millisecond: 2 * time.Second, time.Minute: longestLook,
	} {
		if got := pauseAfter(took); got != want {
			t.Errorf("after %s: %s, want %s", took, got, want)
		}
	}
}

// TestSoftHSMTokensComeBack: tokens are pulled from a running signer and put
// back; it signs again by itself, with both curves.
func TestSoftHSMTokensComeBack(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1, types.P256)
	v.found(t)
	b := &bench{network: v.network}
	c, stop := v.start(t)
	defer stop()
	for round := range uint32(2) {
		for i := range uint8(2) {
			p := v.proposal((4*round+uint32(i)+1)*testSlot, i, 1)
			b.checkSignature(t, p, need[Response](t)(c.SignSlot(patience(t), NewRequest(p))))
		}
		v.pull(t)
		p := v.proposal((4*round+3)*testSlot, 0, 1)
		if _, err := c.SignSlot(patience(t), NewRequest(p)); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("without a token: %v", err)
		}
		v.putBack(t)
		b.checkSignature(t, p, v.signWhenReady(t, c, NewRequest(p)))
	}
}

func (v *vault) pull(tb testing.TB) {
	tb.Helper()
	if err := os.Rename(v.dir+"/tokens", v.dir+"/away"); err != nil {
		tb.Fatal(err)
	}
}

func (v *vault) putBack(tb testing.TB) {
	tb.Helper()
	if err := os.Rename(v.dir+"/away", v.dir+"/tokens"); err != nil {
		tb.Fatal(err)
	}
}

// signWhenReady asks until it gets a signature, as the node does.
func (v *vault) signWhenReady(tb testing.TB, c *Client, r Request) Response {
	tb.Helper()
	ctx := patience(tb)
	for {
		resp, err := c.SignSlot(ctx, r)
		if err == nil {
			return resp
		}
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkTokenReturns measures from the token's return to the next signature.
func BenchmarkTokenReturns(b *testing.B) {
	v := newVault(b)
	v.generate(b, types.Secp256k1)
	v.found(b)
	c, stop := v.start(b)
	defer stop()
	var took []time.Duration
	height := uint32(0)
	for b.Loop() {
		b.StopTimer()
		v.pull(b)
		height += testSlot
		r := NewRequest(v.proposal(height, 0, 1))
		if _, err := c.SignSlot(context.Background(), r); !errors.Is(err, ErrUnavailable) {
			b.Fatal(err)
		}
		<-time.After(time.Duration(height%17) * 37 * time.Millisecond) // at no particular moment
		v.putBack(b)
		b.StartTimer()
		began := time.Now()
		for {
			if _, err := c.SignSlot(context.Background(), r); err == nil {
				break
			}
			<-time.After(5 * time.Millisecond) // so as not to measure the asking
		}
		took = append(took, time.Since(began))
	}
	reportPercentiles(b, took)
}
