package signer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
)

// Client is the side that asks: a node's, or an operator's. It connects when it
// is first used, and again, with growing pauses, when the connection is lost. Its
// methods may be used from many goroutines and are served one at a time.
//
// Every call goes on until it is answered or its context ends, because asking
// again is always safe: the same request has the same answer. A call whose
// context has no end waits as long as the signer is away.
type Client struct {
	dial    func(context.Context) (net.Conn, error)
	where   string        // for errors
	pause   time.Duration // minPause; shorter in tests
	network types.Hash

	turn chan struct{} // guards what follows
	conn net.Conn
	r    *bufio.Reader
	id   uint64
	done bool
}

// NewClient returns a client of the signer of this network at socket; it does
// not connect yet.
func NewClient(socket string, network types.Hash) *Client {
	return NewDialClient(socket, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}, network)
}

// NewDialClient returns a client that gets its connections from dial, which may
// wait for one until its context ends. Errors name the signer as where.
func NewDialClient(where string, dial func(context.Context) (net.Conn, error), network types.Hash) *Client {
	return &Client{dial: dial, where: where, pause: minPause, network: network, turn: make(chan struct{}, 1)}
}

// Pauses between attempts to connect.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// SignSlot asks for a signature: see Service.SignSlot for the errors, to which
// ErrUnavailable adds that the signer could not be reached before ctx ended.
func (c *Client) SignSlot(ctx context.Context, r Request) (Response, error) {
	return call[Response](ctx, c, methodSignSlot, r)
}

// Attest asks for a vote; the errors are those of SignSlot.
func (c *Client) Attest(ctx context.Context, r VoteRequest) (Response, error) {
	return call[Response](ctx, c, methodAttest, r)
}

// Seen tells the signer what the chain shows of its keys. See Service.Seen.
func (c *Client) Seen(ctx context.Context, r SeenRequest) error {
	_, err := call[wireNothing](ctx, c, methodSeen, r)
	return err
}

// SignSetChange asks for a signature under a change of the validator set. Only
// the signer's own user may.
func (c *Client) SignSetChange(ctx context.Context, r authority.SetChangeRequest) (Response, error) {
	return call[Response](ctx, c, methodSignSetChange, r)
}

// Halt stops all signing at once. Only the signer's own user may.
func (c *Client) Halt(ctx context.Context, by, reason string) error {
	_, err := call[wireNothing](ctx, c, methodHalt, wireHalt{by, reason})
	return err
}

// Resume goes on, once two people asked for it; done is false after the first.
func (c *Client) Resume(ctx context.Context, by string) (done bool, err error) {
	r, err := call[wireResumed](ctx, c, methodResume, wireResume{by})
	return r.Done, err
}

// SlotRecord returns what the signer's journal holds of a height; ok is false
// when it holds nothing.
func (c *Client) SlotRecord(ctx context.Context, height uint32) (record SlotRecord, ok bool, err error) {
	slot, err := call[wireSlot](ctx, c, methodSlotRecord, wireHeight{height})
	if err != nil || slot.Record == nil {
		return SlotRecord{}, false, err
	}
	return *slot.Record, true, nil
}

// Status describes the signer.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, methodStatus, wireNothing{})
}

// Close ends the connection. Later calls fail.
func (c *Client) Close() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.done = true
	return c.drop()
}

// call is all that a method of Client needs.
func call[R any](ctx context.Context, c *Client, method string, params any) (R, error) {
	var result R
	err := c.call(ctx, method, params, &result)
	return result, err
}

func (c *Client) call(ctx context.Context, method string, params, result any) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return failed(ErrUnavailable, ctx.Err(), "waiting for another call to the signer")
	}
	if c.done {
		return failed(ErrUnavailable, net.ErrClosed, "the connection to the signer was closed")
	}
	var last error
	for pause := c.pause; ; pause = min(2*pause, maxPause) {
		err := c.connect(ctx)
		if err == nil {
			err = c.exchange(ctx, method, params, result)
		}
		var lost *lostError
		if err == nil || !errors.As(err, &lost) {
			return err
		}
		// A context's end shows as a deadline on the connection: the reason
		// seen before it tells more.
		if ctx.Err() == nil || last == nil {
			last = lost.error
		}
		_ = c.drop() // it is lost already
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return failed(ErrUnavailable, fmt.Errorf("%w (%w)", ctx.Err(), last), "no answer from the signer at %s: is it running?", c.where)
		case <-timer.C:
		}
	}
}

// lostError is a failure of the connection, not an answer.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

func (c *Client) drop() error {
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn, c.r = nil, nil
	return conn.Close()
}

func (c *Client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return &lostError{err}
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	var h wireHello
	if err := c.exchange(ctx, methodHello, wireHello{wireVersion, c.network}, &h); err != nil {
		_ = c.drop() // the answer says what is wrong
		return err
	}
	return nil
}

// exchange sends one request and reads its answer. When ctx ends first the
// connection is of no more use, as the answer may still come.
func (c *Client) exchange(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return failed(ErrBadRequest, err, "encoding a request")
	}
	conn := c.conn
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return &lostError{err}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.id++
	// A server that turns us away answers and closes before it reads: its answer
	// counts for more than our failure to write.
	writeErr := writeLine(conn, wireRequest{ID: c.id, Method: method, Params: body})
	line, err := readLine(c.r)
	if err != nil {
		return &lostError{errors.Join(writeErr, err)}
	}
	var resp wireResponse
	if err := decodeStrict(line, &resp); err != nil {
		_ = c.drop()
		return failed(ErrBadRequest, err, "what answers at %s is no signer of this version", c.where)
	}
	if resp.Error != nil {
		err := resp.Error.err()
		if resp.ID != c.id {
			_ = c.drop() // it was not our request that was answered: we are turned away
			if errors.Is(err, ErrUnavailable) {
				return &lostError{err}
			}
		}
		return err
	}
	if resp.ID != c.id {
		return &lostError{failed(ErrBadRequest, nil, "the signer answered request %d instead of %d", resp.ID, c.id)}
	}
	if err := json.Unmarshal(resp.Result, result); err != nil {
		_ = c.drop()
		return failed(ErrBadRequest, err, "the signer's answer to %s", method)
	}
	return nil
}
