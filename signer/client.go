package signer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// Client is the node's side of the signer's socket. It connects when it is
// first used, and again, with growing pauses, when the connection is lost. Its
// methods may be used from many goroutines and are served one at a time.
//
// Every call goes on until it is answered or its context ends, because asking
// again is always safe: the same request has the same answer. A call whose
// context has no end waits as long as the signer is away.
type Client struct {
	socket  string
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
	return &Client{socket: socket, network: network, turn: make(chan struct{}, 1)}
}

// Pauses between attempts to connect.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// SignSlot asks for a signature: see Service.SignSlot for the errors, to which
// ErrUnavailable adds that the signer could not be reached before ctx ended.
func (c *Client) SignSlot(ctx context.Context, r Request) (Response, error) {
	var resp Response
	err := c.call(ctx, methodSignSlot, r, &resp)
	return resp, err
}

// Attest asks for a vote; the errors are those of SignSlot.
func (c *Client) Attest(ctx context.Context, r VoteRequest) (Response, error) {
	var resp Response
	err := c.call(ctx, methodAttest, r, &resp)
	return resp, err
}

// SlotRecord returns what the signer's journal holds of a height; ok is false
// when it holds nothing.
func (c *Client) SlotRecord(ctx context.Context, height uint32) (record SlotRecord, ok bool, err error) {
	var slot wireSlot
	if err := c.call(ctx, methodSlotRecord, wireHeight{height}, &slot); err != nil || slot.Record == nil {
		return SlotRecord{}, false, err
	}
	return *slot.Record, true, nil
}

// Status describes the signer.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	err := c.call(ctx, methodStatus, struct{}{}, &st)
	return st, err
}

// Close ends the connection. Later calls fail.
func (c *Client) Close() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	c.done = true
	return c.drop()
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
	for pause := minPause; ; pause = min(2*pause, maxPause) {
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
			return failed(ErrUnavailable, errors.Join(ctx.Err(), last), "no answer from the signer at %s: is it running?", c.socket)
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
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
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
		return failed(ErrBadRequest, err, "what answers at %s is no signer of this version", c.socket)
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
