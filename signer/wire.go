package signer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"qcitycoin.org/qcity/node/types"
)

// A connection carries lines of JSON, one request or response each. A client says
// hello first, whichever side has dialled; after that it may make any number of requests, one at a time.
//
//	→ {"id":1,"method":"hello","params":{"version":3,"network":"<id>"}}
//	← {"id":1,"result":{"version":3,"network":"<id>"}}
//	→ {"id":2,"method":"sign_slot","params":{Request}}
//	← {"id":2,"result":{Response}}
//	← {"id":2,"error":{"kind":"refused","rule":"slot-stale","detail":"…"}}
const wireVersion = 3

// maxLine bounds a line in bytes: a request with the largest CoinOnline in
// hexadecimal takes 138,000.
const maxLine = 160 << 10

// The methods. Who may call which is in methods.go.
const (
	methodHello      = "hello"       // wireHello → wireHello
	methodStatus     = "status"      // wireNothing → Status
	methodSignSlot   = "sign_slot"   // Request → Response
	methodAttest     = "attest"      // VoteRequest → Response
	methodSlotRecord = "slot_record" // wireHeight → wireSlot
	methodSeen       = "seen"        // SeenRequest → nothing

	// An operator's.
	methodSignSetChange = "sign_set_change" // authority.SetChangeRequest → Response
	methodHalt          = "halt"            // wireHalt → nothing
	methodResume        = "resume"          // wireResume → wireResumed
)

type wireRequest struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

type wireResponse struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

type wireHello struct {
	Version int        `json:"version"`
	Network types.Hash `json:"network"`
}

// wireNothing are the parameters or the result of a method that has none.
type wireNothing struct{}

type wireHalt struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
}

type wireResume struct {
	By string `json:"by"`
}

type wireResumed struct {
	Done bool `json:"done"` // false: a second person is needed
}

type wireHeight struct {
	Height uint32 `json:"height"`
}

type wireSlot struct {
	Record *SlotRecord `json:"record"` // null when there is none
}

// kindRefused marks a Refusal on the wire, where it shares a field with Kind.
const kindRefused = "refused"

type wireError struct {
	Kind   string `json:"kind"`
	Rule   Rule   `json:"rule,omitempty"`
	Detail string `json:"detail"`
}

func toWire(err error) *wireError {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return &wireError{Kind: kindRefused, Rule: refusal.Rule, Detail: refusal.Detail}
	}
	var e *Error
	if errors.As(err, &e) {
		return &wireError{Kind: string(e.Kind), Detail: err.Error()}
	}
	return &wireError{Kind: string(ErrInternal), Detail: err.Error()}
}

func (w *wireError) err() error {
	if w.Kind == kindRefused {
		return &Refusal{Rule: w.Rule, Detail: w.Detail}
	}
	return &Error{Kind: Kind(w.Kind), Detail: w.Detail}
}

// errTooLong means that a line exceeds maxLine.
var errTooLong = errors.New("line is too long")

// readLine reads one line without its end. Memory grows with what arrived,
// never with what was announced, and not beyond maxLine.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, errTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// decodeStrict refuses unknown fields and anything behind the one JSON value.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

func decodeParams(req *wireRequest, v any) error {
	if _, none := v.(*wireNothing); none && len(req.Params) == 0 {
		return nil // may be left out
	}
	if err := decodeStrict(req.Params, v); err != nil {
		return failed(ErrBadRequest, nil, "parameters of %s: %v", req.Method, err)
	}
	return nil
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
