package load

import (
	"bufio"
	"encoding/hex"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// queuedFor returns how many bytes wait in sockets of a port for the remote
// addresses given: what the pool wrote and a client did not take. It finds
// those whose pool is on this machine. Source: proc_pid_net(5).
func queuedFor(port int, mine map[netip.AddrPort]bool) (bytes []int64) {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 5 {
				continue
			}
			local, ok1 := procAddr(fields[1])
			remote, ok2 := procAddr(fields[2])
			if !ok1 || !ok2 || int(local.Port()) != port || !mine[remote] {
				continue
			}
			waiting, _, _ := strings.Cut(fields[4], ":")
			if n, err := strconv.ParseInt(waiting, 16, 64); err == nil {
				bytes = append(bytes, n)
			}
		}
		_ = f.Close()
	}
	slices.Sort(bytes)
	return bytes
}

// procAddr reads an address of /proc/net/tcp: hex words in this machine's byte
// order (little-endian on every platform this runs on), then the port.
func procAddr(s string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	p, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i+4 <= len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}
