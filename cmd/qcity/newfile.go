package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// writeNewFile has write fill a file that must not exist yet. What went wrong
// leaves none behind: half an export reads like a whole one.
func writeNewFile(name string, mode os.FileMode, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("open --out: %w", err)
	}
	if err = errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
