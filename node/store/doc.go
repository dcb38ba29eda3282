// Package store keeps a chain in a directory: block bodies and undo records in
// append-only segment files, everything else in one bbolt database.
//
// A Commit appends to the segments and syncs them, then commits the database,
// which notes how far the segments are in use. A crash in between leaves bytes
// after that point; Open cuts them off. There is no other recovery, and no
// state in which a part of a Commit can be seen.
//
// The files:
//
//	LOCK              locked while the store is open
//	index.db          bbolt, see the buckets in db.go
//	blocks-00000.seg  records of internal/durable: a kind byte, the block's id
//	                  (32 bytes), then the block, or the coins it spent as
//	                  (txid, index u32, consensus.Coin)…
package store
