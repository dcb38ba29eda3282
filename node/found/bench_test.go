package found

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSubmit is what the journal, on the disk of the temporary folder, adds to
// the way of a found block to the chain.
func BenchmarkSubmit(b *testing.B) {
	k, err := Open(Config{Path: filepath.Join(b.TempDir(), "j"), Chain: newFaultyChain(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if _, err := k.Submit(record(i)); err != nil {
			b.Fatal(err)
		}
	}
}
