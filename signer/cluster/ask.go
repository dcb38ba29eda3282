package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ask makes one transaction, again and again until an answer comes that may be
// believed. then must write, and otherwise is made to, so that the whole goes through
// the log of the cluster. That an earlier attempt may have been applied is the caller's
// to expect: the transaction is such that its repetition finds it.
func (c *Claims) ask(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	otherwise = append([]clientv3.Op{c.touch()}, otherwise...)
	var last error
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if err := c.stopped(); err != nil {
			return nil, err
		}
		known := c.pin.revision()
		resp, err := c.attempt(ctx, cmps, then, otherwise)
		if err == nil {
			return resp, c.believe(resp, known+1)
		}
		if kind := classify(err); kind != ErrUnavailable {
			return nil, explain(err, "asking etcd")
		}
		c.log.Debug("etcd did not answer, asking again for the same", "err", err)
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if !sleep(ctx, pause) {
			return nil, failed(ErrUnavailable, last, "etcd does not answer; the claim may stand, ask again for the same: are a majority of its members up?")
		}
	}
}

// touch is the write of a question that claims nothing.
func (c *Claims) touch() clientv3.Op { return clientv3.OpPut(c.names.asked(), c.config.Name) }

func (c *Claims) attempt(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Attempt)
	defer cancel()
	return c.client.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
}

// believe holds the head of an answer against the pin: least is the lowest
// revision that an honest answer can have. A failure stops this Claims for good.
func (c *Claims) believe(resp *clientv3.TxnResponse, least int64) error {
	h := resp.Header
	err := c.pin.origin(h.GetClusterId(), h.GetMemberId())
	if err == nil && h.GetRevision() < least {
		err = failed(ErrRolledBack, nil, "etcd answered with revision %d where at least %d was due: it forgot claims, as after a restored snapshot or a copied data directory; %s", h.GetRevision(), least, remedyRestore)
	}
	if err != nil {
		return c.stop(err)
	}
	c.pin.saw(h.GetRevision())
	return nil
}

// stop remembers the first terminal failure: no later answer mends it.
func (c *Claims) stop(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terminal == nil {
		c.terminal = err
		c.log.Error("claims are refused until a person has looked", "err", err)
	}
	return c.terminal
}

func (c *Claims) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.terminal
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// classify says what a failed call to etcd is. What is not known is unavailable:
// asking again for the same is always safe.
func classify(err error) ErrorKind {
	if e := rpctypes.Error(err); errors.Is(e, rpctypes.ErrInvalidAuthToken) || errors.Is(e, rpctypes.ErrAuthOldRevision) {
		return ErrUnavailable // the client logs in again
	}
	switch code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.InvalidArgument:
		return ErrMisconfigured
	case codes.DataLoss:
		return ErrDamaged
	}
	return ErrUnavailable
}

func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

func explain(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	switch kind := classify(err); kind {
	case ErrMisconfigured:
		return failed(kind, err, "%s: refused: check the certificate, the user's role on the prefix, and etcd's --max-txn-ops", what)
	case ErrDamaged:
		return failed(kind, err, "%s: etcd reports damage: look at its alarms and replace the damaged member", what)
	default:
		return failed(kind, err, "%s: no answer: are a majority of its members up, and are the addresses and certificates right?", what)
	}
}
