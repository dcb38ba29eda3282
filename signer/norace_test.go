//go:build !race

package signer

const raced = false
