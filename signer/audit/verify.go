package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// VerifyOptions say what a log is held against.
type VerifyOptions struct {
	// Network, unless null, is the one the log must belong to.
	Network types.Hash
	// Anchors are heads that must be in the log, such as signed blocks carry.
	Anchors []Head
	// Head, unless nil, is the head the log must end with.
	Head *Head
	// Signatures asks for the signatures in entries to be verified with the key and
	// digest beside them: some 6,000 a second.
	Signatures bool
	// Progress, unless nil, is told now and then how many bytes are checked.
	Progress func(done, of int64)
	Options
}

// Report says what was found: of a broken log, up to the first broken record.
type Report struct {
	Network    types.Hash `json:"network"`
	Files      []FileID   `json:"files"`          // in their order
	From       *Head      `json:"from"`           // of an export that begins later: the record before its first entry, taken on trust
	Entries    uint64     `json:"entries"`        // records that are no headers
	Head       Head       `json:"head"`           // the last good record
	First      time.Time  `json:"first,omitzero"` // time of the first entry; zero if there is none
	Last       time.Time  `json:"last,omitzero"`  // and of the last
	StepsBack  uint64     `json:"stepsBack"`      // entries whose time is before that of the one before: the clock was set back
	Unfinished int64      `json:"unfinished"`     // bytes at the end of a record that was never acknowledged
	Signatures uint64     `json:"signatures"`     // signatures verified
	Anchors    int        `json:"anchors"`        // anchors found
	Anchored   *Head      `json:"anchored"`       // the highest of them
}

// Verify checks every record of the log at path, the chain of their hashes across
// all files, and what the options ask for. It may run while the log is written.
// The error is a *Broken where the log is not what it was (then Report ends
// before that), ErrMissing, ErrNetwork, that of ctx, or that of a disk.
func Verify(ctx context.Context, path string, o VerifyOptions) (Report, error) {
	c := newChecker(o)
	of := totalSize(path, o.Options)
	r := NewReader(path, o.Options)
	read, done := 0, int64(0)
	for record, err := range r.Records(ctx) {
		if err == nil {
			err = c.take(&record)
		}
		if err != nil {
			return c.report, err
		}
		done += recordSize(record.JSON) + int64(len(record.Prev))
		if read++; o.Progress != nil && read%4096 == 0 {
			o.Progress(done, max(done, of))
		}
	}
	c.report.Unfinished = r.Unfinished()
	if o.Progress != nil {
		o.Progress(done, done)
	}
	return c.report, c.end(filePath(path, r.file), r.offset)
}

// totalSize is what there is to read, as far as that can be told: whatever is
// wrong shows when it is read.
func totalSize(path string, o Options) (sum int64) {
	for n := 1; ; n++ {
		f, err := durable.OpenReader(filePath(path, n), o.durable())
		if err != nil {
			return sum
		}
		sum += f.Size()
		_ = f.Close()
	}
}

// checker holds the records of an intact chain against what is expected of them.
type checker struct {
	o       VerifyOptions
	anchors []Head // still to come, by ascending number
	report  Report
}

func newChecker(o VerifyOptions) *checker {
	c := &checker{o: o, anchors: slices.Clone(o.Anchors), report: Report{Files: []FileID{}}}
	slices.SortFunc(c.anchors, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	return c
}

func (c *checker) take(r *Record) error {
	for len(c.anchors) > 0 && c.anchors[0].Seq <= r.Seq {
		a := c.anchors[0]
		if a.Seq < r.Seq {
			return &Broken{a.Seq, r.File, r.Offset, fmt.Sprintf("the anchor %s is before what is there: give an anchor above, or the whole log", a)}
		}
		if a.Hash != r.Hash {
			return &Broken{r.Seq, r.File, r.Offset, fmt.Sprintf("an anchor says that the hash of this record is %s, and it is %s: this record or one before it was replaced, or the anchor is of another log", a.Hash, r.Hash)}
		}
		c.anchors = c.anchors[1:]
		c.report.Anchors++
		c.report.Anchored = &a
	}
	if h := r.Header; h != nil {
		if !c.o.Network.IsZero() && h.Network != c.o.Network {
			return wrongNetwork(r.File, h.Network, c.o.Network)
		}
		c.report.Network, c.report.Files = h.Network, append(c.report.Files, h.File)
	} else {
		if c.o.Signatures && r.Entry.Signature != [64]byte{} {
			if err := r.Entry.Key.Verify(r.Entry.Digest, r.Entry.Signature); err != nil {
				return &Broken{r.Seq, r.File, r.Offset, fmt.Sprintf("the signature in it is not one of its key over its digest: %v", err)}
			}
			c.report.Signatures++
		}
		c.report.entry(&r.Entry)
	}
	c.report.Head = r.Head
	return nil
}

func (r *Report) entry(e *Entry) {
	switch {
	case r.Entries == 0:
		r.First = e.Time
	case e.Time.Before(r.Last):
		r.StepsBack++
	}
	r.Entries++
	r.Last = e.Time
}

// end checks what can be known only at the end, which lies at offset of a file.
func (c *checker) end(file string, offset int64) error {
	head := c.report.Head
	if len(c.anchors) > 0 {
		a := c.anchors[0]
		return &Broken{head.Seq + 1, file, offset, fmt.Sprintf("the log ends with record %d, but there is an anchor at record %d: its end was cut off, or this is an old copy", head.Seq, a.Seq)}
	}
	if want := c.o.Head; want != nil && *want != head {
		switch {
		case want.Seq > head.Seq:
			return &Broken{head.Seq + 1, file, offset, fmt.Sprintf("the log ends with record %d, expected was record %d: its end was cut off, or this is an old copy", head.Seq, want.Seq)}
		case want.Seq < head.Seq:
			return &Broken{want.Seq + 1, file, offset, fmt.Sprintf("the log goes on to record %d, expected was its end at record %d: to check that a head is in the log, give it as an anchor", head.Seq, want.Seq)}
		}
		return &Broken{head.Seq, file, offset, fmt.Sprintf("the hash of the last record is %s, expected was %s: it or one before it was replaced", head.Hash, want.Hash)}
	}
	return nil
}
