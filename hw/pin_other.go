//go:build !linux

package hw

import "errors"

// CanPin says whether threads can be bound to CPUs here.
const CanPin = false

// PinThread binds the calling thread to the given CPUs.
func PinThread(...int) error {
	return errors.New("threads can only be pinned to CPUs on Linux: do not name any")
}
