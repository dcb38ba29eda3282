package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"qcitycoin.org/qcity/signer"
)

// terminal asks a person. Prompts go to standard error, so that standard output
// stays clean.
type terminal struct{ in *bufio.Reader }

func newTerminal() *terminal { return &terminal{bufio.NewReader(os.Stdin)} }

// line asks for one line. It gives up when ctx ends; the reader that is left
// behind ends with the program.
func (t *terminal) line(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	return await(ctx, func() (string, error) {
		s, err := t.in.ReadString('\n')
		if errors.Is(err, io.EOF) && s != "" {
			err = nil
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("standard input has ended: nobody is there to answer; name a file with --answers for a run without persons")
		}
		return s, err
	})
}

// pin asks for a PIN without showing it, twice if it is new.
func (t *terminal) pin(ctx context.Context, what string, twice bool) ([]byte, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, fmt.Errorf("%s: standard input is no terminal: name a file with the PIN instead", what)
	}
	first, err := readSecret(ctx, fd, what+": ")
	if err != nil || !twice {
		return first, err
	}
	again, err := readSecret(ctx, fd, "the same again: ")
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

func readSecret(ctx context.Context, fd int, prompt string) ([]byte, error) {
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	pin, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	if err == nil && len(pin) == 0 {
		err = errors.New("no PIN was typed")
	}
	if err != nil {
		return nil, errors.Join(err, term.Restore(fd, state)) // Ctrl-C leaves the echo off
	}
	return pin, nil
}

func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		v, err := f()
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// filePIN reads a PIN from a file if one is named, or else from the terminal.
func filePIN(ctx context.Context, file, what string, twice bool) ([]byte, error) {
	if file != "" {
		return signer.ReadPINFile(file)
	}
	return newTerminal().pin(ctx, what, twice)
}
