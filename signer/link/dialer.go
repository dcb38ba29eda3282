package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// DialerConfig is what a Dialer needs.
type DialerConfig struct {
	Address  string // host:port of the node
	Identity *Identity
	Pin      Pin // the node's
	// Serve serves a connection that the node has begun to use. When ctx ends it
	// finishes what is under way and returns.
	Serve func(ctx context.Context, conn net.Conn)
	Log   *slog.Logger
	// Dial opens TCP connections; nil is net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Dialer is the signer daemon's side: it keeps a connection to one node ready.
type Dialer struct {
	c     DialerConfig
	tls   *tls.Config
	slots chan struct{} // one for each connection, up to maxPerPeer
	limit *rate.Limiter

	again complaints

	mu     sync.Mutex
	status Status
}

// Status says how a Dialer is doing.
type Status struct {
	Address     string    `json:"address"`
	Pin         Pin       `json:"pin"`
	Connected   bool      `json:"connected"`       // a connection to the node is there
	Since       time.Time `json:"since"`           // of Connected
	Connections int       `json:"connections"`     // that the node uses
	Error       string    `json:"error,omitempty"` // why there is no connection
}

// Pauses between attempts to reach the node. Each is shortened by up to half at
// random, so that many signers do not come all at once.
const (
	minPause = 100 * time.Millisecond
	maxPause = 3 * time.Second
)

// NewDialer returns a Dialer; it starts nothing.
func NewDialer(c DialerConfig) *Dialer {
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	return &Dialer{
		c: c, tls: config(c.Identity, []Pin{c.Pin}), slots: make(chan struct{}, maxPerPeer),
		// Whatever a node does with its connections, it costs no more than this.
		limit:  rate.NewLimiter(10, 2*maxPerPeer),
		again:  complaints{log: c.Log.With("node", c.Address), interval: time.Minute},
		status: Status{Address: c.Address, Pin: c.Pin},
	}
}

// Status describes the link.
func (d *Dialer) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// Run keeps a connection to the node ready until ctx ends, and returns when the
// last one that was served has ended.
func (d *Dialer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	pause := minPause
	for ctx.Err() == nil {
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		if d.limit.Wait(ctx) != nil {
			return nil
		}
		c, err := d.connect(ctx)
		began := time.Now()
		if err == nil {
			d.report(nil)
			err = d.waitUse(ctx, c)
		}
		if err == nil {
			pause = minPause
			wg.Go(func() { d.serve(ctx, c) })
			continue
		}
		<-d.slots
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > maxPause {
			pause = minPause // it had worked: the node may be back at once
		}
		d.report(err)
		sleep(ctx, pause-rand.N(pause/2))
		pause = min(2*pause, maxPause)
	}
	return nil
}

// connect returns a connection that the node has accepted.
func (d *Dialer) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := d.c.Dial(ctx, "tcp", d.c.Address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(raw, d.tls)
	if err := greet(ctx, secure); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return newConn(secure), nil
}

// greet waits for the node's first empty line, which it sends when it has
// accepted our key.
func greet(ctx context.Context, secure *tls.Conn) error {
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = secure.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	first := make([]byte, 1)
	if _, err := secure.Read(first); err != nil {
		return fmt.Errorf("the node did not accept this signer (has it the pin of this signer's identity?): %w", err)
	}
	if !bytes.Equal(first, []byte{'\n'}) {
		return ErrProtocol
	}
	return nil
}

// errLost: a connection that had been accepted ended before the node used it.
const errLost constError = "the connection to the node ended"

func (d *Dialer) waitUse(ctx context.Context, c *conn) error {
	select {
	case <-c.claimed:
		return nil
	case <-c.gone:
		_ = c.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.reason != nil {
			return fmt.Errorf("%w: %w", errLost, c.reason)
		}
		return errLost
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.Close())
	}
}

func (d *Dialer) serve(ctx context.Context, c *conn) {
	d.count(1)
	defer func() {
		_ = c.Close()
		<-c.gone
		d.count(-1)
		<-d.slots
	}()
	d.c.Serve(ctx, c)
}

func (d *Dialer) count(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Connections += n
}

// report keeps the state, and logs it when it changes. Another reason for the
// same state waits a minute for its line.
func (d *Dialer) report(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.c.Log.With("node", d.c.Address)
	text := ""
	if err != nil {
		text = err.Error()
	}
	connected := err == nil
	switch {
	case connected && !d.status.Connected:
		log.Info("connected to the node", "pin", d.c.Pin)
	case !connected && d.status.Connected:
		log.Warn("lost the connection to the node", "err", err)
	case !connected && text != d.status.Error:
		d.again.add("no connection to the node", "err", err)
	}
	if connected != d.status.Connected || d.status.Since.IsZero() {
		d.status.Since = time.Now()
	}
	d.status.Connected, d.status.Error = connected, text
}
