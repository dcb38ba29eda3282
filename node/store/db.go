package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// schema is the version of the database's format. It rises with every change
// that an older program would misread.
const schema = 2

// The buckets. Heights are big-endian, so that cursors go upwards; all other
// numbers are little-endian.
var (
	bucketMeta      = []byte("meta")      // see the keys below
	bucketIndex     = []byte("index")     // block id → record
	bucketLeaves    = []byte("leaves")    // id of each block without a child → nothing
	bucketBest      = []byte("best")      // height → block id
	bucketUTXO      = []byte("utxo")      // txid ‖ index (big-endian) → consensus.Coin
	bucketProposals = []byte("proposals") // height → block proposed to the signer
	// bucketAuthority is the validator index: consensus.Authority by its id, to
	// which the states of index records refer.
	bucketAuthority = []byte("authority")
	// bucketVotes holds certificates: consensus.Link → consensus.Certificate.
	bucketVotes = []byte("votes")

	keySchema  = []byte("schema")  // u32
	keyNetwork = []byte("network") // network id ‖ name
	keyTip     = []byte("tip")     // block id
	keyTail    = []byte("tail")    // tail
	keyFinal   = []byte("final")   // height u32 ‖ id of the highest final slot
)

// tail is how far the segments are in use, and which Commit left it so.
type tail struct {
	commits uint64
	segment uint32
	size    int64
}

func (t tail) bytes() []byte {
	b := binary.LittleEndian.AppendUint64(nil, t.commits)
	b = binary.LittleEndian.AppendUint32(b, t.segment)
	return binary.LittleEndian.AppendUint64(b, uint64(t.size))
}

func readTail(tx *bolt.Tx) (t tail, err error) {
	d := types.NewDecoder(tx.Bucket(bucketMeta).Get(keyTail))
	t = tail{commits: d.Uint64(), segment: d.Uint32(), size: int64(d.Uint64())}
	return t, d.Finish()
}

// initialise makes the buckets of a new database.
func initialise(tx *bolt.Tx, net *consensus.Network) error {
	for _, name := range [][]byte{bucketMeta, bucketIndex, bucketLeaves, bucketBest, bucketUTXO, bucketProposals, bucketAuthority, bucketVotes} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	return errors.Join(
		meta.Put(keySchema, binary.LittleEndian.AppendUint32(nil, schema)),
		meta.Put(keyNetwork, append(net.ID[:], net.Name...)),
		meta.Put(keyTail, tail{size: durable.FirstOffset}.bytes()),
	)
}

// checkMeta refuses a database of another version or network.
func checkMeta(tx *bolt.Tx, net *consensus.Network) error {
	meta := tx.Bucket(bucketMeta)
	if meta == nil {
		return errors.New("not a chain database")
	}
	d := types.NewDecoder(meta.Get(keySchema))
	switch v := d.Uint32(); {
	case d.Finish() != nil:
		return errors.New("not a chain database: it has no schema version")
	case v > schema:
		return fmt.Errorf("written by a newer version of this program (schema %d, this one knows %d): use that version or another --data directory", v, schema)
	case v < schema:
		return fmt.Errorf("written by an older version of this program (schema %d, this one needs %d): use that version or another --data directory", v, schema)
	}
	d = types.NewDecoder(meta.Get(keyNetwork))
	id, name := d.Hash(), d.Bytes(d.Remaining())
	if d.Err() != nil || id != net.ID {
		return fmt.Errorf("belongs to network %q (%s), not to %q (%s): use another --data directory", name, id, net.Name, net.ID)
	}
	return nil
}

// location is where a record starts. The zero value is nowhere: every segment
// starts with a header.
type location struct {
	segment uint32
	offset  int64
}

func (l location) isZero() bool { return l.offset == 0 }

func (l location) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, l.segment)
	return binary.LittleEndian.AppendUint64(b, uint64(l.offset))
}

func (l *location) decodeFrom(d *types.Decoder) {
	*l = location{segment: d.Uint32(), offset: int64(d.Uint64())}
}

// record is a value of the index.
type record struct {
	entry      Entry
	body, undo location
}

func (r *record) bytes() []byte {
	e := &r.entry
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 320), e.Sequence)
	b = r.undo.appendTo(r.body.appendTo(b))
	b = e.Header.AppendTo(e.State.AppendTo(b))
	b = types.AppendVarBytes(b, []byte(e.Invalid))
	if e.Invalid != "" {
		b = types.AppendVarBytes(append(b, e.InvalidBlock[:]...), []byte(e.Detail))
	}
	return b
}

// readRecord returns the record of a block. It aliases nothing of the database.
func (s *Store) readRecord(tx *bolt.Tx, id types.Hash) (record, bool, error) {
	v := tx.Bucket(bucketIndex).Get(id[:])
	if v == nil {
		return record{}, false, nil
	}
	r, err := s.decodeRecord(tx, id, v)
	return r, true, err
}

func (s *Store) decodeRecord(tx *bolt.Tx, id types.Hash, v []byte) (record, error) {
	d := types.NewDecoder(append([]byte(nil), v...))
	r := record{entry: Entry{Sequence: d.Uint64()}}
	r.body.decodeFrom(d)
	r.undo.decodeFrom(d)
	e := &r.entry
	var authority types.Hash
	e.State, authority = s.net.DecodeState(d)
	e.Header.DecodeFrom(d)
	if e.Invalid = consensus.Rule(d.VarBytes()); e.Invalid != "" {
		e.InvalidBlock = d.Hash()
		e.Detail = string(d.VarBytes())
	}
	e.HasBlock, e.HasUndo = !r.body.isZero(), !r.undo.isZero()
	if err := d.Finish(); err != nil {
		return record{}, fmt.Errorf("index entry of block %s is damaged: %w", id, err)
	}
	if e.State.ID != id {
		return record{}, fmt.Errorf("index entry of block %s is damaged: it is that of %s", id, e.State.ID)
	}
	if !authority.IsZero() {
		var err error
		if e.State.Authority, err = s.authorities.read(tx, authority); err != nil {
			return record{}, fmt.Errorf("index entry of block %s: %w", id, err)
		}
	}
	return r, nil
}

func heightKey(h uint32) []byte { return binary.BigEndian.AppendUint32(nil, h) }

func coinKey(o types.OutPoint) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 36), o.TxID[:]...), o.Index)
}

func decodeCoin(key, value []byte) (consensus.UTXO, error) {
	var u consensus.UTXO
	if len(key) == 36 {
		u.OutPoint = types.OutPoint{TxID: types.Hash(key[:32]), Index: binary.BigEndian.Uint32(key[32:])}
	}
	d := types.NewDecoder(append([]byte(nil), value...))
	u.Coin.DecodeFrom(d)
	if err := d.Finish(); err != nil || len(key) != 36 {
		return u, fmt.Errorf("unspent output %x is damaged: %w", key, err)
	}
	return u, nil
}

// explain names a full disk as such; other errors pass unchanged.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: free some space: %w", durable.ErrDiskFull, err)
	}
	return err
}
