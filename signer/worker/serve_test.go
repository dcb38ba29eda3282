package worker_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// TestServeEnds: how the worker's loop ends while a call is under way. In the
// bubble time only passes when nothing else can happen, so "within linger" and
// "at once" are exact.
func TestServeEnds(t *testing.T) {
	const linger = 10 * time.Second
	for _, tc := range []struct {
		name   string
		op     worker.Op
		takes  time.Duration // of the call; 0: it ended before
		end    func(net.Conn, context.CancelFunc)
		want   error
		waited time.Duration
	}{
		{"idle, closed", worker.OpSign, 0, closeConn, worker.ErrOrphaned, 0},
		{"idle, signal", worker.OpSign, 0, signalled, context.Canceled, 0},
		{"signing, closed", worker.OpSign, time.Hour, closeConn, worker.ErrOrphanedBusy, 0},
		{"signing, signal", worker.OpSign, time.Hour, signalled, context.Canceled, 0},
		{"login, closed", worker.OpLogin, 4 * time.Second, closeConn, worker.ErrOrphanedBusy, 4 * time.Second},
		{"login, signal", worker.OpLogin, 4 * time.Second, signalled, context.Canceled, 4 * time.Second},
		{"login that hangs, closed", worker.OpLogin, time.Hour, closeConn, worker.ErrOrphanedBusy, linger},
		{"key generation, closed", worker.OpGenerateKey, 4 * time.Second, closeConn, worker.ErrOrphanedBusy, 4 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := make(chan struct{}, 1)
				handle := func(req *worker.Request) *worker.Response {
					began <- struct{}{}
					<-time.After(tc.takes)
					return &worker.Response{}
				}
				result := make(chan error, 1)
				go func() { result <- worker.Serve(ctx, theirs, handle, linger) }()
				if err := worker.WriteRequest(ours, &worker.Request{ID: 7, Op: tc.op}); err != nil {
					t.Fatal(err)
				}
				<-began
				if tc.takes == 0 {
					if resp, err := worker.ReadResponse(ours); err != nil || resp.ID != 7 {
						t.Fatalf("got %+v, %v", resp, err)
					}
				}
				start := time.Now()
				tc.end(ours, cancel)
				if err := <-result; !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if waited := time.Since(start); waited != tc.waited {
					t.Errorf("waited %s, want %s", waited, tc.waited)
				}
				theirs.Close()
				ours.Close()
				<-time.After(tc.takes) // let the call end: a bubble leaves nothing behind
				synctest.Wait()
			})
		})
	}
}

func closeConn(c net.Conn, _ context.CancelFunc)      { c.Close() }
func signalled(_ net.Conn, cancel context.CancelFunc) { cancel() }

func TestServeRefusesPipelining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		handle := func(*worker.Request) *worker.Response {
			<-time.After(time.Minute)
			return &worker.Response{}
		}
		result := make(chan error, 1)
		go func() { result <- worker.Serve(t.Context(), theirs, handle, 0) }()
		for range 2 {
			if err := worker.WriteRequest(ours, &worker.Request{Op: worker.OpSign}); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-result; err == nil {
			t.Error("a second request before the answer was accepted")
		}
		<-time.After(time.Minute) // let the call end
	})
}
