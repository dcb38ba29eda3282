package link

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxHalfOpen bounds the connections that have not proved their key yet.
	maxHalfOpen = 128
	// grace is how long each of them may try before it must give way to others:
	// enough for a handshake across the world.
	grace = 500 * time.Millisecond
)

// waiting is a connection on its way through the handshake.
type waiting struct {
	conn   net.Conn
	source netip.Prefix
	since  time.Time
}

// halfOpen holds them. When it is full, the oldest of the address that has the
// most of them makes room, after its grace: strangers who say nothing crowd out
// each other, not the peer from another address.
type halfOpen struct {
	mu    sync.Mutex
	all   []*waiting // oldest first
	freed chan struct{}
}

func newHalfOpen() *halfOpen { return &halfOpen{freed: make(chan struct{}, 1)} }

// add takes a connection in, waiting for room until done is closed; then it
// returns nil.
func (h *halfOpen) add(conn net.Conn, done <-chan struct{}) *waiting {
	w := &waiting{conn: conn, source: sourceOf(conn.RemoteAddr())}
	for {
		wait := h.tryAdd(w)
		if wait == 0 {
			return w
		}
		timer := time.NewTimer(wait)
		select {
		case <-done:
			timer.Stop()
			return nil
		case <-h.freed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tryAdd returns 0, or how long to wait before there can be room.
func (h *halfOpen) tryAdd(w *waiting) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if len(h.all) >= maxHalfOpen {
		i := victim(h.all)
		if wait := grace - now.Sub(h.all[i].since); wait > 0 {
			return wait
		}
		_ = h.all[i].conn.Close() // ends its handshake
		h.all = append(h.all[:i], h.all[i+1:]...)
	}
	w.since = now
	h.all = append(h.all, w)
	return 0
}

// victim returns the oldest connection of the source with the most of them.
func victim(all []*waiting) int {
	count := make(map[netip.Prefix]int)
	first := make(map[netip.Prefix]int)
	best := all[0].source
	for i, w := range all {
		if count[w.source]++; count[w.source] == 1 {
			first[w.source] = i
		}
		if count[w.source] > count[best] {
			best = w.source
		}
	}
	return first[best]
}

func (h *halfOpen) remove(w *waiting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.all {
		if h.all[i] == w {
			h.all = append(h.all[:i], h.all[i+1:]...)
			break
		}
	}
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// sourceOf returns the IPv4 address, or the /64 of an IPv6 address: what one
// stranger can be expected to have many addresses in.
func sourceOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // the zero Prefix for the zero Addr
	return p
}
