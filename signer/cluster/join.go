package cluster

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"qcitycoin.org/qcity/node/types"
)

// Past is what the keys may have signed without the cluster knowing of it.
type Past struct {
	// Floor is what a person says of every key: nothing at this height or below is
	// signed any more, and no vote from a source below it.
	Floor uint32
	// Blocks, Votes and SetChanges are the highest claims in the journal of this box, or
	// its floors if they are higher (heights of blocks and of targets, numbers of sets). What
	// an earlier Join of this box has seen in the cluster need not be told.
	Blocks, Votes, SetChanges map[types.PublicKey]uint32
	// Seal returns the journal's signature over a claim, nil if it has none; nil: it has
	// none at all.
	Seal func(Claim) *[64]byte
}

// Join accepts the cluster as it is now: a person's decision, at the first set-up, after
// etcd was restored, and after its members changed, with every signer of the keys
// stopped. It raises the floor of each key above its past, for all boxes. A claim that
// the earlier pin of this box has seen and the cluster lacks raises it too, and a seal that
// the cluster lacks is brought back from the journal. Then it replaces the pin.
func Join(ctx context.Context, c Config, past Past) (err error) {
	c = c.withDefaults()
	if err := c.Check(); err != nil {
		return err
	}
	file, err := lock(c.StatePath)
	if err != nil {
		return err
	}
	before, err := readState(c.StatePath, c.Network)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, file.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.Timeouts.Patience)
	defer cancel()
	cl, err := connect(c, newPin(c.StatePath, state{Network: c.Network}), file)
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
	return cl.bring(ctx, &before, past)
}

// bring tells the cluster what this box knows, and makes the pin.
func (c *Claims) bring(ctx context.Context, before *state, past Past) error {
	for _, key := range c.config.Keys {
		for kind, journal := range map[Kind]uint32{Block: past.Blocks[key], Vote: past.Votes[key], SetChange: past.SetChanges[key]} {
			floor := past.Floor
			if kind == SetChange {
				floor = 0 // it is a height
			}
			if journal > before.height(slot{kind, key}) {
				floor = max(floor, journal)
			}
			if err := c.raise(ctx, slot{kind, key}, floor); err != nil {
				return err
			}
		}
	}
	for _, m := range before.Marks {
		if err := c.rescue(ctx, m, past.Seal); err != nil {
			return err
		}
	}
	// Everything is read once more, and with it the pin is made.
	_, err := c.Known(ctx)
	return err
}

// height returns that of the highest claim seen, 0 if none was.
func (s *state) height(of slot) uint32 {
	for _, m := range s.Marks {
		if (slot{m.Kind, m.Key}) == of {
			return m.Height
		}
	}
	return 0
}

// rescue raises the floor to that which an earlier pin has seen, and to a claim that
// it has seen and that the cluster lacks. Where only the claim's seal is lacking, the
// journal's signature takes its place.
func (c *Claims) rescue(ctx context.Context, m pinMark, seal func(Claim) *[64]byte) error {
	s := slot{m.Kind, m.Key}
	if !slices.Contains(c.config.Keys, m.Key) {
		return nil // keys that left the configuration are no longer ours to speak for
	}
	if m.Height == 0 {
		return c.raise(ctx, s, m.Floor)
	}
	cl, err := decodeClaim(s, m.Height, []byte(m.Value))
	if err != nil {
		return err
	}
	v, _, err := c.try(ctx, &cl, head{}, false)
	if err != nil {
		return err
	}
	if v.claim == nil || *v.claim != cl {
		return c.raise(ctx, s, max(m.Height, m.Floor))
	}
	if v.seal == nil && seal != nil {
		if sig := seal(cl); sig != nil {
			if err := cl.Key.Verify(cl.Digest, *sig); err != nil {
				return failed(ErrMisconfigured, err, "the journal's signature of %s at %d does not verify", cl.Kind, cl.Height)
			}
			if _, err := c.seal(ctx, cl, *sig); err != nil {
				return err
			}
		}
	}
	return c.raise(ctx, s, m.Floor)
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
