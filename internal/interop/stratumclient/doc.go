// Package stratumclient holds a test of the Stratum port with a client that
// others wrote: npm's stratum-client, the one that an ordinary CI can install.
package stratumclient
