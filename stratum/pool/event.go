package pool

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"

	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool/canon"
	"qcitycoin.org/qcity/stratum/pool/reward"
)

// The kinds of events in a batch; docs/pool.md describes their fields.
const (
	evShare    = 1 + iota
	evBlock    // a share that made a block
	evReject   // how often a worker's shares were refused for one reason
	evParent   // shares belong to another parent block from now on
	evTarget   // the network's target changed
	evWorker   // a worker's number, name and payee
	evForget   // a worker that made room
	evIssued   // an extranonce1 was given out, or its session changed
	evReturned // nobody may resume it any more
	evFound    // a found block
	evSettled  // what became of one
	evRules    // how rewards are divided from now on
	evMissing  // so many shares are counted, but not in the journal one by one
)

// Kinds of records in a segment.
const (
	recSnapshot = 'S'
	recBatch    = 'B'
)

// maxNote bounds the note of a found block, in bytes.
const maxNote = 7 << 20

// batch builds a record of events: 'B' ‖ number of the first event ‖ base time
// in milliseconds since 1970 (signed) ‖ events. The zero value is empty.
type batch struct {
	b     []byte
	first uint64
	last  uint64
	base  int64 // unix milliseconds
	// shares in it, and those that its evMissing are about, should it be lost
	shares, missing uint64
}

// event appends the head of an event that has number seq.
func (b *batch) event(seq uint64, at int64, kind byte) {
	if len(b.b) == 0 {
		b.first, b.base = seq, at
		b.b = append(b.b, recBatch)
		b.b = binary.AppendUvarint(b.b, seq)
		b.b = binary.AppendVarint(b.b, at)
	}
	b.last = seq
	b.b = append(b.b, kind)
	b.b = binary.AppendVarint(b.b, at-b.base)
}

func (b *batch) num(v uint64)   { b.b = binary.AppendUvarint(b.b, v) }
func (b *batch) signed(v int64) { b.b = binary.AppendVarint(b.b, v) }
func (b *batch) bytes(v []byte) { b.b = append(b.b, v...) }
func (b *batch) text(v string)  { b.b = canon.AppendBytes(b.b, v) }

// difficulty is written with its bytes reversed, as powers of two then are short.
func (b *batch) difficulty(d float64) { b.num(bits.ReverseBytes64(math.Float64bits(d))) }

func readDifficulty(r *canon.Reader) float64 {
	return math.Float64frombits(bits.ReverseBytes64(r.Uvarint()))
}

// event is one event as it is read. Which fields have a meaning depends on the kind.
type event struct {
	seq    uint64
	kind   byte
	at     time.Time
	worker uint32 // 0: none
	share  Share
	reason Reason
	count  uint64
	hash   [32]byte // parent or target
	name   string
	payee  string
	prefix Prefix
	found  reward.Found
	state  reward.State
	rules  reward.Rules
}

// readBatch calls yield for each event of a batch until that returns false.
// record is without its first byte. What yield gets is valid until it returns.
func readBatch(record []byte, yield func(*event) error) error {
	r := canon.NewReader(record)
	seq, base := r.Uvarint(), r.Varint()
	for ; r.Len() > 0; seq++ {
		e := event{seq: seq, kind: r.Byte(), at: time.UnixMilli(base + r.Varint()).UTC()}
		e.read(r)
		if r.Err() != nil {
			break
		}
		if err := yield(&e); err != nil {
			return err
		}
	}
	return r.Done()
}

func (e *event) read(r *canon.Reader) {
	switch e.kind {
	case evShare, evBlock:
		e.worker, e.share.Difficulty, e.share.Hash = readID(r), readDifficulty(r), r.Hash()
		e.share.Real, e.share.Block = stratum.HashDifficulty(e.share.Hash), e.kind == evBlock
	case evReject:
		e.worker, e.reason, e.count = readID(r), Reason(r.Byte()), r.Uvarint()
		if e.reason >= reasons {
			r.Failf("reason %d is not known", int(e.reason))
		}
	case evParent, evTarget:
		e.hash = r.Hash()
	case evWorker:
		e.worker, e.name, e.payee = readID(r), r.String(MaxName), r.String(MaxName)
	case evForget:
		e.worker = readID(r)
	case evIssued:
		e.prefix.Issued = e.at
		readPrefix(r, &e.prefix)
	case evReturned:
		r.Fixed(e.prefix.Extranonce1[:])
	case evFound:
		e.found = reward.Found{ID: r.Hash(), Height: uint32(r.Uvarint()), Time: time.UnixMilli(r.Varint()).UTC(), Reward: r.Amount(), Finder: r.String(MaxName), Note: r.Bytes(maxNote)}
	case evSettled:
		e.hash, e.state = r.Hash(), reward.State(r.Byte())
	case evRules:
		e.rules = reward.Rules{Mode: reward.Mode(r.Byte()), Fee: r.Amount(), Factor: r.Uvarint(), MinPayout: r.Amount()}
	case evMissing:
		e.count = r.Uvarint()
	default:
		r.Failf("an event of kind %d is not known to this program: use the version that wrote it", e.kind)
	}
}

func readID(r *canon.Reader) uint32 {
	id := r.Uvarint()
	if id > math.MaxUint32 {
		r.Failf("worker %d cannot be", id)
	}
	return uint32(id)
}

func readPrefix(r *canon.Reader, p *Prefix) {
	r.Fixed(p.Extranonce1[:])
	p.Difficulty = readDifficulty(r)
	for range r.Count(1) {
		p.Workers = append(p.Workers, r.String(MaxName))
	}
}

func (b *batch) prefix(p *Prefix) {
	b.bytes(p.Extranonce1[:])
	b.difficulty(p.Difficulty)
	b.num(uint64(len(p.Workers)))
	for _, name := range p.Workers {
		b.text(name)
	}
}
