package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// turn says whether this box tries first. Nothing that may be signed depends on it.
type turn struct {
	mu      sync.Mutex
	leading bool
	changed chan struct{} // closed, and replaced, when leading changes
}

func (t *turn) set(leading bool) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leading == leading {
		return false
	}
	t.leading = leading
	close(t.changed)
	t.changed = make(chan struct{})
	return true
}

func (t *turn) get() (leading bool, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leading, t.changed
}

// Leading reports whether this box is the one that tries first. Two boxes may both
// be told so, after a pause or a step of a clock; what is signed is decided by Claim alone.
func (c *Claims) Leading() bool {
	leading, _ := c.turn.get()
	return leading
}

// Await returns once this box leads, or when patience ends: a stand-by then tries
// nevertheless, and finds the claim taken if the other box is at work. It
// returns false only if ctx ended.
func (c *Claims) Await(ctx context.Context, patience time.Duration) bool {
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		leading, changed := c.turn.get()
		if leading {
			return true
		}
		select {
		case <-changed:
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// Campaign keeps this box in line for trying first, until ctx ends (nil) or a
// terminal failure shows. Every quarter of the lease it asks the cluster, which also lets a
// stand-by's pin follow what others claim, and notices a roll-back while nothing
// is signed. It is run once.
func (c *Claims) Campaign(ctx context.Context) error {
	ttl := c.config.Timeouts.Lease
	lost := time.AfterFunc(ttl, func() { c.lead(false, "no answer from etcd") })
	defer lost.Stop()
	var lease clientv3.LeaseID
	for {
		leading, err := c.poll(ctx, &lease)
		switch {
		case ctx.Err() != nil:
			c.resign(lease)
			return nil
		case IsTerminal(err):
			c.resign(lease)
			return err
		case err != nil:
			c.log.Debug("asking whose turn it is", "err", err)
		default:
			lost.Reset(ttl)
			c.lead(leading, "another box is first in line")
		}
		sleep(ctx, ttl/4)
	}
}

func (c *Claims) lead(leading bool, why string) {
	if !c.turn.set(leading) {
		return
	}
	if leading {
		c.log.Info("this box tries first")
	} else {
		c.log.Warn("this box no longer tries first", "why", why)
	}
}

// poll renews the lease, or takes one, and asks whose turn it is.
func (c *Claims) poll(ctx context.Context, lease *clientv3.LeaseID) (leading bool, err error) {
	if err := c.stopped(); err != nil {
		return false, err
	}
	known := c.pin.revision()
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Attempt)
	defer cancel()
	if err := c.renew(ctx, lease); err != nil {
		return false, err
	}
	// Both branches can write, so it goes through the log; it writes only when
	// nobody leads, so an honest answer may have the revision known, but none below.
	name := c.names.first()
	resp, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(name), "=", 0)).
		Then(clientv3.OpPut(name, c.config.Name, clientv3.WithLease(*lease))).
		Else(clientv3.OpGet(name)).Commit()
	if err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			*lease = 0
		}
		return false, explain(err, "asking etcd whose turn it is")
	}
	if err := c.believe(resp, known); err != nil {
		return false, err
	}
	if c.pin.revision() > known {
		if err := c.pin.save(); err != nil {
			return false, err
		}
	}
	kv := first(resp, 0)
	return resp.Succeeded || kv != nil && kv.GetLease() == int64(*lease), nil
}

func (c *Claims) renew(ctx context.Context, lease *clientv3.LeaseID) error {
	if *lease != 0 {
		_, err := c.client.KeepAliveOnce(ctx, *lease)
		if err == nil {
			return nil
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return explain(err, "renewing the lease")
		}
		*lease = 0
	}
	resp, err := c.client.Grant(ctx, int64(c.config.Timeouts.Lease/time.Second))
	if err != nil {
		return explain(err, "taking a lease")
	}
	*lease = resp.ID
	return nil
}

// resign lets the next box try at once.
func (c *Claims) resign(lease clientv3.LeaseID) {
	c.lead(false, "it stops")
	if lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.config.Timeouts.Attempt)
	defer cancel()
	if _, err := c.client.Revoke(ctx, lease); err != nil {
		c.log.Debug("giving the lease back", "err", err)
	}
}
