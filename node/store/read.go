package store

import (
	"fmt"
	"iter"

	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Tip returns the last block of the best chain, false in an empty store.
func (s *Store) Tip() (id types.Hash, ok bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		id, ok, err = readHash(tx.Bucket(bucketMeta).Get(keyTip))
		return err
	})
	return id, ok, err
}

// BestID returns the block of the best chain at a height.
func (s *Store) BestID(height uint32) (id types.Hash, ok bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		id, ok, err = readHash(tx.Bucket(bucketBest).Get(heightKey(height)))
		return err
	})
	return id, ok, err
}

func readHash(v []byte) (types.Hash, bool, error) {
	if v == nil {
		return types.Hash{}, false, nil
	}
	if len(v) != len(types.Hash{}) {
		return types.Hash{}, false, fmt.Errorf("block id of %d bytes: the database is damaged", len(v))
	}
	return types.Hash(v), true, nil
}

// Entry returns the index entry of a block.
func (s *Store) Entry(id types.Hash) (Entry, bool, error) {
	r, ok, err := s.record(id)
	return r.entry, ok, err
}

func (s *Store) record(id types.Hash) (r record, ok bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		r, ok, err = s.readRecord(tx, id)
		return err
	})
	return r, ok && err == nil, err
}

// Entries yields the whole index, in no order.
func (s *Store) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		each(s, bucketIndex, yield, func(tx *bolt.Tx, k, v []byte) (Entry, error) {
			id, _, err := readHash(k)
			if err != nil {
				return Entry{}, err
			}
			r, err := s.decodeRecord(tx, id, v)
			return r.entry, err
		})
	}
}

// UTXOs yields all unspent outputs.
func (s *Store) UTXOs() iter.Seq2[consensus.UTXO, error] {
	return func(yield func(consensus.UTXO, error) bool) {
		each(s, bucketUTXO, yield, func(_ *bolt.Tx, k, v []byte) (consensus.UTXO, error) { return decodeCoin(k, v) })
	}
}

// chunk is how many items each reads at once.
const chunk = 1000

// each yields every item of a bucket, which must not change meanwhile. It ends
// with the first error. It reads in chunks, so that the loop's body may use the
// store: a bbolt transaction within another can wait for ever.
func each[T any](s *Store, bucket []byte, yield func(T, error) bool, decode func(tx *bolt.Tx, k, v []byte) (T, error)) {
	var next []byte
	for {
		var items []T
		err := s.view(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucket).Cursor()
			k, v := c.Seek(next)
			for ; k != nil && len(items) < chunk; k, v = c.Next() {
				item, err := decode(tx, k, v)
				if err != nil {
					return err
				}
				items = append(items, item)
			}
			next = append([]byte(nil), k...)
			return nil
		})
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		if len(next) == 0 {
			return
		}
	}
}

// Block returns the body of a block.
func (s *Store) Block(id types.Hash) (*types.Block, bool, error) {
	r, ok, err := s.record(id)
	if err != nil || !ok || r.body.isZero() {
		return nil, false, err
	}
	raw, err := s.seg.read(kindBody, id, r.body)
	if err != nil {
		return nil, false, err
	}
	b, err := types.DecodeBlock(raw)
	if err != nil {
		return nil, false, fmt.Errorf("%s at offset %d: %w", s.seg.path(r.body.segment), r.body.offset, err)
	}
	return b, true, nil
}

// Spent returns the coins a block spent, if it has ever been connected.
func (s *Store) Spent(id types.Hash) ([]consensus.UTXO, bool, error) {
	r, ok, err := s.record(id)
	if err != nil || !ok || r.undo.isZero() {
		return nil, false, err
	}
	raw, err := s.seg.read(kindUndo, id, r.undo)
	if err != nil {
		return nil, false, err
	}
	spent, err := decodeSpent(raw)
	if err != nil {
		return nil, false, fmt.Errorf("%s at offset %d: undo record: %w", s.seg.path(r.undo.segment), r.undo.offset, err)
	}
	return spent, true, nil
}

// Where says in which file a block's body lies.
func (s *Store) Where(id types.Hash) string {
	r, ok, err := s.record(id)
	if err != nil || !ok || r.body.isZero() {
		return "no file"
	}
	return fmt.Sprintf("%s at offset %d", s.seg.path(r.body.segment), r.body.offset)
}

// Coins returns those of the outpoints that are unspent.
func (s *Store) Coins(outpoints []types.OutPoint) (consensus.Coins, error) {
	coins := make(consensus.Coins, len(outpoints))
	if len(outpoints) == 0 {
		return coins, nil
	}
	return coins, s.view(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketUTXO)
		for _, o := range outpoints {
			key := coinKey(o)
			v := bucket.Get(key)
			if v == nil {
				continue
			}
			u, err := decodeCoin(key, v)
			if err != nil {
				return err
			}
			coins[o] = u.Coin
		}
		return nil
	})
}

// Leaves returns the blocks that no stored block builds on.
func (s *Store) Leaves() (ids []types.Hash, err error) {
	return ids, s.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketLeaves).ForEach(func(k, _ []byte) error {
			id, _, err := readHash(k)
			ids = append(ids, id)
			return err
		})
	})
}
