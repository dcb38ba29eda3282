package durable_test

import (
	"path/filepath"
	"testing"

	"qcitycoin.org/qcity/internal/durable"
)

// BenchmarkLogAppend is the price of one acknowledged record: a write and an
// fsync of the temporary directory's disk.
func BenchmarkLogAppend(b *testing.B) {
	l, err := durable.CreateLog(filepath.Join(b.TempDir(), "log"), killOptions())
	if err != nil {
		b.Fatal(err)
	}
	record := make([]byte, 256)
	for b.Loop() {
		if err := l.Append(record); err != nil {
			b.Fatal(err)
		}
	}
}
