//go:build !linux

package load

import "net/netip"

// queuedFor needs /proc.
func queuedFor(map[netip.AddrPort]bool) []int64 { return nil }
