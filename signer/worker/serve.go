package worker

import (
	"context"
	"errors"
	"io"
	"time"
)

// What Serve returns when the daemon's end is gone. After ErrOrphaned no call is
// running and the module may be closed; after ErrOrphanedBusy one still is.
var (
	ErrOrphaned     = errors.New("the signer closed the connection")
	ErrOrphanedBusy = errors.New("the signer closed the connection during a call")
)

// MaxParallel is how many calls may be under way in one worker.
const MaxParallel = 64

// Serve is the worker's loop: it reads requests from conn, answers each with
// handle, and returns when the other side closes (ErrOrphaned), breaks the
// protocol, or ctx ends. Requests that may run side by side (Op.Parallel) do,
// up to MaxParallel, and are answered in the order in which they finish. Any
// other request runs alone: one that comes while something is running, or
// something that comes while it is running, is a breach of the protocol, as the
// supervisor is there to keep them apart.
//
// Serve does not wait for a call that hangs: the process is expected to exit
// as soon as Serve returns. The exception is a critical operation (Op.Critical):
// it gets linger to end by itself, because dying inside it can cost the token.
func Serve(ctx context.Context, conn io.ReadWriter, handle func(*Request) *Response, linger time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reads := make(chan received)
	go readRequests(ctx, conn, reads)

	answers := make(chan *Response, MaxParallel)
	running := 0
	var alone Op // the operation that runs alone, empty if none does
	start := func(req *Request) {
		running++
		if !req.Op.Parallel() {
			alone = req.Op
		}
		go func() {
			resp := handle(req)
			req.wipe()
			resp.ID = req.ID
			answers <- resp
		}()
	}
	for {
		var ended error
		select {
		case resp := <-answers:
			running, alone = running-1, ""
			if ended = WriteResponse(conn, resp); ended == nil {
				continue
			}
		case in := <-reads:
			switch {
			case errors.Is(in.err, io.EOF) && running == 0:
				ended = ErrOrphaned
			case errors.Is(in.err, io.EOF):
				ended = ErrOrphanedBusy
			case in.err != nil:
				ended = in.err
			case alone != "" || running > 0 && !in.req.Op.Parallel() || running == MaxParallel:
				in.req.wipe()
				ended = errors.New("a request came while another had the token for itself")
			default:
				start(in.req)
				continue
			}
		case <-ctx.Done():
			ended = ctx.Err()
		}
		if running > 0 && alone.Critical() {
			timer := time.NewTimer(linger)
			defer timer.Stop()
			select {
			case <-answers:
			case <-timer.C:
			}
		}
		return ended
	}
}

type received struct {
	req *Request
	err error
}

func readRequests(ctx context.Context, conn io.Reader, out chan<- received) {
	for {
		req, err := ReadRequest(conn)
		select {
		case out <- received{req, err}:
		case <-ctx.Done():
			if req != nil {
				req.wipe()
			}
			return
		}
		if err != nil {
			return
		}
	}
}
