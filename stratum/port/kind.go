// Package port lets one TCP port serve Stratum V1 in the plain, over TLS and
// over WebSocket. The first bytes of a connection tell which it is; whatever it
// is, what comes out is a stream of lines. Stratum V2 (Noise) is told apart
// too, and refused until it is spoken.
package port

import "bytes"

// Kind says what a connection speaks.
type Kind uint8

const (
	Unknown      Kind = iota // not known yet: more bytes are needed
	Plain                    // lines of JSON, or text that is none
	TLS                      // a TLS handshake; after it, lines inside TLS
	HTTP                     // an HTTP request, which may ask for WebSocket
	Noise                    // Stratum V2, or any other binary protocol
	WebSocket                // lines in WebSocket messages
	TLSWebSocket             // the same inside TLS
)

func (k Kind) String() string {
	return [...]string{"unknown", "plain", "tls", "http", "noise", "websocket", "tls+websocket"}[k]
}

// MaxFirst is the largest number of bytes that Classify looks at: the length of
// Stratum V2's first message.
const MaxFirst = 64

// A line of JSON is known by its brace and the seven bytes behind it. Other
// text is known by a line of this length (without its end) or by MaxFirst bytes:
// until then a reader of lines would have nothing to say to it either.
const (
	jsonHead  = 8
	shortLine = 5
)

// methods begin an HTTP request.
var methods = [][]byte{
	[]byte("GET "), []byte("POST "), []byte("HEAD "), []byte("PUT "), []byte("OPTIONS "),
	[]byte("CONNECT "), []byte("DELETE "), []byte("PATCH "), []byte("TRACE "),
}

// Classify tells from the first bytes of a connection what it speaks: Plain,
// TLS, HTTP or Noise. Unknown means that these bytes allow more than one answer;
// MaxFirst bytes never do. What more bytes follow does not change an answer, so
// it does not depend on how the network cut the stream.
//
// The first message of Stratum V2 is 64 bytes of a random-looking key (EllSwift)
// and has no mark of its own, so every other protocol is known by what it
// cannot help sending, and the rest is Noise. docs/stratum-port.md has the table
// and how often a random key is taken for something else: once in 18,000.
func Classify(first []byte) Kind {
	first = first[:min(len(first), MaxFirst)]
	if len(first) == 0 {
		return Unknown
	}
	if first[0] == 0x16 {
		return classifyTLS(first)
	}
	brace := -1 // where the first byte that is not blank is a brace
	for i, b := range first {
		if b == '{' && isBlanks(first[:i]) {
			brace = i
		}
		switch {
		case !isText(b):
			return Noise
		case brace >= 0 && i == brace+jsonHead-1,
			brace < 0 && b == '\n' && i >= shortLine,
			i == MaxFirst-1:
			return Plain
		case b == ' ' && isMethod(first[:i+1]):
			return HTTP
		}
	}
	return Unknown
}

// classifyTLS looks at the head of a TLS record: type handshake, version 3.x.
func classifyTLS(first []byte) Kind {
	switch {
	case len(first) > 1 && first[1] != 3, len(first) > 2 && first[2] > 4:
		return Noise
	case len(first) > 2:
		return TLS
	}
	return Unknown
}

func isMethod(b []byte) bool {
	for _, m := range methods {
		if bytes.Equal(b, m) {
			return true
		}
	}
	return false
}

func isBlanks(b []byte) bool { return len(bytes.Trim(b, " \t\r\n")) == 0 }

// isText accepts printable ASCII and blanks. Every known client begins with
// such bytes; names in other alphabets come later in a line.
func isText(b byte) bool { return b >= ' ' && b <= '~' || b == '\t' || b == '\r' || b == '\n' }
