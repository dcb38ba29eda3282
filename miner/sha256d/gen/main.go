// Command gen writes the assembly kernels of package sha256d. A kernel is
// described as streams of instructions over virtual registers; gen merges the
// streams, allocates registers and prints Go assembly. docs/kernels.md explains
// the kernels.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

func main() {
	dir := flag.String("dir", ".", "directory to write to")
	flag.Parse()
	for name, content := range generate() {
		if err := os.WriteFile(filepath.Join(*dir, name), content, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

// generate returns all files by name.
func generate() map[string][]byte {
	files := map[string][]byte{}
	for _, s := range []*source{avx512Source(), avx2Source(), hybridSource(), shaniSource(), neonSource(), sha2Source(tables.SHA2Ways)} {
		maps.Copy(files, s.files())
	}
	return files
}
