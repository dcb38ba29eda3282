package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"qcitycoin.org/qcity/signer"
)

// pinFlag says where a PIN comes from, in the form of the configuration. It is
// parsed by reader and not by the flag: a flag's error repeats what was given, which
// may be a PIN.
type pinFlag struct{ name, text string }

const pinUsage = "credential:NAME, fd:N, file:PATH, keyring:NAME, terminal or device"

func (p *pinFlag) register(f *pflag.FlagSet, name, preset, what string) {
	p.name = name
	f.StringVar(&p.text, name, preset, "where the "+what+" comes from: `SOURCE` is "+pinUsage)
}

// reader must be called before a child is started.
func (p *pinFlag) reader() (*signer.PINReader, error) {
	source, err := signer.ParsePINSource(p.text)
	if err == nil {
		var r *signer.PINReader
		if r, err = signer.NewPINReader(source); err == nil {
			return r, nil
		}
	}
	return nil, needsPerson{fmt.Errorf("--%s: %w", p.name, err)}
}

// read reads the PIN, which the caller clears.
func (p *pinFlag) read(ctx context.Context, what string, twice bool) ([]byte, error) {
	r, err := p.reader()
	if err != nil {
		return nil, err
	}
	pin, err := r.Read(ctx, what, twice)
	if err != nil {
		return nil, needsPerson{err}
	}
	return pin, nil
}
