package stratum

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// maxDepth bounds nesting; no Stratum message nests deeper than four.
const maxDepth = 16

var (
	errSyntax = errors.New("not valid JSON")
	errDepth  = errors.New("JSON nested too deeply")
)

// Raw is one JSON value exactly as it stood on the wire, already checked for syntax.
type Raw []byte

// Null reports whether the value is absent or null.
func (r Raw) Null() bool { return len(r) == 0 || string(r) == "null" }

// Text returns the contents of a JSON string; ok is false for any other value.
// A string without escapes is returned without copying.
func (r Raw) Text() (text []byte, ok bool) {
	if len(r) < 2 || r[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(r, '\\') < 0 {
		return r[1 : len(r)-1], true
	}
	var s string
	if json.Unmarshal(r, &s) != nil {
		return nil, false
	}
	return []byte(s), true
}

// Number returns a JSON number, or a string that holds one, as several miners send.
func (r Raw) Number() (float64, bool) {
	text, ok := r.Text()
	if !ok {
		text = r
	}
	f, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
	return f, err == nil
}

// Elements appends the elements of a JSON array to dst until its capacity is
// full, and reports whether the value is an array. Surplus elements are left
// out: devices send more parameters than were ever specified. An absent or
// null value counts as an empty array.
func (r Raw) Elements(dst []Raw) ([]Raw, bool) {
	if r.Null() {
		return dst, true
	}
	s := scanner{b: r}
	if !s.eat('[') {
		return dst, false
	}
	if s.eat(']') {
		return dst, true
	}
	for len(dst) < cap(dst) {
		v, err := s.value(1)
		if err != nil {
			return dst, false
		}
		dst = append(dst, v)
		if !s.eat(',') {
			break
		}
	}
	return dst, true
}

// scanner walks one JSON text. encoding/json takes longer for one share than
// all the hashing it asks for; this one copies and allocates nothing.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) blanks() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// eat skips blanks and then c, if it comes next.
func (s *scanner) eat(c byte) bool {
	s.blanks()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// value returns the next value's bytes.
func (s *scanner) value(depth int) (Raw, error) {
	s.blanks()
	from := s.i
	if err := s.skip(depth); err != nil {
		return nil, err
	}
	return s.b[from:s.i], nil
}

func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	if s.i >= len(s.b) {
		return errSyntax
	}
	switch c := s.b[s.i]; c {
	case '"':
		return s.skipString()
	case '{':
		return s.object(depth, nil)
	case '[':
		return s.array(depth)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) word(w string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return errSyntax
	}
	s.i += len(w)
	return nil
}

func (s *scanner) skipString() error {
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return nil
		case c < 0x20:
			return errSyntax
		case c == '\\':
			s.i++
			if err := s.escape(); err != nil {
				return err
			}
		}
	}
	return errSyntax
}

// escape checks the character after a backslash and leaves i on its last byte.
func (s *scanner) escape() error {
	if s.i >= len(s.b) {
		return errSyntax
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			s.i++
			if s.i >= len(s.b) || hexDigit(s.b[s.i]) > 15 {
				return errSyntax
			}
		}
		return nil
	}
	return errSyntax
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) at(set string) bool {
	return s.i < len(s.b) && bytes.IndexByte([]byte(set), s.b[s.i]) >= 0
}

func (s *scanner) number() error {
	if s.at("-") {
		s.i++
	}
	if s.at("0") {
		s.i++
	} else if !s.digits() {
		return errSyntax
	}
	if s.at(".") {
		s.i++
		if !s.digits() {
			return errSyntax
		}
	}
	if s.at("eE") {
		s.i++
		if s.at("+-") {
			s.i++
		}
		if !s.digits() {
			return errSyntax
		}
	}
	return nil
}

func (s *scanner) array(depth int) error {
	s.i++
	if s.eat(']') {
		return nil
	}
	for {
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		if s.eat(']') {
			return nil
		}
		if !s.eat(',') {
			return errSyntax
		}
	}
}

// object walks an object and stores the members that req knows (req may be nil).
func (s *scanner) object(depth int, req *Request) error {
	s.i++
	if s.eat('}') {
		return nil
	}
	for {
		s.blanks()
		from := s.i
		if s.i >= len(s.b) || s.b[s.i] != '"' {
			return errSyntax
		}
		if err := s.skipString(); err != nil {
			return err
		}
		key := s.b[from+1 : s.i-1]
		if !s.eat(':') {
			return errSyntax
		}
		v, err := s.value(depth + 1)
		if err != nil {
			return err
		}
		if req != nil {
			req.member(key, v)
		}
		if s.eat('}') {
			return nil
		}
		if !s.eat(',') {
			return errSyntax
		}
	}
}
