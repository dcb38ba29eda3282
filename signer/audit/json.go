package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Objects are written as RFC 8785 (JSON Canonicalization Scheme) has them: members
// sorted by name, no space, the shortest escapes. A member without a value is
// left out. So every object has one text, and any RFC 8785 library writes it.
//
// Reading is lax here and made strict by its callers, which write what they have
// read and accept it only if that is the same text.

// object writes one JSON object. Members must come in the order of their names.
type object struct{ b []byte }

func (o *object) member(name string) {
	if n := len(o.b); n > 0 && o.b[n-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), `":`...)
}

// text writes a member unless it is empty.
func (o *object) text(name, value string) {
	if value != "" {
		o.member(name)
		o.b = appendString(o.b, value)
	}
}

// hex writes a member unless it is empty.
func (o *object) hex(name string, value []byte) {
	if len(value) > 0 {
		o.member(name)
		o.b = append(hex.AppendEncode(append(o.b, '"'), value), '"')
	}
}

func (o *object) number(name string, value uint64) {
	o.member(name)
	o.b = strconv.AppendUint(o.b, value, 10)
}

// appendString writes valid UTF-8 as RFC 8785, section 3.2.2.2, has strings.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ':
			b = append(b, c)
		case shortEscape[c] != 0:
			b = append(b, '\\', shortEscape[c])
		default:
			b = hex.AppendEncode(append(b, `\u00`...), []byte{c})
		}
	}
	return append(b, '"')
}

var shortEscape = [' ']byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}

// scanner reads objects whose members come in a fixed order. After an error
// everything it returns is empty.
type scanner struct {
	rest  []byte
	first bool // no member of the object was read yet
	err   error
}

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
		s.rest = nil
	}
}

func (s *scanner) take(c byte) {
	if len(s.rest) == 0 || s.rest[0] != c {
		s.fail("no %q where it should be, before %.20q", c, s.rest)
		return
	}
	s.rest = s.rest[1:]
}

func (s *scanner) begin() {
	s.take('{')
	s.first = true
}

// finish ends the outermost object and the text.
func (s *scanner) finish() error {
	if len(s.rest) > 0 && s.rest[0] == ',' {
		s.fail("unknown, repeated or misplaced member: %.40q", s.rest[1:])
	}
	s.take('}')
	if len(s.rest) > 0 {
		s.fail("%d bytes after the end of the object", len(s.rest))
	}
	return s.err
}

// has reports whether the member name comes next, and moves on to its value.
func (s *scanner) has(name string) bool {
	p := s.rest
	if !s.first {
		if len(p) == 0 || p[0] != ',' {
			return false
		}
		p = p[1:]
	}
	n := len(name)
	if len(p) < n+3 || p[0] != '"' || string(p[1:1+n]) != name || p[1+n] != '"' || p[2+n] != ':' {
		return false
	}
	s.rest, s.first = p[n+3:], false
	return true
}

// quoted returns the string that comes next with its quotes.
func (s *scanner) quoted() []byte {
	s.take('"')
	for i := 0; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '"':
			q := s.rest[: i+1 : i+1]
			s.rest = s.rest[i+1:]
			return q
		}
	}
	s.fail("a string does not end")
	return nil
}

// bare returns the inside of a string member that needs no escapes, nil if it is absent.
func (s *scanner) bare(name string) []byte {
	if !s.has(name) {
		return nil
	}
	if q := s.quoted(); len(q) > 0 {
		return q[:len(q)-1]
	}
	return nil
}

func (s *scanner) text(name string) string {
	q := s.bare(name)
	if bytes.IndexByte(q, '\\') < 0 {
		if !utf8.Valid(q) {
			s.fail("%s is not UTF-8", name)
		}
		return string(q)
	}
	var text string
	if err := json.Unmarshal(append(append([]byte{'"'}, q...), '"'), &text); err != nil {
		s.fail("%s: %w", name, err)
	}
	return text
}

// hex fills all of to, and leaves it alone when the member is absent.
func (s *scanner) hex(name string, to []byte) {
	q := s.bare(name)
	if q == nil {
		return
	}
	if len(q) != 2*len(to) {
		s.fail("%s has %d digits: want %d", name, len(q), 2*len(to))
		return
	}
	if _, err := hex.Decode(to, q); err != nil {
		s.fail("%s: %w", name, err)
	}
}

// number returns 0 when the member is absent.
func (s *scanner) number(name string, bits int) uint64 {
	if !s.has(name) {
		return 0
	}
	n := 0
	for n < len(s.rest) && s.rest[n] >= '0' && s.rest[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(s.rest[:n]), 10, bits)
	if err != nil {
		s.fail("%s: %w", name, err)
		return 0
	}
	s.rest = s.rest[n:]
	return v
}

// errNotCanonical: the text was read, but it is not the one this value has.
var errNotCanonical = errors.New("the JSON is not in its canonical form")
