package rpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// cookieUser is the user name of bitcoind's cookie.
const cookieUser = "__cookie__"

// Config says how calls are authorised and what the server calls itself.
type Config struct {
	// CookieFile is written at start, mode 0600, and removed at the end.
	CookieFile string
	// Version of the software, for getnetworkinfo.
	Version string
}

// Server answers JSON-RPC calls over HTTP.
type Server struct {
	cfg     Config
	chain   Chain
	pool    Pool
	mining  Mining
	log     *slog.Logger
	started time.Time
	methods map[string]method
	auth    [sha256.Size]byte
}

// New returns a server that has not started.
func New(cfg Config, chain Chain, pool Pool, mining Mining, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, chain: chain, pool: pool, mining: mining, log: log, started: time.Now()}
	s.methods = s.table()
	return s
}

// Run serves on l until ctx ends. It writes the cookie first.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if err := s.writeCookie(); err != nil {
		_ = l.Close()
		return err
	}
	defer os.Remove(s.cfg.CookieFile)
	// No write timeout: long polls may wait for a block.
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		done <- server.Shutdown(stop)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("rpc server: %w", err)
	}
	if err := <-done; err != nil {
		_ = server.Close()
	}
	return nil
}

func (s *Server) writeCookie() error {
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("make rpc cookie: %w", err)
	}
	cookie := cookieUser + ":" + hex.EncodeToString(secret[:])
	s.auth = sha256.Sum256([]byte(cookie))
	// Removed first, so that the mode below is what a stale file gets too.
	if err := os.Remove(s.cfg.CookieFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old rpc cookie: %w", err)
	}
	if err := os.WriteFile(s.cfg.CookieFile, []byte(cookie), 0o600); err != nil {
		return fmt.Errorf("write rpc cookie: %w", err)
	}
	return nil
}

func (s *Server) authorised(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	sum := sha256.Sum256([]byte(user + ":" + password))
	return ok && subtle.ConstantTimeCompare(sum[:], s.auth[:]) == 1
}

// ServeHTTP answers one request: a call or a batch of calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "JSON-RPC takes POST", http.StatusMethodNotAllowed)
		return
	}
	if !s.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="qcity"`)
		http.Error(w, "wrong or missing cookie: use the content of "+s.cfg.CookieFile+" as user:password", http.StatusUnauthorized)
		return
	}
	// A block travels as hexadecimal digits; a little more for the envelope.
	limit := int64(2*s.chain.Network().MaxBlockBytes) + 64<<10
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		http.Error(w, fmt.Sprintf("request is larger than %d bytes or was cut off", limit), http.StatusRequestEntityTooLarge)
		return
	}
	status, answer := s.answer(r.Context(), body)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if len(answer) > 0 {
		_, _ = w.Write(append(answer, '\n'))
	}
}

func (s *Server) answer(ctx context.Context, body []byte) (status int, answer []byte) {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		reply, status := s.one(ctx, body)
		return status, reply
	}
	var calls []json.RawMessage
	if err := json.Unmarshal(body, &calls); err != nil {
		reply, status := s.one(ctx, body)
		return status, reply
	}
	const maxBatch = 1000
	if len(calls) == 0 || len(calls) > maxBatch {
		return http.StatusBadRequest, encodeReply(nil, false, nil, fail(codeInvalidRequest, "a batch holds 1 to %d calls", maxBatch))
	}
	out := []byte{'['}
	for _, call := range calls {
		if reply, _ := s.one(ctx, call); reply != nil {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, reply...)
		}
	}
	return http.StatusOK, append(out, ']')
}

type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

// one answers a single call. A nil reply is a JSON-RPC 2.0 notification.
func (s *Server) one(ctx context.Context, body []byte) (reply []byte, status int) {
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		return encodeReply(nil, false, nil, fail(codeParse, "not a JSON-RPC call: %v", err)), http.StatusInternalServerError
	}
	v2 := r.Version == "2.0"
	result, err := s.call(ctx, r.Method, r.Params)
	if v2 && r.ID == nil {
		return nil, http.StatusNoContent
	}
	status = http.StatusOK
	var e *Error
	if err != nil {
		if !errors.As(err, &e) {
			s.log.Error("rpc call failed", "method", r.Method, "err", err)
			e = fail(codeInternal, "%v", err)
		}
		// bitcoind answers 1.x errors with an HTTP error, and clients rely on it.
		switch {
		case v2:
		case e.Code == codeUnknownMethod:
			status = http.StatusNotFound
		case e.Code == codeInvalidRequest:
			status = http.StatusBadRequest
		default:
			status = http.StatusInternalServerError
		}
	}
	return encodeReply(r.ID, v2, result, e), status
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
