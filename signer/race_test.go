//go:build race

package signer

// raced says that the race detector slows everything down some tenfold.
const raced = true
