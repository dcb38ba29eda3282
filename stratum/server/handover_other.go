//go:build !unix

package server

import (
	"errors"
	"net"
)

var errNoHandover = errors.New("sockets cannot be handed over on this system")

func dupSocket(any) (int, error) { return -1, errNoHandover }

func closeSocket(int) {}

func connOf(int) (net.Conn, error) { return nil, errNoHandover }

func listenerOf(int) (net.Listener, error) { return nil, errNoHandover }
