// Package hw reads what machine this is: CPU model, features that matter for
// hashing, topology, and which CPUs this process may use. A reading is a value
// the hardware or the kernel gave, or it is unknown; nothing is guessed.
package hw

import (
	"encoding/json"
	"fmt"
)

// Reading is a value or unknown. The zero Reading is unknown. In JSON it is the
// value or null.
type Reading[T any] struct {
	value T
	known bool
}

// Known returns a Reading of v.
func Known[T any](v T) Reading[T] { return Reading[T]{v, true} }

// Get returns the value and whether it is known.
func (r Reading[T]) Get() (T, bool) { return r.value, r.known }

// Or returns the value, or fallback when it is unknown.
func (r Reading[T]) Or(fallback T) T {
	if r.known {
		return r.value
	}
	return fallback
}

// String returns the value as fmt prints it, or "unknown".
func (r Reading[T]) String() string { return r.format("%v") }

func (r Reading[T]) format(verb string) string {
	if !r.known {
		return "unknown"
	}
	return fmt.Sprintf(verb, r.value)
}

// MarshalJSON encodes the value, or null.
func (r Reading[T]) MarshalJSON() ([]byte, error) {
	if !r.known {
		return []byte("null"), nil
	}
	return json.Marshal(r.value)
}

// UnmarshalJSON decodes what MarshalJSON encodes.
func (r *Reading[T]) UnmarshalJSON(b []byte) error {
	*r = Reading[T]{}
	if string(b) == "null" {
		return nil
	}
	if err := json.Unmarshal(b, &r.value); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	r.known = true
	return nil
}

// positive reads a number for which zero and less stand for "not available".
func positive[T int | int64](v T) Reading[T] {
	if v <= 0 {
		return Reading[T]{}
	}
	return Known(v)
}

// nonEmpty reads a text for which "" stands for "not available".
func nonEmpty(s string) Reading[string] {
	if s == "" {
		return Reading[string]{}
	}
	return Known(s)
}
