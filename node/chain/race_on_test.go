//go:build race

package chain_test

// race says that the race detector makes everything slow.
const race = true
