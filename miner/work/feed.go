package work

import "sync"

// Feed hands the newest Job to any number of readers. It keeps only the
// newest: a slow reader skips jobs and can never hold up the publisher.
type Feed struct {
	mu      sync.Mutex
	job     *Job
	changed chan struct{}
}

// NewFeed returns a Feed that holds no job yet.
func NewFeed() *Feed { return &Feed{changed: make(chan struct{})} }

// Publish makes j the newest job and wakes every reader.
func (f *Feed) Publish(j *Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.job = j
	close(f.changed)
	f.changed = make(chan struct{})
}

// Latest returns the newest job (nil before the first) and a channel that is
// closed when a newer one is published.
func (f *Feed) Latest() (*Job, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.job, f.changed
}
