//go:build !linux

package hw

import "errors"

type perfCounter struct{}

func openPerf() (*perfCounter, error) { return nil, errors.ErrUnsupported }

func (*perfCounter) read() (perfReading, error) { return perfReading{}, errors.ErrUnsupported }

func (*perfCounter) close() {}
