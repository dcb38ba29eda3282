package cluster

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"qcitycoin.org/qcity/node/types"
)

// Join accepts the cluster as it is now: a person's decision, at the first set-up, after
// etcd was restored, and after its members changed, with every signer of the keys
// stopped. It raises the floor of each key, for blocks and votes, to what is
// given: the highest height the key may have signed, by the journal of this box and
// whatever else is known; 0 or absent for a key that signed nothing outside the cluster. What the
// pin of an earlier Join has seen and this cluster lacks raises the floor too. Then it
// replaces the pin.
func Join(ctx context.Context, c Config, floors map[types.PublicKey]uint32) (err error) {
	c = c.withDefaults()
	if err := c.Check(); err != nil {
		return err
	}
	before, err := readState(c.StatePath, c.Network)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.Timeouts.Patience)
	defer cancel()
	cl, err := connect(c, newPin(c.StatePath, state{Network: c.Network}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.Close()) }()
	if cl.pin.cluster, cl.pin.members, err = cl.members(ctx); err != nil {
		return err
	}
	if err := cl.fit(ctx, cl.pin.members); err != nil {
		return err
	}
	for _, key := range c.Keys {
		for _, kind := range []Kind{Block, Vote} {
			if err := cl.raise(ctx, slot{kind, key}, floors[key]); err != nil {
				return err
			}
		}
	}
	for _, m := range before.Marks {
		if err := cl.rescue(ctx, m); err != nil {
			return err
		}
	}
	// Everything is read once more, and with it the pin is made.
	_, err = cl.Known(ctx)
	return err
}

// rescue raises the floor to a claim that an earlier pin has seen and that the
// cluster lacks.
func (c *Claims) rescue(ctx context.Context, m pinMark) error {
	s := slot{m.Kind, m.Key}
	cl, err := decodeClaim(s, m.Height, []byte(m.Value))
	if err != nil || !slices.Contains(c.config.Keys, m.Key) {
		return err // keys that left the configuration are no longer ours to speak for
	}
	v, _, err := c.try(ctx, &cl, head{}, false)
	if err != nil || v.claim != nil && *v.claim == cl {
		return err
	}
	return c.raise(ctx, s, m.Height)
}

// raise lifts the floor of a key and kind to height.
func (c *Claims) raise(ctx context.Context, s slot, height uint32) error {
	for {
		// The claim at height 0, which nobody makes, stands for none.
		v, _, err := c.try(ctx, &Claim{Kind: s.kind, Key: s.key}, head{}, false)
		if err != nil {
			return err
		}
		next := v.head.mark
		if height <= next.Floor {
			return nil
		}
		next.Floor = height
		resp, err := c.ask(ctx,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(c.names.last(s)), "=", v.head.rev)},
			[]clientv3.Op{clientv3.OpPut(c.names.last(s), next.encode())}, nil)
		if err != nil {
			return err
		}
		if resp.Succeeded {
			c.setHead(s, head{next, resp.Header.GetRevision()})
			return nil
		}
	}
}
