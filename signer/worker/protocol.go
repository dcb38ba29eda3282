package worker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Protocol is the version of the wire format; the worker refuses any other.
const Protocol = 3

// MaxFrame is the largest frame body in bytes.
const MaxFrame = 64 << 10

// SocketFD is the descriptor on which the worker finds its end of the pair.
const SocketFD = 3

// Op names a worker operation.
type Op string

// What a worker can be asked. The fields each one reads and fills are given as
// request → response; every operation but OpOpen needs a successful OpOpen.
const (
	OpOpen        Op = "open"         // Protocol, Module, InitArgs, Sessions → Module
	OpListTokens  Op = "list-tokens"  // → Tokens
	OpLogin       Op = "login"        // Token, PIN or AtDevice → Token
	OpFindKey     Op = "find-key"     // Token, Key → Key
	OpSign        Op = "sign"         // Token, Key (algorithm and public key), Digest → Signature
	OpInitToken   Op = "init-token"   // Token (label only), PIN, SOPIN → Token
	OpGenerateKey Op = "generate-key" // Token, Key (algorithm, label, id) → Key
)

// Critical reports whether interrupting the operation can damage a token. A
// critical operation is given its whole deadline, also when the daemon ends.
func (op Op) Critical() bool {
	return op == OpLogin || op == OpInitToken || op == OpGenerateKey
}

// Parallel reports whether calls of the operation may run side by side. All
// others have the module for themselves.
func (op Op) Parallel() bool { return op == OpSign }

// TokenRef addresses a token. Slot numbers change at every initialisation and
// are never used. Both fields are needed.
type TokenRef struct {
	Label  string `json:"label,omitempty"`
	Serial string `json:"serial,omitempty"`
}

// String returns `"label" (serial S)`.
func (t TokenRef) String() string { return fmt.Sprintf("%q (serial %s)", t.Label, t.Serial) }

// KeyQuery narrows down a private key. Zero fields match anything; the fields
// that are set must all match, and exactly one key may.
type KeyQuery struct {
	Algorithm Algorithm `json:"algorithm,omitempty"`
	PublicKey PublicKey `json:"publicKey,omitzero"`
	Label     string    `json:"label,omitempty"`
	ID        []byte    `json:"id,omitempty"` // CKA_ID
}

// String lists what is asked for, for messages.
func (q KeyQuery) String() string {
	var parts []string
	if q.Algorithm != 0 {
		parts = append(parts, q.Algorithm.String())
	}
	if q.PublicKey != (PublicKey{}) {
		parts = append(parts, "public key "+q.PublicKey.String())
	}
	if q.Label != "" {
		parts = append(parts, fmt.Sprintf("label %q", q.Label))
	}
	if len(q.ID) > 0 {
		parts = append(parts, fmt.Sprintf("id %x", q.ID))
	}
	if parts == nil {
		return "any key"
	}
	return strings.Join(parts, ", ")
}

// Request is one call. PINs travel beside the JSON, as raw bytes that both
// sides clear, because an encoder's copies could not be cleared.
type Request struct {
	ID       uint64   `json:"id"`
	Op       Op       `json:"op"`
	Protocol int      `json:"protocol,omitempty"`
	Module   string   `json:"module,omitempty"`
	InitArgs string   `json:"initArgs,omitempty"` // for C_Initialize, if the module wants any
	Sessions int      `json:"sessions,omitempty"` // for signing, per token; 0 counts as 1
	AtDevice bool     `json:"atDevice,omitempty"` // the PIN is entered at the token itself
	Token    TokenRef `json:"token,omitzero"`
	Key      KeyQuery `json:"key,omitzero"`
	Digest   []byte   `json:"digest,omitempty"` // exactly 32 bytes

	PIN   []byte `json:"-"`
	SOPIN []byte `json:"-"`
}

// wipe clears the PINs of the request.
func (r *Request) wipe() {
	clear(r.PIN)
	clear(r.SOPIN)
}

// Response answers the Request with the same ID. Err or a result is set.
type Response struct {
	ID        uint64      `json:"id"`
	Err       *Error      `json:"err,omitempty"`
	Module    *ModuleInfo `json:"module,omitempty"`
	Tokens    []TokenInfo `json:"tokens,omitempty"`
	Token     *TokenInfo  `json:"token,omitempty"`
	Key       *Key        `json:"key,omitempty"`
	Signature []byte      `json:"signature,omitempty"` // r ‖ s as the token gave it

	Keys         []Key         `json:"keys,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
}

// ModuleInfo is what the PKCS#11 module says about itself.
type ModuleInfo struct {
	Manufacturer string `json:"manufacturer"`
	Description  string `json:"description"`
	Version      string `json:"version"`  // of the library
	Cryptoki     string `json:"cryptoki"` // of the standard it implements
}

// TokenInfo is a token and the state of its user PIN.
type TokenInfo struct {
	TokenRef
	Manufacturer   string `json:"manufacturer"`
	Model          string `json:"model"`
	Firmware       string `json:"firmware"`
	PINInitialised bool   `json:"pinInitialised"`
	PINCountLow    bool   `json:"pinCountLow"` // a wrong PIN was tried since the last login
	PINFinalTry    bool   `json:"pinFinalTry"`
	PINLocked      bool   `json:"pinLocked"`
	PINExpired     bool   `json:"pinExpired"`
	// PINAtDevice: the token has a pin pad or the like of its own
	// (CKF_PROTECTED_AUTHENTICATION_PATH).
	PINAtDevice bool `json:"pinAtDevice"`
}

// Key is a private key as found in a token.
type Key struct {
	Algorithm  Algorithm  `json:"algorithm"`
	PublicKey  PublicKey  `json:"publicKey"`
	Label      string     `json:"label"`
	ID         []byte     `json:"id"` // CKA_ID
	Attributes Attributes `json:"attributes"`
}

// Answer is a token's answer about a Boolean attribute. Tokens differ in what
// they answer at all, so silence is not taken for either value.
type Answer string

// The three answers.
const (
	NotAnswered Answer = ""
	False       Answer = "false"
	True        Answer = "true"
)

// WriteRequest sends req. It copies the PINs into the frame and clears the frame.
func WriteRequest(w io.Writer, req *Request) error { return writeFrame(w, req, req.PIN, req.SOPIN) }

// WriteResponse sends resp.
func WriteResponse(w io.Writer, resp *Response) error { return writeFrame(w, resp, nil, nil) }

// ReadRequest reads one request; io.EOF means the other side closed the socket
// between frames. The caller clears the PINs.
func ReadRequest(r io.Reader) (*Request, error) {
	req := new(Request)
	pin, soPIN, err := readFrame(r, req)
	if err != nil {
		return nil, err
	}
	req.PIN, req.SOPIN = pin, soPIN
	return req, nil
}

// ReadResponse reads one response.
func ReadResponse(r io.Reader) (*Response, error) {
	resp := new(Response)
	pin, soPIN, err := readFrame(r, resp)
	if err != nil {
		return nil, err
	}
	if len(pin)+len(soPIN) != 0 {
		clear(pin)
		clear(soPIN)
		return nil, errors.New("response carries a PIN")
	}
	return resp, nil
}

// A frame is u32 n, then n bytes: u16 length and PIN, u16 length and SO PIN,
// and JSON. Integers are little-endian.
const frameOverhead = 2 + 2

func writeFrame(w io.Writer, v any, pin, soPIN []byte) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	n := frameOverhead + len(pin) + len(soPIN) + len(doc)
	if n > MaxFrame {
		return fmt.Errorf("frame of %d bytes exceeds %d", n, MaxFrame)
	}
	buf := make([]byte, 0, 4+n)
	defer func() { clear(buf) }()
	buf = binary.LittleEndian.AppendUint32(buf, uint32(n))
	for _, secret := range [][]byte{pin, soPIN} {
		buf = binary.LittleEndian.AppendUint16(buf, uint16(len(secret)))
		buf = append(buf, secret...)
	}
	buf = append(buf, doc...)
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

func readFrame(r io.Reader, v any) (pin, soPIN []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < frameOverhead || n > MaxFrame {
		return nil, nil, fmt.Errorf("frame length %d is not in %d..%d", n, frameOverhead, MaxFrame)
	}
	buf := make([]byte, n)
	defer clear(buf)
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, nil, fmt.Errorf("read frame: %w", err)
	}
	pin, rest, ok := cutSecret(buf)
	if !ok {
		return nil, nil, errors.New("frame ends inside its first secret")
	}
	soPIN, rest, ok = cutSecret(rest)
	if !ok {
		clear(pin)
		return nil, nil, errors.New("frame ends inside its second secret")
	}
	if err := decodeStrict(rest, v); err != nil {
		clear(pin)
		clear(soPIN)
		return nil, nil, err
	}
	return pin, soPIN, nil
}

// cutSecret returns a copy of the length-prefixed secret at the head of b.
func cutSecret(b []byte) (secret, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; len(b) < n {
		return nil, nil, false
	}
	if n == 0 {
		return nil, b, true
	}
	return bytes.Clone(b[:n]), b[n:], true
}

// decodeStrict refuses unknown fields and anything after the one JSON value.
func decodeStrict(doc []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("decode frame: data after the JSON value")
	}
	return nil
}
