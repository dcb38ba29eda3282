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

// TestServeKeepsApart: what may run side by side does; anything else ends the
// connection when it would not be alone.
func TestServeKeepsApart(t *testing.T) {
	many := make([]worker.Op, worker.MaxParallel)
	for i := range many {
		many[i] = worker.OpSign
	}
	for _, tc := range []struct {
		name string
		ops  []worker.Op
		ok   bool
	}{
		{"signatures", many, true},
		{"one signature too many", append(many, worker.OpSign), false},
		{"a search after a signature", []worker.Op{worker.OpSign, worker.OpFindKey}, false},
		{"a signature after a search", []worker.Op{worker.OpFindKey, worker.OpSign}, false},
		{"a login after a signature", []worker.Op{worker.OpSign, worker.OpLogin}, false},
		{"two lists", []worker.Op{worker.OpListTokens, worker.OpListTokens}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				began := make(chan struct{}, len(tc.ops))
				handle := func(*worker.Request) *worker.Response {
					began <- struct{}{}
					<-time.After(time.Minute)
					return &worker.Response{}
				}
				result := make(chan error, 1)
				go func() { result <- worker.Serve(t.Context(), theirs, handle, 0) }()
				for i, op := range tc.ops {
					if err := worker.WriteRequest(ours, &worker.Request{ID: uint64(i), Op: op}); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if tc.ok {
					if len(began) != len(tc.ops) {
						t.Errorf("%d calls run, want %d", len(began), len(tc.ops))
					}
					seen := make(map[uint64]bool)
					for range tc.ops {
						resp, err := worker.ReadResponse(ours)
						if err != nil || seen[resp.ID] {
							t.Fatalf("%+v, %v", resp, err)
						}
						seen[resp.ID] = true
					}
					ours.Close()
				}
				if err := <-result; errors.Is(err, worker.ErrOrphaned) != tc.ok {
					t.Errorf("got %v", err)
				}
				ours.Close()
				theirs.Close()
				<-time.After(time.Minute) // let the calls end
				synctest.Wait()
			})
		})
	}
}
