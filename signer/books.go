package signer

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer/audit"
)

// books are what the service remembers of its answers: counters, the audit log
// and the log for people.
type books struct {
	audit Audit
	now   func() time.Time
	log   *slog.Logger
	// noise bounds how fast answers that release nothing new fill the audit log:
	// whoever asks decides how many of them there are.
	noise *rate.Limiter

	mu       sync.Mutex
	signed   uint64
	repeated uint64
	failures uint64
	refusals map[Rule]uint64
	unlogged uint64            // answers without an entry since the last one with
	anchor   uint64            // entry that the last block carried
	seen     bool              // a node has called Seen
	booked   map[[64]byte]bool // signatures with an entry of this process
}

const (
	noisePerSecond = 2
	noiseBurst     = 200
)

// maxBooked bounds what is remembered of what was booked.
const maxBooked = 4096

func newBooks(a Audit, now func() time.Time, log *slog.Logger) books {
	return books{audit: a, now: now, log: log, noise: rate.NewLimiter(noisePerSecond, noiseBurst), refusals: make(map[Rule]uint64), booked: make(map[[64]byte]bool)}
}

// subject says what a request is about.
type subject struct {
	kind   audit.Kind
	height uint32
}

func (b *books) entry(e audit.Event, about subject, t *task) audit.Entry {
	entry := audit.Entry{Time: b.now(), Event: e, Kind: about.kind, Height: about.height}
	if t != nil {
		entry.Key, entry.Digest, entry.Actor = t.claimed.Key, t.claimed.Digest, t.actor
	}
	return entry
}

// released books a signature that is about to be released. After an error it
// must not be: what an auditor cannot know of did not happen.
func (b *books) released(about subject, t *task, sig [64]byte, repeated bool) error {
	log := b.log.With("kind", string(about.kind), "height", about.height, "key", t.claimed.Key)
	e := b.entry(audit.EventSigned, about, t)
	e.Signature, e.Detail = sig, t.detail
	b.mu.Lock()
	known := b.booked[sig]
	b.mu.Unlock()
	if repeated {
		e.Event = audit.EventRepeated
	}
	if repeated && known {
		log.Info("returned the sealed signature again")
		b.quietly(e)
		return b.again()
	}
	// A repeat that this process has not booked may be one whose first release a
	// crash cut off between the seal and the audit log.
	if _, err := b.audit.Append(e); err != nil {
		return failed(ErrInternal, err, "the audit log cannot be written, so the signature is kept back: ask again for the same once it can")
	}
	b.mu.Lock()
	if len(b.booked) == maxBooked {
		clear(b.booked)
	}
	b.booked[sig] = true
	b.mu.Unlock()
	if repeated {
		log.Info("returned the sealed signature again")
		return b.again()
	}
	b.mu.Lock()
	b.signed++
	if t.anchor != nil {
		b.anchor = max(b.anchor, t.anchor.Seq)
	}
	b.mu.Unlock()
	log.Info("signed")
	return nil
}

func (b *books) again() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.repeated++
	return nil
}

// refused books why nothing is released, and returns that.
func (b *books) refused(about subject, t *task, err error) error {
	log := b.log.With("kind", string(about.kind), "height", about.height)
	var refusal *Refusal
	e := b.entry(audit.EventFailed, about, t)
	e.Detail = err.Error()
	b.mu.Lock()
	if errors.As(err, &refusal) {
		b.refusals[refusal.Rule]++
		e.Event, e.Rule, e.Detail = audit.EventRefused, string(refusal.Rule), refusal.Detail
	} else {
		b.failures++
	}
	b.mu.Unlock()
	if refusal != nil {
		log.Warn("refused to sign", "rule", string(refusal.Rule), "detail", refusal.Detail)
	} else {
		log.Error("could not sign", "err", err)
	}
	b.quietly(e)
	return err
}

// quietly writes an entry about which nothing is released. When there are too
// many, their number goes into the next one.
func (b *books) quietly(e audit.Entry) {
	b.mu.Lock()
	if !b.noise.AllowN(b.now(), 1) {
		b.unlogged++
		b.mu.Unlock()
		return
	}
	if b.unlogged > 0 {
		e.Detail = fmt.Sprintf("(%d answers before this one were not logged, as there were too many) %s", b.unlogged, e.Detail)
		b.unlogged = 0
	}
	b.mu.Unlock()
	b.note(e)
}

// note writes an entry that nothing waits for.
func (b *books) note(e audit.Entry) {
	if _, err := b.audit.Append(e); err != nil {
		b.log.Error("the audit log cannot be written", "event", string(e.Event), "err", err)
	}
}

func (b *books) told() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

func (b *books) anchoredBefore() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.anchor
}

func (b *books) count(st *Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st.Signed, st.Repeated, st.Failed, st.Refusals, st.Told = b.signed, b.repeated, b.failures, maps.Clone(b.refusals), b.seen
	head := b.audit.Head()
	st.Audit = &consensus.AuditAnchor{Seq: head.Seq, Head: head.Hash}
}
