package signer

import (
	"context"
	"errors"
	"sync"

	"qcitycoin.org/qcity/signer/link"
)

// identity returns what the daemon proves itself with to the nodes it dials, nil
// if it dials none.
func (c *Config) identity() (*link.Identity, error) {
	if len(c.Nodes) == 0 {
		return nil, nil
	}
	return link.LoadIdentity(c.Identity)
}

func (d *Daemon) dialers(nodes []NodeConfig, id *link.Identity) (list []*link.Dialer) {
	for _, n := range nodes {
		list = append(list, link.NewDialer(link.DialerConfig{
			Address: n.Address, Identity: id, Pin: n.Pin, Serve: d.server.Serve, Log: d.log,
		}))
	}
	return list
}

// serve serves the socket and the nodes that are dialled, until ctx ends or the
// socket fails.
func (d *Daemon) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(d.links)+1)
	var wg sync.WaitGroup
	for i, l := range d.links {
		wg.Go(func() { errs[i] = l.Run(ctx) })
	}
	errs[len(d.links)] = d.server.Run(ctx)
	cancel()
	wg.Wait()
	return errors.Join(errs...)
}
