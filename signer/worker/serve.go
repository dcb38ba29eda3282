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

// Serve is the worker's loop: it reads requests from conn, answers each with
// handle, one at a time, and returns when the other side closes (ErrOrphaned),
// breaks the protocol, or ctx ends. handle runs on one goroutine for ever.
//
// Serve does not wait for a call that hangs: the process is expected to exit
// as soon as Serve returns. The exception is a critical operation (Op.Critical):
// it gets linger to end by itself, because dying inside it can cost the token.
func Serve(ctx context.Context, conn io.ReadWriter, handle func(*Request) *Response, linger time.Duration) error {
	type read struct {
		req *Request
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reads, calls, answers := make(chan read), make(chan *Request), make(chan *Response, 1)
	go func() {
		for {
			req, err := ReadRequest(conn)
			select {
			case reads <- read{req, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for req := range calls {
			resp := handle(req)
			req.wipe()
			resp.ID = req.ID
			answers <- resp
		}
	}()
	defer close(calls)

	for {
		var in read
		select {
		case in = <-reads:
		case <-ctx.Done():
			return ctx.Err()
		}
		if in.err != nil {
			return readFailure(in.err)
		}
		calls <- in.req
		var ended error
		select {
		case resp := <-answers:
			if err := WriteResponse(conn, resp); err != nil {
				return err
			}
			continue
		case next := <-reads:
			ended = errors.New("a second request came before the first was answered")
			if errors.Is(next.err, io.EOF) {
				ended = ErrOrphanedBusy
			} else if next.err != nil {
				ended = next.err
			}
			if next.req != nil {
				next.req.wipe()
			}
		case <-ctx.Done():
			ended = ctx.Err()
		}
		if in.req.Op.Critical() {
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

func readFailure(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrOrphaned
	}
	return err
}
