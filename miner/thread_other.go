//go:build !linux

package miner

import "errors"

func niceThread(int) error {
	return errors.New("a nice level for threads is only supported on Linux: leave it at 0 and start the program with nice")
}
