//go:build !linux

package load

import "net/netip"

// queuedFor needs /proc.
func queuedFor(int, map[netip.AddrPort]bool) []int64 { return nil }
