package main

import (
	"bytes"
	"testing"

	"qcitycoin.org/qcity/miner/sha256d/tables"
)

// TestSHA2Ways: the registers are enough for every number of hashes side by side.
func TestSHA2Ways(t *testing.T) {
	for ways := 1; ways <= tables.SHA2Ways; ways++ {
		sha2Source(ways) // or it panics
	}
}

// TestNEONAlone: the kernels for CPUs without SHA-256 instructions have none.
func TestNEONAlone(t *testing.T) {
	if bytes.Contains(neonSource().assembly(), []byte("\tSHA256")) {
		t.Error("there are SHA-256 instructions in the NEON kernels")
	}
	if !bytes.Contains(sha2Source(tables.SHA2Ways).assembly(), []byte("\tSHA256")) {
		t.Error("there are no SHA-256 instructions in the sha2 kernels")
	}
}
