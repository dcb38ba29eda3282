package firmwareapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// Broadcaster hands the newest Status to any number of readers. It keeps only
// the newest: a slow reader skips states and can never hold up the publisher.
type Broadcaster struct {
	mu      sync.Mutex
	status  *Status
	encoded []byte
	changed chan struct{}
}

// NewBroadcaster returns a Broadcaster that holds no Status yet.
func NewBroadcaster() *Broadcaster { return &Broadcaster{changed: make(chan struct{})} }

// Publish makes s the newest status and wakes every reader, unless nothing has
// changed. The caller leaves what s points to alone afterwards. The error says
// which number JSON cannot hold (an infinity or NaN); the old status stays.
func (b *Broadcaster) Publish(s Status) error {
	s = s.normal()
	encoded, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("publishing the status: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes.Equal(encoded, b.encoded) {
		return nil
	}
	b.status, b.encoded = &s, encoded
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// Latest returns the newest status (nil before the first), which must not be
// modified, and a channel that is closed when it changes.
func (b *Broadcaster) Latest() (*Status, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status, b.changed
}

// latestJSON is Latest, encoded once for all readers.
func (b *Broadcaster) latestJSON() ([]byte, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.encoded, b.changed
}
