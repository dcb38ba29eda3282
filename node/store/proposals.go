package store

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// SaveProposal keeps, durably, the block this node is about to ask its signer
// to sign at a height, so that after a crash it asks for the same one again.
// Proposals for heights below the tip are dropped.
func (s *Store) SaveProposal(height uint32, block []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		if err := s.pruneProposals(tx); err != nil {
			return err
		}
		return tx.Bucket(bucketProposals).Put(heightKey(height), block)
	})
	if err != nil {
		return fmt.Errorf("saving the proposal for height %d in %s: %w", height, s.dir, explain(err))
	}
	return nil
}

func (s *Store) pruneProposals(tx *bolt.Tx) error {
	id, ok, err := readHash(tx.Bucket(bucketMeta).Get(keyTip))
	if err != nil || !ok {
		return err
	}
	tip, _, err := s.readRecord(tx, id)
	if err != nil {
		return err
	}
	c := tx.Bucket(bucketProposals).Cursor()
	for k, _ := c.First(); k != nil && binary.BigEndian.Uint32(k) < tip.entry.State.Height; k, _ = c.First() {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Proposal returns the block saved for a height, if there is one.
func (s *Store) Proposal(height uint32) (block []byte, ok bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketProposals).Get(heightKey(height))
		block, ok = append([]byte(nil), v...), v != nil
		return nil
	})
	return block, ok, err
}
