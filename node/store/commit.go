package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/node/types"
)

// Commit makes all of b durable, or nothing of it. When it fails for lack of
// space (durable.ErrDiskFull) or in any other way that is known to have
// changed nothing, the next Commit may succeed; after other failures every
// Commit fails until the store is opened anew.
func (s *Store) Commit(b Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	before, err := s.tail()
	if err != nil {
		return err
	}
	after, found, err := s.appendAll(b)
	if err == nil {
		after.commits = before.commits + 1
		err = s.db.Update(func(tx *bolt.Tx) error { return write(tx, s, b, found, after) })
	}
	if err != nil {
		return s.undo(before, explain(err))
	}
	return nil
}

func (s *Store) tail() (t tail, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		t, err = readTail(tx)
		return err
	})
	return t, err
}

// undo deals with a Commit that failed. bbolt writes the page that makes a
// transaction count last. If that page is the old one, nothing has happened and
// the segments are cut back, lest a full disk fills up with attempts. If it
// is the new one, its fsync failed, and nobody knows what the disk holds.
func (s *Store) undo(before tail, cause error) error {
	now, err := s.tail()
	if err == nil && now.commits == before.commits {
		if err = s.seg.rollBack(before); err == nil {
			return cause
		}
	}
	s.broken = fmt.Errorf("%s cannot be written until the node is restarted: %w", s.dir, errors.Join(cause, err))
	return s.broken
}

// places are where the records of a Commit went.
type places struct{ body, undo map[types.Hash]location }

// appendAll writes bodies and undo records, and syncs them.
func (s *Store) appendAll(b Batch) (tail, places, error) {
	at := places{make(map[types.Hash]location), make(map[types.Hash]location)}
	if len(b.Blocks) == 0 && len(b.Spent) == 0 {
		t, err := s.tail()
		return t, at, err
	}
	var err error
	for _, block := range b.Blocks {
		id := block.Header.ID()
		if at.body[id], err = s.seg.append(kindBody, id, block.Bytes()); err != nil {
			return tail{}, at, err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(b.Spent), types.Hash.Compare) {
		if at.undo[id], err = s.seg.append(kindUndo, id, encodeSpent(b.Spent[id])); err != nil {
			return tail{}, at, err
		}
	}
	segment, size, err := s.seg.sync()
	return tail{segment: segment, size: size}, at, err
}

// write is the database's part of a Commit.
func write(tx *bolt.Tx, s *Store, b Batch, at places, after tail) error {
	if err := writeEntries(tx, s, b, at); err != nil {
		return err
	}
	if err := writeBest(tx, b); err != nil {
		return err
	}
	if err := writeVotes(tx, b); err != nil {
		return err
	}
	if err := writeCoins(tx, b); err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	if !b.Tip.IsZero() {
		if err := meta.Put(keyTip, b.Tip[:]); err != nil {
			return err
		}
	}
	return meta.Put(keyTail, after.bytes())
}

// writeEntries writes new entries, and those whose records are new.
func writeEntries(tx *bolt.Tx, s *Store, b Batch, at places) error {
	records := make(map[types.Hash]*record)
	get := func(id types.Hash) (*record, bool, error) {
		if r, ok := records[id]; ok {
			return r, true, nil
		}
		r, ok, err := s.readRecord(tx, id)
		records[id] = &r
		return &r, ok, err
	}
	for i := range b.Entries {
		e := b.Entries[i]
		r, ok, err := get(e.State.ID)
		if err != nil {
			return err
		}
		if e.Sequence = r.entry.Sequence; !ok {
			if e.Sequence, err = addLeaf(tx, &e); err != nil {
				return err
			}
		}
		r.entry = e
		if err := putAuthority(tx, e.State.Authority); err != nil {
			return err
		}
	}
	for _, set := range []map[types.Hash]location{at.body, at.undo} {
		for id := range set {
			if r, ok, err := get(id); err != nil || (!ok && r.entry.State.ID != id) {
				return errors.Join(err, fmt.Errorf("block %s has no index entry", id))
			}
		}
	}
	index := tx.Bucket(bucketIndex)
	for _, id := range slices.SortedFunc(maps.Keys(records), compareBytes) {
		r := records[id]
		if l, ok := at.body[id]; ok {
			r.body = l
		}
		if l, ok := at.undo[id]; ok {
			r.undo = l
		}
		if err := index.Put(id[:], r.bytes()); err != nil {
			return err
		}
	}
	return nil
}

// addLeaf notes a new block and returns its number.
func addLeaf(tx *bolt.Tx, e *Entry) (uint64, error) {
	leaves := tx.Bucket(bucketLeaves)
	if err := leaves.Delete(e.Header.PrevBlock[:]); err != nil {
		return 0, err
	}
	if err := leaves.Put(e.State.ID[:], nil); err != nil {
		return 0, err
	}
	return tx.Bucket(bucketIndex).NextSequence()
}

func writeBest(tx *bolt.Tx, b Batch) error {
	best := tx.Bucket(bucketBest)
	for _, height := range slices.Sorted(maps.Keys(b.Best)) {
		id, err := b.Best[height], error(nil)
		if id.IsZero() {
			err = best.Delete(heightKey(height))
		} else {
			err = best.Put(heightKey(height), id[:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeCoins goes in the order of keys: bbolt then touches each page once.
func writeCoins(tx *bolt.Tx, b Batch) error {
	utxo := tx.Bucket(bucketUTXO)
	for _, o := range slices.SortedFunc(maps.Keys(b.Coins), compareOutPoints) {
		coin, err := b.Coins[o], error(nil)
		if coin == nil {
			err = utxo.Delete(coinKey(o))
		} else {
			err = utxo.Put(coinKey(o), coin.AppendTo(nil))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func compareBytes(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) }

func compareOutPoints(a, b types.OutPoint) int {
	if c := compareBytes(a.TxID, b.TxID); c != 0 {
		return c
	}
	return int(int64(a.Index) - int64(b.Index))
}
