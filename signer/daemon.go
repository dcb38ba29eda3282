package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/link"
	"qcitycoin.org/qcity/signer/worker"
)

// Daemon is the signer as a process: journal, worker, service and socket.
type Daemon struct {
	journal *Journal
	audit   *audit.Log
	// auditPath is where it is.
	auditPath string
	claims    *cluster.Claims // nil: the keys are this box's alone
	worker    *worker.Supervisor
	tokens    *tokens
	service   *Service
	server    *Server
	links     []*link.Dialer
	log       *slog.Logger
}

// Open opens journal, audit log and cluster, starts the PKCS#11 worker, logs in to
// every token and checks every key. A token that is absent makes only its key
// unavailable. Anything only a person can mend, such as a wrong PIN or a key that
// can leave its token, is a TerminalError; the daemon must then not be restarted by
// itself. Run must follow.
func Open(ctx context.Context, c Config, network *consensus.Network, log *slog.Logger) (*Daemon, error) {
	if err := c.Check(); err != nil {
		return nil, &TerminalError{err}
	}
	for _, k := range c.publicKeys() {
		if indexOf(network, k) < 0 {
			log.Warn("key is not in the network's first validator set: it signs once a change of the set brings it in", "key", k, "network", network.Name)
		}
	}
	d := &Daemon{log: log}
	if err := d.open(ctx, &c, network); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *Daemon) open(ctx context.Context, c *Config, network *consensus.Network) (err error) {
	identity, err := c.identity()
	if err != nil {
		return &TerminalError{err}
	}
	if d.journal, err = OpenJournal(c.Journal, network.ID, c.publicKeys()); err != nil {
		return err
	}
	if n := d.journal.Status().Torn; n > 0 {
		d.log.Info("cut an interrupted record, which nothing had acted on, off the signing journal", "bytes", n)
	}
	if d.audit, err = audit.Open(c.Audit, network.ID, audit.Options{}); err != nil {
		return terminalIf(err, audit.IsTerminal(err))
	}
	d.auditPath = c.Audit
	if c.Cluster != nil {
		cc := *c.Cluster
		cc.Network, cc.Keys, cc.Log = network.ID, c.publicKeys(), d.log
		if d.claims, err = cluster.Open(ctx, cc); err != nil {
			return terminalIf(err, cluster.IsTerminal(err))
		}
	}
	wc, err := c.workerConfig(d.log)
	if err != nil {
		return &TerminalError{err}
	}
	wc.Discarded = func(cause error) {
		d.tokens.note(audit.Entry{Time: time.Now(), Event: audit.EventWorkerRestarted, Detail: cause.Error()})
	}
	if d.worker, err = worker.New(wc); err != nil {
		return &TerminalError{err}
	}
	d.tokens = newTokens(d.worker, c, time.Now, d.log)
	d.tokens.note = func(e audit.Entry) {
		if _, err := d.audit.Append(e); err != nil {
			d.log.Error("the audit log cannot be written", "event", string(e.Event), "err", err)
		}
	}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	sc := ServiceConfig{
		Network: network, Journal: d.journal, Token: d.tokens, Audit: d.audit, Keys: c.publicKeys(),
		Limit: c.limit(), HaltFile: c.besideJournal(haltFile), Clock: time.Now, Log: d.log,
	}
	if d.claims != nil {
		sc.Claims = d.claims
	}
	if d.service, err = NewService(sc); err != nil {
		return err
	}
	d.server = NewServer(ServerConfig{
		Socket: c.Socket, Network: network.ID, UIDs: c.NodeUIDs, OperatorsOnly: len(c.Nodes) > 0,
		Backend: backend{d.service, d}, Log: d.log,
	})
	d.links = d.dialers(c.Nodes, identity)
	return nil
}

func terminalIf(err error, terminal bool) error {
	if terminal {
		return &TerminalError{err}
	}
	return err
}

func (d *Daemon) prepare(ctx context.Context) error {
	if _, err := d.worker.Open(ctx); err != nil {
		return fmt.Errorf("starting the PKCS#11 worker: %w", err)
	}
	return d.tokens.prepare(ctx)
}

// Run serves until ctx ends, or until journal or audit log fails. A request under
// way is finished. It ends the worker and releases the files. It is called once.
func (d *Daemon) Run(ctx context.Context) error {
	d.service.note(audit.Entry{Time: time.Now(), Event: audit.EventStarted, Detail: d.description()})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { d.tokens.watch(ctx) })
	wg.Go(func() { d.verifyAudit(ctx) })
	wg.Go(func() {
		select {
		case <-d.journal.Failed():
			cancel(failed(ErrInternal, nil, "the signing journal can no longer be written: check the disk, then start the signer again"))
		case <-d.audit.Failed():
			cancel(failed(ErrInternal, nil, "the audit log can no longer be written: check the disk, then start the signer again"))
		case <-ctx.Done():
		}
	})
	if d.claims != nil {
		wg.Go(func() {
			if err := d.claims.Campaign(ctx); err != nil {
				d.service.halt("the cluster cannot be trusted: " + err.Error())
			}
		})
	}
	err := d.serve(ctx)
	var failure *Error
	if errors.As(context.Cause(ctx), &failure) {
		err = errors.Join(failure, err)
	}
	cancel(nil)
	wg.Wait()
	if failure == nil {
		d.service.note(audit.Entry{Time: time.Now(), Event: audit.EventStopped})
	}
	return errors.Join(err, d.close())
}

// verifyAudit looks once at the whole audit log, of which only the newest file was
// checked at the start: that takes seconds for a million entries.
func (d *Daemon) verifyAudit(ctx context.Context) {
	_, err := audit.Verify(ctx, d.auditPath, audit.VerifyOptions{Network: d.service.policy.network.ID})
	var broken *audit.Broken
	switch {
	case errors.As(err, &broken):
		d.service.halt("the audit log was changed: " + err.Error())
	case err != nil && ctx.Err() == nil:
		d.log.Error("the audit log could not be verified", "err", err)
	}
}

// description says in the audit log what was started.
func (d *Daemon) description() string {
	j := d.journal.Status()
	return fmt.Sprintf("journal %s of %d records, %d keys, module %s", j.FileID, j.Records, len(d.tokens.keys), d.worker.Status().Module.Description)
}

// close ends and releases what was opened, in the reverse order.
func (d *Daemon) close() error {
	var errs []error
	if d.tokens != nil {
		d.tokens.held.wipe()
	}
	if d.worker != nil {
		errs = append(errs, d.worker.Close())
	}
	if d.claims != nil {
		errs = append(errs, d.claims.Close())
	}
	if d.audit != nil {
		errs = append(errs, d.audit.Close())
	}
	if d.journal != nil {
		errs = append(errs, d.journal.Close())
	}
	return errors.Join(errs...)
}
