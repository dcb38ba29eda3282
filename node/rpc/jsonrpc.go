package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"qcitycoin.org/qcity/node/types"
)

// answer answers the body of a request. An empty answer goes with status 204.
func (s *Server) answer(ctx context.Context, body []byte) (status int, answer []byte) {
	var calls []json.RawMessage
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '[' || json.Unmarshal(body, &calls) != nil {
		reply, status := s.one(ctx, body)
		return status, reply
	}
	if len(calls) == 0 || len(calls) > maxBatch {
		return http.StatusBadRequest, encodeReply(nil, false, nil, fail(codeInvalidRequest, "a batch holds 1 to %d calls", maxBatch))
	}
	out := []byte{'['}
	for _, call := range calls {
		do := s.one
		if len(out) > maxAnswer {
			do = refuseRest
		}
		if reply, _ := do(ctx, call); reply != nil {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, reply...)
		}
	}
	if len(out) == 1 {
		return http.StatusNoContent, nil // notifications only
	}
	return http.StatusOK, append(out, ']')
}

// refuseRest answers the calls of a batch that ask for too much.
func refuseRest(_ context.Context, body []byte) (reply []byte, status int) {
	r, e := parseRequest(body)
	if e == nil {
		e = fail(codeMisc, "not called: the batch's answers before this one have more than %d bytes already", maxAnswer)
	}
	return encodeReply(r.ID, r.v2, nil, e), http.StatusOK
}

// request is a call as it came. Members are decoded one by one, so that a
// wrong one can be answered with the id of its call.
type request struct {
	Version json.RawMessage `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  json.RawMessage `json:"method"`
	Params  json.RawMessage `json:"params"`

	v2     bool
	method string
}

func parseRequest(body []byte) (r request, e *Error) {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(body, &r); errors.As(err, &syntax) {
		return request{}, fail(codeParse, "request is not JSON: %v at byte %d", err, syntax.Offset)
	} else if err != nil || string(bytes.TrimSpace(body)) == "null" {
		return request{}, fail(codeInvalidRequest, "a call is an object with method, params and id")
	}
	switch string(r.Version) {
	case "", "null", `"1.0"`, `"1.1"`:
	case `"2.0"`:
		r.v2 = true
	default:
		return r, fail(codeInvalidRequest, "jsonrpc %s is not supported: use \"1.0\" or \"2.0\"", r.Version)
	}
	if len(r.Method) == 0 || string(r.Method) == "null" {
		return r, fail(codeInvalidRequest, "method is missing")
	}
	if json.Unmarshal(r.Method, &r.method) != nil {
		return r, fail(codeInvalidRequest, "method must be a string")
	}
	return r, nil
}

// one answers a single call. A nil reply is a JSON-RPC 2.0 notification.
func (s *Server) one(ctx context.Context, body []byte) (reply []byte, status int) {
	r, e := parseRequest(body)
	var result any
	if e == nil {
		var err error
		if result, err = s.call(ctx, r.method, r.Params); err != nil {
			e = s.errorOf(r.method, err)
		}
		if r.v2 && r.ID == nil {
			return nil, http.StatusNoContent
		}
	}
	return encodeReply(r.ID, r.v2, result, e), httpStatus(r.v2, e)
}

// errorOf returns what the caller sees of an error.
func (s *Server) errorOf(method string, err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		s.log.Error("rpc call failed", "method", method, "err", err)
		e = fail(codeInternal, "%v", err)
	}
	return e
}

// httpStatus: bitcoind answers 1.x errors with an HTTP error, and clients rely on it.
func httpStatus(v2 bool, e *Error) int {
	switch {
	case v2 || e == nil:
		return http.StatusOK
	case e.Code == codeUnknownMethod:
		return http.StatusNotFound
	case e.Code == codeInvalidRequest:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func encodeReply(id json.RawMessage, v2 bool, result any, e *Error) []byte {
	if id == nil {
		id = json.RawMessage("null")
	}
	var reply any
	switch {
	case v2 && e != nil:
		reply = struct {
			Version string          `json:"jsonrpc"`
			Error   *Error          `json:"error"`
			ID      json.RawMessage `json:"id"`
		}{"2.0", e, id}
	case v2:
		reply = struct {
			Version string          `json:"jsonrpc"`
			Result  any             `json:"result"`
			ID      json.RawMessage `json:"id"`
		}{"2.0", result, id}
	default:
		reply = struct {
			Result any             `json:"result"`
			Error  *Error          `json:"error"`
			ID     json.RawMessage `json:"id"`
		}{result, e, id}
	}
	b, err := json.Marshal(reply)
	if err != nil {
		return encodeReply(id, v2, nil, fail(codeInternal, "encode answer: %v", err))
	}
	return b
}

// Error is a JSON-RPC error with bitcoind's codes.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

func fail(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// bitcoind's error codes (its src/rpc/protocol.h), which client software tests for.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeUnknownMethod  = -32601
	codeInternal       = -32603
	codeMisc           = -1
	codeType           = -3
	codeNotFound       = -5
	codeParameter      = -8
	codeShuttingDown   = -9
	codeNotReady       = -10
	codeDeserialise    = -22
	codeVerify         = -25
	codeRejected       = -26
	codeInChain        = -27
)

func decodeHex[T any](what, digits string, decode func([]byte) (T, error)) (T, error) {
	b, err := hex.DecodeString(digits)
	if err != nil {
		var zero T
		return zero, fail(codeDeserialise, "%s: %v", what, err)
	}
	v, err := decode(b)
	if err != nil {
		return v, fail(codeDeserialise, "%s decode failed: %v", what, err)
	}
	return v, nil
}

func parseHash(name, text string) (types.Hash, error) {
	h, err := types.ParseHash(text)
	if err != nil {
		return h, fail(codeParameter, "%s: %v", name, err)
	}
	return h, nil
}
