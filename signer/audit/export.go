package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// AppendLine writes a record as a line of an export has it, without the newline:
// a canonical JSON object.
func (r *Record) AppendLine(b []byte) []byte {
	o := object{append(b, '{')}
	o.member("entry")
	o.b = append(o.b, r.JSON...)
	o.hash("hash", r.Hash)
	o.hash("prev", r.Prev)
	o.number("seq", r.Seq)
	return append(o.b, '}')
}

// parseLine reads what AppendLine writes, for the record's Head, Prev and JSON.
func parseLine(b []byte, scratch *[]byte) (r Record, err error) {
	s := scanner{rest: b}
	s.begin()
	if s.has("entry") {
		r.JSON = s.flat()
	}
	r.Hash, r.Prev = s.hash("hash"), s.hash("prev")
	r.Seq = s.number("seq", 64)
	if err := s.finish(); err != nil {
		return Record{}, err
	}
	return r, same(b, r.AppendLine((*scratch)[:0]), scratch)
}

// flat returns the text of an object that holds no other.
func (s *scanner) flat() []byte {
	start := s.rest
	for s.take('{'); s.err == nil && len(s.rest) > 0; {
		switch s.rest[0] {
		case '"':
			s.quoted()
		case '}':
			s.take('}')
			return start[: len(start)-len(s.rest) : len(start)-len(s.rest)]
		default:
			s.rest = s.rest[1:]
		}
	}
	s.fail("an object does not end")
	return nil
}

// Export writes the records of the log at path from number from on as JSON
// lines. The first line is always the header of the file that from is in.
// What it writes is checked; at a broken record it ends with the error.
func Export(ctx context.Context, w io.Writer, path string, from uint64, o Options) error {
	r, err := From(path, from, o)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	var b []byte
	first := true
	var last Head
	for record, err := range r.Records(ctx) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		last = record.Head
		if first || record.Seq >= from {
			b = append(record.AppendLine(b[:0]), '\n')
			if _, err := out.Write(b); err != nil {
				return fmt.Errorf("writing the export: %w", err)
			}
		}
		first = false
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	if from > last.Seq {
		return fault(ErrSequence, "the audit log has no record %d: its last one is %d", from, last.Seq)
	}
	return nil
}

// maxLine bounds a line of an export, in bytes.
const maxLine = maxRecord + 512

// VerifyExport checks an export by itself, as Verify checks a log; its errors
// are the same. Of an export that does not begin with the first record, what comes
// before From is taken on trust.
func VerifyExport(ctx context.Context, in io.Reader, o VerifyOptions) (Report, error) {
	c := newChecker(o)
	x := exportReader{chain: chain{anywhere: true}}
	lines := bufio.NewReaderSize(in, maxLine)
	for {
		b, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(b) == 0:
			if !x.chain.started {
				return c.report, x.broken("the export is empty")
			}
			return c.report, c.end("", x.offset)
		case errors.Is(err, io.EOF):
			return c.report, x.broken("the line does not end: the export was cut off")
		case errors.Is(err, bufio.ErrBufferFull):
			return c.report, x.broken(fmt.Sprintf("the line is longer than %d bytes", maxLine))
		case err == nil:
			err = ctx.Err()
		}
		if err != nil {
			return c.report, err
		}
		record, err := x.take(bytes.TrimSuffix(b, []byte{'\n'}))
		if err == nil {
			err = c.take(&record)
		}
		if err != nil {
			return c.report, err
		}
		c.report.From = x.from
		x.offset += int64(len(b))
	}
}

type exportReader struct {
	chain   chain
	offset  int64
	lines   int
	from    *Head // what is before the first entry, of an export that begins later
	scratch []byte
}

func (x *exportReader) take(b []byte) (Record, error) {
	line, err := parseLine(b, &x.scratch)
	if err != nil {
		return Record{}, x.broken(fmt.Sprintf("the line is no record: %v", err))
	}
	// After the first header there may be a gap: the export begins in this file.
	if x.lines++; x.lines == 2 && line.Seq > x.chain.next() {
		x.from = &Head{line.Seq - 1, line.Prev}
		x.chain.head = *x.from
	}
	record, err := x.chain.add(line.Prev, line.JSON)
	switch {
	case err != nil:
		return Record{}, x.broken(err.Error())
	case record.Seq != line.Seq:
		return Record{}, &Broken{record.Seq, "", x.offset, fmt.Sprintf("the line says that it is record %d", line.Seq)}
	case record.Hash != line.Hash:
		return Record{}, &Broken{record.Seq, "", x.offset, fmt.Sprintf("the line says that its hash is %s, and it is %s", line.Hash, record.Hash)}
	}
	if x.lines == 1 && record.Seq > 0 {
		x.from = &Head{record.Seq - 1, line.Prev}
	}
	record.Offset = x.offset
	return record, nil
}

func (x *exportReader) broken(reason string) error {
	return &Broken{Seq: x.chain.next(), Offset: x.offset, Reason: reason}
}
