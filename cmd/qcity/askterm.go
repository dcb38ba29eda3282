package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// terminal asks a person. Prompts go to standard error, so that standard output
// stays clean.
type terminal struct{ in *bufio.Reader }

func newTerminal() *terminal { return &terminal{bufio.NewReader(os.Stdin)} }

// line asks for one line, or gives up when ctx ends.
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

// await gives up f when ctx ends. The read that is left behind ends with the program.
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
