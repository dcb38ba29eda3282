package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteNewFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "export")
	broken := errors.New("broken in the middle")
	err := writeNewFile(name, 0o600, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if _, statErr := os.Stat(name); !errors.Is(err, broken) || !errors.Is(statErr, os.ErrNotExist) {
		t.Errorf("%v; the half file: %v", err, statErr)
	}
	whole := func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }
	if err := writeNewFile(name, 0o600, whole); err != nil {
		t.Fatal(err)
	}
	if err := writeNewFile(name, 0o600, whole); !errors.Is(err, os.ErrExist) {
		t.Errorf("an existing file: %v", err)
	}
	if b, err := os.ReadFile(name); string(b) != "whole" {
		t.Errorf("%q, %v", b, err)
	}
}
