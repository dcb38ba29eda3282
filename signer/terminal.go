package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// terminalPath is the terminal of whoever started the signer, if there is one.
const terminalPath = "/dev/tty"

// askTerminal asks a person for the PIN that what names, if twice is set once more.
func askTerminal(ctx context.Context, what string, twice bool) ([]byte, error) {
	tty, err := os.OpenFile(terminalPath, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("the %s is to be typed, but this was not started from a terminal: start it by hand, or name another source of the PIN (%w)", what, err)
	}
	defer tty.Close()
	return askHidden(ctx, tty, what, twice)
}

func askHidden(ctx context.Context, tty *os.File, what string, twice bool) ([]byte, error) {
	first, err := readHidden(ctx, tty, what+": ")
	if err != nil || !twice {
		return first, err
	}
	again, err := readHidden(ctx, tty, "the same again: ")
	defer clear(again)
	if err == nil && !bytes.Equal(first, again) {
		err = fmt.Errorf("%s: the two differ: nothing was done, try again", what)
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

// readHidden asks for a line without showing what is typed. It reads into one
// buffer, where a general reader would leave copies behind as it grows.
func readHidden(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	fd := int(tty.Fd()) // blocking from here on
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("asking for the PIN: %w", err)
	}
	hidden := *old
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG | unix.ECHONL
	hidden.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, fmt.Errorf("asking for the PIN: %w", err)
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }() // nothing else can be done
	if _, err := tty.WriteString(prompt); err != nil {
		return nil, fmt.Errorf("asking for the PIN: %w", err)
	}
	buf := make([]byte, maxPIN+2)
	for {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 100) // so that Ctrl-C is noticed
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, unix.EINTR) || err == nil && n == 0:
			continue
		case err != nil:
			return nil, fmt.Errorf("asking for the PIN: %w", err)
		}
		n, err = unix.Read(fd, buf) // a whole line, as the terminal is in canonical mode
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			clear(buf)
			return nil, fmt.Errorf("reading the PIN: %w", err)
		}
		return onePIN(buf, n, "what was typed")
	}
}
