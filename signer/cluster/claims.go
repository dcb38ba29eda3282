package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"qcitycoin.org/qcity/node/types"
)

// Claims makes the claims of one box. It is safe for concurrent use.
type Claims struct {
	config Config
	client *clientv3.Client
	names  names
	pin    *pin
	log    *slog.Logger
	turn   turn
	lock   *os.File // of the pin

	mu       sync.Mutex
	terminal error // the first failure that only a person can mend
	// heads remembers the records of last claims, to spare a question. It
	// decides nothing: the transaction compares.
	heads map[slot]head
}

// head is the record of the last claim, and the revision that wrote it (0: none).
type head struct {
	mark Mark
	rev  int64
}

// Open connects to the cluster that this box has joined (Join), and refuses one
// that fell back, is another, is too small, or runs a version with known faults.
// Errors are of a kind: ErrUnavailable may be tried again, the others are terminal.
func Open(ctx context.Context, c Config) (*Claims, error) {
	c = c.withDefaults()
	if err := c.Check(); err != nil {
		return nil, err
	}
	file, err := lock(c.StatePath)
	if err != nil {
		return nil, err
	}
	s, err := readState(c.StatePath, c.Network)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	cl, err := connect(c, newPin(c.StatePath, s), file)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeouts.Patience)
	defer cancel()
	err = cl.inspect(ctx)
	if err == nil {
		_, err = cl.Known(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, cl.Close())
	}
	return cl, nil
}

// connect takes over the lock.
func connect(c Config, p *pin, lock *os.File) (*Claims, error) {
	client, err := c.dial()
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Claims{
		config: c, client: client, names: newNames(c.Prefix, c.Network), pin: p, log: c.Log,
		turn: turn{changed: make(chan struct{})}, heads: make(map[slot]head), lock: lock,
	}, nil
}

// Close ends the connection. Calls under way fail.
func (c *Claims) Close() error {
	err := c.client.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	// Whoever has the lock next reads the pin: nothing of ours may be written later.
	c.pin.close()
	if err := errors.Join(err, c.lock.Close()); err != nil {
		return fmt.Errorf("closing the connection to etcd: %w", err)
	}
	return nil
}

// Claim reserves what the key is about to sign, for all boxes and for ever. On nil
// it is durable in the cluster, and this box's pin is durable too: the token may be
// asked. The seal is not nil when it was signed before, perhaps by another box: then it
// is the answer, and verified. The same claim may be made as often as one likes. The error is a
// *Conflict or an *Error; after ErrUnavailable the claim may stand, so ask again
// for the same and for nothing else.
func (c *Claims) Claim(ctx context.Context, cl Claim) (seal *[64]byte, err error) {
	if err := cl.check(c.config.Keys); err != nil {
		return nil, failed(ErrMisconfigured, err, "no such claim can be made")
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Patience)
	defer cancel()
	s := slot{cl.Kind, cl.Key}
	for {
		h, known := c.head(s)
		if known && h.mark.allows(&cl) != nil {
			known = false // perhaps it is there already
		}
		v, won, err := c.try(ctx, &cl, h, known)
		if err != nil {
			return nil, err
		}
		if won || v.claim != nil {
			return c.settle(&cl, v)
		}
		if broken := v.head.mark.allows(&cl); broken != nil {
			return nil, errors.Join(&Conflict{Claim: cl, Last: v.head.mark, Cause: broken}, c.pin.save())
		}
	}
}

// settle answers from a claim that stands, once the pin is durable.
func (c *Claims) settle(cl *Claim, v *view) (*[64]byte, error) {
	if v.claim == nil || *v.claim == *cl {
		if v.claim != nil && v.seal == nil {
			if err := v.head.mark.closed(cl); err != nil {
				return nil, errors.Join(&Conflict{Claim: *cl, Last: v.head.mark, Cause: err}, c.pin.save())
			}
		}
		c.pin.saw(v.rev, *cl)
		if err := c.pin.save(); err != nil {
			return nil, err
		}
		return v.seal, nil
	}
	return nil, errors.Join(&Conflict{Claim: *cl, Winner: v.claim.Digest, Last: v.head.mark}, c.pin.save())
}

// try is one transaction: it makes the claim if the last one is still h, and else,
// or if h is not known, looks at what is there.
func (c *Claims) try(ctx context.Context, cl *Claim, h head, known bool) (v *view, won bool, err error) {
	s := slot{cl.Kind, cl.Key}
	mark, marked := c.pin.mark(s)
	look := c.look(cl, mark)
	if !known {
		resp, err := c.ask(ctx, nil, append([]clientv3.Op{c.touch()}, look...), nil)
		if err != nil {
			return nil, false, err
		}
		v, err = c.read(cl, resp, mark)
		return v, false, err
	}
	next := h.mark.next(cl)
	cmps := []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(c.names.claim(*cl)), "=", 0),
		clientv3.Compare(clientv3.ModRevision(c.names.last(s)), "=", h.rev),
	}
	if marked {
		cmps = append(cmps, c.still(mark))
	}
	resp, err := c.ask(ctx, cmps, []clientv3.Op{
		clientv3.OpPut(c.names.claim(*cl), cl.encode()),
		clientv3.OpPut(c.names.last(s), next.encode()),
	}, look)
	if err != nil {
		return nil, false, err
	}
	if resp.Succeeded {
		rev := resp.Header.GetRevision()
		c.setHead(s, head{next, rev})
		return &view{rev: rev}, true, nil
	}
	v, err = c.read(cl, resp, mark)
	return v, false, err
}

// still compares that the highest claim seen is there.
func (c *Claims) still(m pinMark) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(c.names.claim(Claim{Kind: m.Kind, Key: m.Key, Height: m.Height})), "=", m.Value)
}

// view is what a transaction has shown of a claim and of its slot.
type view struct {
	rev   int64
	head  head
	claim *Claim    // at the height asked for; nil: none
	seal  *[64]byte // verified
}

// look lists what read reads: claim, seal, last, and the highest claim seen.
func (c *Claims) look(cl *Claim, mark pinMark) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpGet(c.names.claim(*cl)),
		clientv3.OpGet(c.names.seal(*cl)),
		clientv3.OpGet(c.names.last(slot{cl.Kind, cl.Key})),
		clientv3.OpGet(c.names.claim(Claim{Kind: cl.Kind, Key: cl.Key, Height: mark.Height})),
	}
}

// read takes apart an answer whose first part is a touch and whose others are
// those of look, and holds it against the highest claim seen before it was asked.
func (c *Claims) read(cl *Claim, resp *clientv3.TxnResponse, mark pinMark) (*view, error) {
	s := slot{cl.Kind, cl.Key}
	v := &view{rev: resp.Header.GetRevision()}
	kv := func(i int) *mvccpb.KeyValue { return first(resp, i) }
	var err error
	if v.head, err = c.readHead(s, kv(3), kv(4), mark); err != nil {
		return nil, err
	}
	if f := kv(1); f != nil {
		got, err := decodeClaim(s, cl.Height, f.GetValue())
		if err != nil {
			return nil, c.damaged(f, err)
		}
		v.claim = &got
	}
	if f := kv(2); f != nil {
		sig, err := decodeSeal(f.GetValue())
		if err == nil && v.claim == nil {
			err = errors.New("a seal without a claim")
		}
		if err == nil {
			err = cl.Key.Verify(v.claim.Digest, sig)
		}
		if err != nil {
			return nil, c.damaged(f, err)
		}
		v.seal = &sig
	}
	c.setHead(s, v.head)
	return v, nil
}

// readHead reads the record of a last claim, and the claim that was the highest
// seen when it was asked for; mark.Height is 0 if none was, and mark.Floor if no floor was.
func (c *Claims) readHead(s slot, last, marked *mvccpb.KeyValue, mark pinMark) (h head, err error) {
	h.mark = Mark{Kind: s.kind, Key: s.key}
	if last != nil {
		if h.mark, err = decodeMark(s, last.GetValue()); err != nil {
			return h, c.damaged(last, err)
		}
		h.rev = last.GetModRevision()
	}
	switch {
	case mark.Height > 0 && (h.mark.Height < mark.Height || string(marked.GetValue()) != mark.Value):
		return h, c.stop(failed(ErrRolledBack, nil, "etcd no longer holds the claim of kind %s at %d by %s, which this box has seen in it: it forgot claims; %s", s.kind, mark.Height, s.key, remedyRestore))
	case h.mark.Floor < mark.Floor:
		return h, c.stop(failed(ErrRolledBack, nil, "etcd has the floor %d of kind %s for %s, and this box has seen %d in it: it forgot a floor; %s", h.mark.Floor, s.kind, s.key, mark.Floor, remedyRestore))
	case h.mark.Height > 0:
		c.pin.saw(0, h.mark.claim())
	}
	c.pin.sawFloor(s, h.mark.Floor)
	return h, nil
}

func (c *Claims) damaged(kv *mvccpb.KeyValue, err error) error {
	return c.stop(failed(ErrDamaged, err, "%s in etcd holds what no signer writes: keep a snapshot, find out who may write under the prefix, then %s", kv.GetKey(), remedyRestore))
}

// first returns the one key that part i of an answer found, or nil.
func first(resp *clientv3.TxnResponse, i int) *mvccpb.KeyValue {
	if i >= len(resp.Responses) {
		return nil
	}
	if r := resp.Responses[i].GetResponseRange(); r != nil && len(r.GetKvs()) == 1 {
		return r.GetKvs()[0]
	}
	return nil
}

func (c *Claims) head(s slot) (h head, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, known = c.heads[s]
	return h, known
}

func (c *Claims) setHead(s slot, h head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.rev >= c.heads[s].rev {
		c.heads[s] = h
	}
}

// Seal stores the signature over a claim that stands, and returns the one to
// release: the first seal of any box wins, and every call returns its bytes. It
// belongs before the journal's own seal, so that the journal never holds another one. Errors are as
// those of Claim.
func (c *Claims) Seal(ctx context.Context, cl Claim, sig [64]byte) ([64]byte, error) {
	err := cl.check(c.config.Keys)
	if err == nil {
		err = cl.Key.Verify(cl.Digest, sig)
	}
	if err != nil {
		return [64]byte{}, failed(ErrMisconfigured, err, "no such seal can be stored")
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Patience)
	defer cancel()
	v, err := c.seal(ctx, cl, sig)
	if err != nil {
		return [64]byte{}, err
	}
	first, err := c.settle(&cl, v)
	if err != nil {
		return [64]byte{}, err
	}
	return *first, nil
}

// seal is one transaction: it stores the signature over a claim unless there is one,
// and else looks at what is there.
func (c *Claims) seal(ctx context.Context, cl Claim, sig [64]byte) (*view, error) {
	mark, marked := c.pin.mark(slot{cl.Kind, cl.Key})
	cmps := []clientv3.Cmp{
		clientv3.Compare(clientv3.Value(c.names.claim(cl)), "=", cl.encode()),
		clientv3.Compare(clientv3.CreateRevision(c.names.seal(cl)), "=", 0),
	}
	if marked {
		cmps = append(cmps, c.still(mark))
	}
	resp, err := c.ask(ctx, cmps, []clientv3.Op{clientv3.OpPut(c.names.seal(cl), hex.EncodeToString(sig[:]))}, c.look(&cl, mark))
	if err != nil {
		return nil, err
	}
	if resp.Succeeded {
		return &view{rev: resp.Header.GetRevision(), seal: &sig}, nil
	}
	v, err := c.read(&cl, resp, mark)
	if err == nil && (v.claim == nil || *v.claim == cl && v.seal == nil) {
		err = failed(ErrMisconfigured, nil, "%s of %s at %d was not claimed before it was sealed: please report this", cl.Kind, cl.Key, cl.Height)
	}
	return v, err
}

// Known returns the highest claim and the floor of every configured key and kind
// that has one.
func (c *Claims) Known(ctx context.Context) ([]Mark, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Patience)
	defer cancel()
	var known []Mark
	for _, key := range c.config.Keys {
		marks, err := c.known(ctx, key)
		if err != nil {
			return nil, err
		}
		known = append(known, marks...)
	}
	return known, c.pin.save()
}

func (c *Claims) known(ctx context.Context, key types.PublicKey) (known []Mark, err error) {
	ops := []clientv3.Op{c.touch()}
	var marks []pinMark
	for _, kind := range kinds {
		s := slot{kind, key}
		mark, _ := c.pin.mark(s)
		marks = append(marks, mark)
		ops = append(ops, clientv3.OpGet(c.names.last(s)), clientv3.OpGet(c.names.claim(Claim{Kind: kind, Key: key, Height: mark.Height})))
	}
	resp, err := c.ask(ctx, nil, ops, nil)
	if err != nil {
		return nil, err
	}
	for i, kind := range kinds {
		s := slot{kind, key}
		h, err := c.readHead(s, first(resp, 1+2*i), first(resp, 2+2*i), marks[i])
		if err != nil {
			return nil, err
		}
		c.setHead(s, h)
		if h.rev > 0 {
			known = append(known, h.mark)
		}
	}
	return known, nil
}
