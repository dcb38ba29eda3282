package pool

import (
	"context"
	"time"
)

type journal struct{}

func (j *journal) buffer() []byte { return nil }

// Flush writes what is booked so far and returns nil when it is durable.
func (b *Books) Flush() error { return nil }

// Run flushes until ctx ends, and then once more.
func (b *Books) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// JournalStats says how the journal fares.
type JournalStats struct {
	// Failing is since when what is booked is not durable; zero: it is.
	Failing  time.Time
	Err      string // why
	Segments int
	Bytes    int64
}

// Journal says how the journal fares.
func (b *Books) Journal() JournalStats { return JournalStats{} }

// Open opens durable books.
func Open(now time.Time, cfg Config) (*Books, error) { return newBooks(now, cfg) }
