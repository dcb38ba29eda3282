package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer/link"
	"qcitycoin.org/qcity/signer/worker"
)

// Daemon is the signer as a process: journal, worker, service and socket.
type Daemon struct {
	journal *Journal
	worker  *worker.Supervisor
	tokens  *tokens
	service *Service
	server  *Server
	links   []*link.Dialer
	log     *slog.Logger
}

// Open opens the journal, starts the PKCS#11 worker, logs in to every token and
// checks every key. A token that is absent makes only its key unavailable.
// Anything only a person can mend, such as a wrong PIN or a key that can leave its
// token, is a TerminalError; the daemon must then not be restarted by itself.
// Run must follow.
func Open(ctx context.Context, c Config, network *consensus.Network, log *slog.Logger) (*Daemon, error) {
	if err := c.Check(); err != nil {
		return nil, &TerminalError{err}
	}
	for _, k := range c.publicKeys() {
		if indexOf(network, k) < 0 {
			log.Warn("key is not in the network's first validator set: it signs once a change of the set brings it in", "key", k, "network", network.Name)
		}
	}
	identity, err := c.identity()
	if err != nil {
		return nil, &TerminalError{err}
	}
	journal, err := OpenJournal(c.Journal, network.ID, c.publicKeys())
	if err != nil {
		return nil, err
	}
	if n := journal.Status().Torn; n > 0 {
		log.Info("cut an interrupted record, which nothing had acted on, off the signing journal", "bytes", n)
	}
	wc, err := c.workerConfig(log)
	if err != nil {
		return nil, &TerminalError{errors.Join(err, journal.Close())}
	}
	sup, err := worker.New(wc)
	if err != nil {
		return nil, &TerminalError{errors.Join(err, journal.Close())}
	}
	d := &Daemon{journal: journal, worker: sup, log: log, tokens: newTokens(sup, &c, time.Now, log)}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.service = NewService(ServiceConfig{
		Network: network, Journal: journal, Token: d.tokens, Keys: c.publicKeys(),
		Limit: c.limit(), Clock: time.Now, Log: log,
	})
	d.server = NewServer(ServerConfig{
		Socket: c.Socket, Network: network.ID, UIDs: c.NodeUIDs, OperatorsOnly: len(c.Nodes) > 0,
		Backend: backend{d.service, d}, Log: log,
	})
	d.links = d.dialers(c.Nodes, identity)
	return d, nil
}

func (d *Daemon) prepare(ctx context.Context) error {
	if _, err := d.worker.Open(ctx); err != nil {
		return fmt.Errorf("starting the PKCS#11 worker: %w", err)
	}
	return d.tokens.prepare(ctx)
}

// Run serves until ctx ends, or until the journal fails. A request under way is
// finished. It ends the worker and releases the journal. It is called once.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { d.tokens.watch(ctx) })
	var failure error
	wg.Go(func() {
		select {
		case <-d.journal.Failed():
			failure = failed(ErrInternal, nil, "the signing journal can no longer be written: check the disk, then start the signer again")
			cancel()
		case <-ctx.Done():
		}
	})
	err := d.serve(ctx)
	cancel()
	wg.Wait()
	return errors.Join(failure, err, d.close())
}

func (d *Daemon) close() error {
	d.tokens.held.wipe()
	return errors.Join(d.worker.Close(), d.journal.Close())
}
