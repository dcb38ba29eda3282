package store

import (
	"bytes"
	"fmt"
	"sync"

	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// authorities are the parts of the validator index that were read lately. Most
// blocks share theirs with their neighbours.
type authorities struct {
	mu    sync.Mutex
	known map[types.Hash]*consensus.Authority
}

// maxAuthorities bounds the memory, some kilobytes each.
const maxAuthorities = 256

func (c *authorities) read(tx *bolt.Tx, id types.Hash) (*consensus.Authority, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.known[id]; ok {
		return a, nil
	}
	v := tx.Bucket(bucketAuthority).Get(id[:])
	if v == nil {
		return nil, fmt.Errorf("validator index lacks %s: the database is damaged", id)
	}
	a, err := consensus.DecodeAuthority(v)
	if err == nil && a.ID() != id {
		err = fmt.Errorf("it is %s", a.ID())
	}
	if err != nil {
		return nil, fmt.Errorf("validator index, %s: the database is damaged: %w", id, err)
	}
	if len(c.known) >= maxAuthorities || c.known == nil {
		c.known = make(map[types.Hash]*consensus.Authority)
	}
	c.known[id] = a
	return a, nil
}

// putAuthority writes what a state refers to, unless it is there.
func putAuthority(tx *bolt.Tx, a *consensus.Authority) error {
	if a == nil {
		return nil
	}
	id, bucket := a.ID(), tx.Bucket(bucketAuthority)
	if bucket.Get(id[:]) != nil {
		return nil
	}
	return bucket.Put(id[:], a.Bytes())
}

// writeVotes writes certificates and the final slot, and drops the certificates
// that have done their work.
func writeVotes(tx *bolt.Tx, b Batch) error {
	votes := tx.Bucket(bucketVotes)
	for i := range b.Certificates {
		c := &b.Certificates[i]
		if err := votes.Put(c.Link.AppendTo(nil), c.AppendTo(nil)); err != nil {
			return err
		}
	}
	for _, l := range b.Forget {
		if err := votes.Delete(l.AppendTo(nil)); err != nil {
			return err
		}
	}
	if b.Final == (consensus.Checkpoint{}) {
		return nil
	}
	return tx.Bucket(bucketMeta).Put(keyFinal, b.Final.Bytes())
}

func decodeCertificate(k, v []byte) (consensus.Certificate, error) {
	c, err := consensus.DecodeCertificate(v)
	if err == nil && !bytes.Equal(k, c.Link.AppendTo(nil)) {
		err = fmt.Errorf("stored is that for slot %d, block %s", c.Target.Height, c.Target.ID)
	}
	if err != nil {
		err = fmt.Errorf("certificate %x: the database is damaged: %w", k, err)
	}
	return c, err
}

// Certificates returns the certificates that are kept.
func (s *Store) Certificates() (list []consensus.Certificate, err error) {
	return list, s.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketVotes).ForEach(func(k, v []byte) error {
			c, err := decodeCertificate(k, v)
			list = append(list, c)
			return err
		})
	})
}

// Final returns the highest slot known to be final, the zero value before the
// first.
func (s *Store) Final() (c consensus.Checkpoint, err error) {
	return c, s.view(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketMeta).Get(keyFinal)
		if v == nil {
			return nil
		}
		d := types.NewDecoder(v)
		c = consensus.DecodeCheckpoint(d)
		if err := d.Finish(); err != nil {
			return fmt.Errorf("final slot: the database is damaged: %w", err)
		}
		return nil
	})
}
