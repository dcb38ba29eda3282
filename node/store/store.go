package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Entry and Batch are node/chain's types of these names, described there.
type (
	Entry = struct {
		Header            types.SignedHeader
		State             consensus.State
		Sequence          uint64
		HasBlock, HasUndo bool
		Invalid           consensus.Rule
		Detail            string
		InvalidBlock      types.Hash
	}
	Batch = struct {
		Entries []Entry
		Blocks  []*types.Block
		Spent   map[types.Hash][]consensus.UTXO
		Best    map[uint32]types.Hash
		Tip     types.Hash
		Coins   map[types.OutPoint]*consensus.Coin

		Certificates []consensus.Certificate
		Forget       []consensus.Link
		Final        consensus.Checkpoint
	}
)

// Options change how Open opens.
type Options struct {
	// ReadOnly changes nothing, not even to cut off what a crash left. The
	// directory must hold a chain.
	ReadOnly bool
}

// Store is the chain in a directory. Its methods are those that node/chain's
// Store describes, and the proposals. It is safe for concurrent use, with
// one Commit at a time.
type Store struct {
	dir  string
	net  *consensus.Network
	lock *durable.DirLock
	db   *bolt.DB
	seg  *segments

	authorities authorities

	mu     sync.Mutex // held by writers
	broken error      // set when it is not known what is durable
}

const indexName = "index.db"

// Open opens the store in dir, which it makes if need be, and takes the sole
// right to it: the error wraps durable.ErrInUse if another process has it. A
// store of another network or of another version of the format is refused.
func Open(dir string, net *consensus.Network, o Options) (*Store, error) {
	if !o.ReadOnly {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the chain's directory: %w", explain(err))
		}
	} else if _, err := os.Stat(filepath.Join(dir, indexName)); err != nil {
		return nil, fmt.Errorf("there is no chain in %s: was a node ever started with this data directory? (%w)", dir, err)
	}
	lock, err := durable.LockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the chain: %w", err)
	}
	s := &Store{dir: dir, net: net, lock: lock, seg: &segments{dir: dir, limit: segmentBytes, open: make(map[uint32]*durable.AppendFile)}}
	if err := s.open(o); err != nil {
		return nil, fmt.Errorf("opening the chain in %s: %w", dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) open(o Options) error {
	// The directory is ours, so whoever has this file locked is not one of us.
	path := filepath.Join(s.dir, indexName)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: o.ReadOnly, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("%s: %w", path, explain(err))
	}
	s.db = db
	var t tail
	look := func(tx *bolt.Tx) error {
		if err := checkMeta(tx, s.net); err != nil {
			return err
		}
		t, err = readTail(tx)
		return err
	}
	if !o.ReadOnly {
		err = s.create()
	}
	if err == nil {
		err = db.View(look)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, explain(err))
	}
	return s.seg.recover(t, o.ReadOnly)
}

// create fills a database that is empty and makes the directory's new names
// durable.
func (s *Store) create() error {
	empty := false
	err := s.db.View(func(tx *bolt.Tx) error {
		name, _ := tx.Cursor().First()
		empty = name == nil
		return nil
	})
	if err != nil || !empty {
		return err
	}
	if err := s.db.Update(func(tx *bolt.Tx) error { return initialise(tx, s.net) }); err != nil {
		return err
	}
	for _, dir := range []string{s.dir, filepath.Dir(s.dir)} {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Close releases everything. Nothing has to be written for that.
func (s *Store) Close() error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	errs = append(errs, s.seg.close(), s.lock.Unlock())
	return errors.Join(errs...)
}

// Check looks for damage in the database: the pages and their references.
// Records in segments have checksums and are checked whenever they are read.
func (s *Store) Check() error {
	return s.view(func(tx *bolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			if len(errs) < 10 {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// view reads the database; errors name its file.
func (s *Store) view(read func(*bolt.Tx) error) error {
	err := s.db.View(read)
	if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Join(s.dir, indexName), err)
	}
	return err
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }
