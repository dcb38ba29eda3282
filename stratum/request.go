package stratum

import (
	"errors"
	"fmt"
)

// Request is one client line. Its fields point into the line it was parsed from.
type Request struct {
	// ID is the raw id token: clients send numbers, floats, strings and null
	// and compare the answer byte for byte, so it is echoed and never parsed.
	// An absent id reads as null.
	ID Raw
	// Method is empty when the line is a Response.
	Method []byte
	// Params is the raw params value; nil when absent.
	Params Raw
	// Response says that the line answers something the server sent; Result is
	// its raw result, nil when absent.
	Response bool
	Result   Raw

	method Raw
	answer bool
}

// member takes one member of the request object; unknown ones (a Whatsminer
// sends "ttl") are ignored, and of repeated ones the last counts.
func (q *Request) member(key []byte, v Raw) {
	switch string(key) {
	case "id":
		q.ID = v
	case "method":
		q.method = v
	case "params":
		q.Params = v
	case "result":
		q.Result, q.answer = v, true
	case "error":
		q.answer = true
	}
}

// ParseRequest parses one line into q without copying. The error says what is
// wrong with the line; q.ID is then still the line's id if that much could be read.
func ParseRequest(line []byte, q *Request) error {
	*q = Request{}
	s := scanner{b: line}
	err := s.document(q)
	if q.ID == nil {
		q.ID = Raw("null")
	}
	if err != nil {
		return err
	}
	if q.method.Null() && q.answer {
		q.Response = true
		return nil
	}
	method, ok := q.method.Text()
	if !ok || len(method) == 0 {
		return errors.New(`no "method" string in the request`)
	}
	q.Method = method
	return nil
}

// document parses the whole text, which must be one object.
func (s *scanner) document(q *Request) error {
	s.blanks()
	if s.i >= len(s.b) || s.b[s.i] != '{' {
		return fmt.Errorf("%w: a request is one object on one line", errSyntax)
	}
	if err := s.object(1, q); err != nil {
		return err
	}
	s.blanks()
	if s.i != len(s.b) {
		return fmt.Errorf("%w: text after the request object", errSyntax)
	}
	return nil
}
