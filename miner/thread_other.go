//go:build !linux

package miner

import "errors"

func pinThread(int) error {
	return errors.New("pinning threads is only supported on Linux: leave the CPU list empty")
}

func niceThread(int) error {
	return errors.New("a nice level for threads is only supported on Linux: leave it at 0 and start the program with nice")
}
