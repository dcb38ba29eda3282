package stratum

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// DefaultLineLimit is the longest line read from a peer, in bytes. The longest
// honest client line (a configure with every extension) is under 1 KiB.
const DefaultLineLimit = 8 << 10

// initialLineBuffer holds every common client line; an idle session keeps no more.
const initialLineBuffer = 512

// ErrLineTooLong is wrapped by ReadLine when a line exceeds the limit.
var ErrLineTooLong = errors.New("line too long")

// LineReader cuts a stream into lines without ever holding more than its limit:
// the buffer grows only while a line needs it, and never beyond.
type LineReader struct {
	r     io.Reader
	buf   []byte
	start int // unread bytes are buf[start:end]
	end   int
	limit int
	begun atomic.Int64 // when the unfinished line was first seen, unix nanoseconds; 0 if there is none
}

// NewLineReader reads lines of at most limit bytes (line end included) from r.
// A limit that is not positive means DefaultLineLimit.
func NewLineReader(r io.Reader, limit int) *LineReader {
	if limit <= 0 {
		limit = DefaultLineLimit
	}
	return &LineReader{r: r, limit: limit}
}

// Unread returns what was read and not yet returned as a line.
func (l *LineReader) Unread() []byte { return l.buf[l.start:l.end] }

// Push makes b, which somebody else read, the first input and its memory the
// reader's own. Call it before reading.
func (l *LineReader) Push(b []byte) {
	l.buf = b[:cap(b)]
	l.start, l.end = 0, len(b)
}

// ReadLine returns the next line that is not blank, without its line end and
// surrounding blanks. The slice is valid until the next call. A last line
// without line end is not returned: it may have been cut.
func (l *LineReader) ReadLine() ([]byte, error) {
	searched := 0 // bytes after start already known to hold no line end
	for {
		pending := l.buf[l.start:l.end]
		if i := bytes.IndexByte(pending[searched:], '\n'); i >= 0 {
			line := bytes.Trim(pending[:searched+i], " \t\r")
			l.start += searched + i + 1
			if searched > 0 {
				l.begun.Store(0)
			}
			searched = 0
			if len(line) == 0 {
				continue
			}
			return line, nil
		}
		searched = len(pending)
		if searched > 0 && l.begun.Load() == 0 {
			l.begun.Store(time.Now().UnixNano())
		}
		if searched >= l.limit {
			return nil, fmt.Errorf("%w: no line end within %d bytes", ErrLineTooLong, l.limit)
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

// Begun tells since when a line is unfinished, and whether there is one. It may
// be called while another goroutine reads.
func (l *LineReader) Begun() (since time.Time, ok bool) {
	at := l.begun.Load()
	return time.Unix(0, at), at != 0
}

// Buffered reports whether ReadLine would return without reading, so that a
// server can gather the answers to a burst into one write.
func (l *LineReader) Buffered() bool {
	return bytes.IndexByte(l.buf[l.start:l.end], '\n') >= 0
}

// fill reads once, making room first.
func (l *LineReader) fill() error {
	if l.start > 0 {
		l.end = copy(l.buf, l.buf[l.start:l.end])
		l.start = 0
	}
	if l.end == len(l.buf) {
		grown := make([]byte, min(max(2*len(l.buf), initialLineBuffer), l.limit))
		copy(grown, l.buf)
		l.buf = grown
	}
	for range 100 { // as bufio: a reader that keeps returning nothing is broken
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		if n > 0 {
			return nil // an error that came with data comes again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
