package load

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deafBuffer is the receive buffer of a connection that will stop reading:
// small, as a device's is, so that the pool soon notices.
const deafBuffer = 4096

// dial begins a connection.
func (l *loop) dial(c *conn) (fd int, err error) {
	remote, family := sockaddr(l.sq.run.remote)
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	stampArrivals(fd)
	if c.deaf {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, deafBuffer)
	}
	if local := l.sources.of(int(c.number)); local != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err = unix.Bind(fd, local); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
	}
	if err = unix.Connect(fd, remote); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(a *net.TCPAddr) (unix.Sockaddr, int) {
	if ip := a.IP.To4(); ip != nil {
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, unix.AF_INET
	}
	if len(a.IP) == 0 { // ":3333" is this machine
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}}, unix.AF_INET
	}
	s := &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}
	if a.Zone != "" {
		if ifc, err := net.InterfaceByName(a.Zone); err == nil {
			s.ZoneId = uint32(ifc.Index)
		}
	}
	return s, unix.AF_INET6
}

func localAddr(fd int) netip.AddrPort {
	sa, _ := unix.Getsockname(fd)
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// sources are the local addresses to connect from: on loopback several, when
// one has too few ports.
type sources struct{ each int }

func newSources(remote *net.TCPAddr, connections int) *sources {
	ports := 28232 // Linux's default range
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if f := strings.Fields(string(b)); len(f) == 2 {
			low, err1 := strconv.Atoi(f[0])
			high, err2 := strconv.Atoi(f[1])
			if err1 == nil && err2 == nil && high > low {
				ports = high - low
			}
		}
	}
	ip := remote.IP.To4()
	if each := max(ports*3/4, 1); (len(remote.IP) == 0 || ip != nil && ip.IsLoopback()) && connections > each {
		return &sources{each}
	}
	return &sources{}
}

// of returns the address of a connection; nil: the system chooses.
func (s *sources) of(n int) unix.Sockaddr {
	if s.each == 0 {
		return nil
	}
	k := n/s.each + 1
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(k >> 8), byte(k)}}
}
