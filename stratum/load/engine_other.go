//go:build !linux

package load

import "sync"

// engine drives the connections of a run.
type engine struct {
	name  string
	start func(*run, *sync.WaitGroup) error
}

func pickEngine(*Config) engine { return engine{"goroutines", startGoroutines} }
