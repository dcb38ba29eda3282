// Package interop holds tests against software that others wrote: bitcoinjs-lib
// and its curves check that this chain's formats are what they claim to be.
package interop
