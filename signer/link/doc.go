// Package link connects a signer daemon to a node over TCP: mutual TLS 1.3, in
// which each side has an Ed25519 key and accepts exactly the keys it was told.
// The daemon dials and needs no listening port; the node listens. What then runs
// over the connections is none of this package's business, and neither is who
// speaks first: either side gets a net.Conn.
//
// A connection carries lines. While nothing else is to be sent, both sides send
// an empty line every second, which the other side swallows: a peer from which
// nothing came for four seconds is dead, and its connection ends.
//
// The daemon keeps one connection to the node that nobody uses yet. When the node
// takes it, which its first line shows, the daemon dials the next.
package link

import "time"

// ALPN names what is spoken inside TLS. It can be read on the wire.
const ALPN = "qcity-signer/2"

const (
	// beatEvery is how often a side that has nothing to say shows that it lives;
	// silence is when the other side gives up on it.
	beatEvery = time.Second
	silence   = 4 * time.Second
	// handshakeTime bounds the way from the TCP connection to the first empty line.
	handshakeTime = 5 * time.Second
	// maxPerPeer bounds the connections of one peer on either side. A node needs
	// one for each of its parts that asks, and one in reserve.
	maxPerPeer = 8
)

// constError is an error whose text is always the same: what a stranger is told
// or makes us write does not depend on what he sent.
type constError string

func (e constError) Error() string { return string(e) }

const (
	// ErrNotPinned: the peer's key is none of those we were told to accept.
	ErrNotPinned constError = "the peer's key is not pinned here"
	// ErrProtocol: the peer speaks something else than this link.
	ErrProtocol constError = "the peer does not speak " + ALPN
	// ErrSilent: nothing came from the peer for too long.
	ErrSilent constError = "the peer fell silent"
)
