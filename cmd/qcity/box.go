package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"qcitycoin.org/qcity/configs"
	firmwareapi "qcitycoin.org/qcity/firmware-api"
	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/miner"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/link"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/pool/reward"
	"qcitycoin.org/qcity/stratum/port"
	"qcitycoin.org/qcity/stratum/server"
)

// box is everything one process runs: node, CPU miner, Stratum port and API.
// The signer is another process.
type box struct {
	cfg     configs.Config
	net     *consensus.Network
	log     *slog.Logger
	node    *node.Node
	miner   *miner.Miner      // nil: off
	stratum *server.Server    // nil: off
	cert    *port.Certificate // of the Stratum port; nil: without TLS
	books   *pool.Books       // nil: no payout
	account *accounts
	api     *firmwareapi.Server
	status  *firmwareapi.Broadcaster
	monitor *monitor
	signers []*signer.Client
	link    *link.Listener // nil: the signer is reached by its socket, or there is none

	rpcListener, apiListener, stratumListener, signerListener net.Listener

	upgrade   <-chan os.Signal            // nil: nobody follows
	successor func(context.Context) error // whether another program can take over
	left      *succession                 // for it, when run returned errUpgrade
}

// openBox opens what can fail for reasons the user has to know: ports, data
// directory, addresses. It starts nothing. before is what another program left,
// or nil.
func openBox(ctx context.Context, cfg configs.Config, file string, before *succession, log *slog.Logger) (b *box, err error) {
	b = &box{cfg: cfg, log: log, status: firmwareapi.NewBroadcaster()}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.net, err = configs.LoadNetwork(cfg.NetworkName()); err != nil {
		return b, err
	}
	var payout []byte
	if cfg.Payout != "" {
		if payout, err = b.net.Addresses.Script(cfg.Payout); err != nil {
			return b, fmt.Errorf("payout in %s: %w", file, err)
		}
	}
	if err := b.listen(ctx, file, before); err != nil {
		return b, err
	}
	if err := b.openLink(file); err != nil {
		return b, err
	}
	nodeConfig := node.Config{Network: b.net, Dir: cfg.Path(cfg.Data), Payout: payout, MaxCoinbase: cfg.Stratum.MaxCoinbase, Version: version, HashRate: b.hashRate, Calls: b.calls}
	if b.hasSigner() {
		nodeConfig.Signer, nodeConfig.StartupWait = b.newSigner(), cfg.Signer.StartupWait
	}
	if payout != nil {
		if err := b.openBooks(payout); err != nil {
			return b, err
		}
		nodeConfig.Payouts, nodeConfig.OnFound = b.account, b.account.found
	}
	if b.node, err = node.Open(nodeConfig, log); err != nil {
		return b, err
	}
	if b.account != nil {
		b.account.node = b.node
	}
	if payout != nil {
		if err := b.openMining(file, before); err != nil {
			return b, err
		}
	}
	b.openMonitor(payout)
	b.api = firmwareapi.New(firmwareapi.Config{Version: version}, firmwareapi.Sources{
		Status:   b.status,
		Hardware: func() hw.Inventory { return hw.Detect(os.DirFS("/")) },
		Checks:   b.checks(),
	}, log.With("component", "api"))
	return b, nil
}

func (b *box) listen(ctx context.Context, file string, before *succession) error {
	open := func(key, address string, listen func() (net.Listener, error)) (net.Listener, error) {
		if address == "" {
			return nil, nil
		}
		l, err := listen()
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("%s is in use by another program: stop that, or set another %s in %s", address, key, file)
		}
		if err != nil {
			return nil, fmt.Errorf("open %s = %q (see %s): %w", key, address, file, err)
		}
		return l, nil
	}
	tcp := func(address string) func() (net.Listener, error) {
		return func() (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", address) }
	}
	var err error
	if b.rpcListener, err = open("rpc.listen", b.cfg.RPC.Listen, tcp(b.cfg.RPC.Listen)); err != nil {
		return err
	}
	if b.apiListener, err = open("api.listen", b.cfg.API.Listen, func() (net.Listener, error) { return firmwareapi.Listen(ctx, b.cfg.API.Listen) }); err != nil {
		return err
	}
	if b.signerListener, err = open("signer.listen", b.cfg.Signer.Listen, tcp(b.cfg.Signer.Listen)); err != nil {
		return err
	}
	if b.cfg.Payout == "" {
		return nil // no work to hand out
	}
	if b.stratumListener, err = before.listener(b.cfg.Stratum.Listen); b.stratumListener != nil || err != nil {
		return err
	}
	b.stratumListener, err = open("stratum.listen", b.cfg.Stratum.Listen, tcp(b.cfg.Stratum.Listen))
	return err
}

func (b *box) openMining(file string, before *succession) error {
	var err error
	if b.cfg.Miner.Threads > 0 {
		if err := b.openMiner(); err != nil {
			return fmt.Errorf("[miner] in %s: %w", file, err)
		}
	}
	if b.stratumListener != nil {
		c := server.Config{
			MaxSessions: b.cfg.Stratum.MaxSessions,
			Difficulty: stratum.VardiffConfig{
				Start: b.cfg.Stratum.StartDifficulty, Min: b.cfg.Stratum.MinDifficulty, Max: b.cfg.Stratum.MaxDifficulty,
			},
		}
		for _, d := range b.cfg.Stratum.Devices {
			c.Devices = append(c.Devices, stratum.Device{Agent: strings.ToLower(d.Agent), Class: "configured", Start: d.Start, Floor: d.Floor, Extranonce2: d.Extranonce2})
		}
		if b.account.solo {
			c.Personal = b.account.personal
		}
		log := b.log.With("component", "stratum")
		if b.cert, err = stratumCertificate(&b.cfg, log); err != nil {
			return fmt.Errorf("[stratum] in %s: %w", file, err)
		}
		if b.cert != nil {
			c.TLS = b.cert.TLS()
		}
		if b.stratum, err = server.New(c, b.books, b.stratumListener, b.node.Feed, b.node, log); err != nil {
			return err
		}
		if before != nil {
			if err := b.node.RestoreWork(before.Work); err != nil {
				log.Error("blocks found for jobs that are out are lost", "err", err)
			}
		}
		if before != nil && len(before.Stratum.FDs) > 0 {
			if err := b.stratum.Adopt(&before.Stratum); err != nil {
				log.Error("miners have to connect again", "err", err)
			}
		}
	}
	return nil
}

func (b *box) openBooks(payout []byte) error {
	log := b.log.With("component", "pool")
	c, err := poolConfig(&b.cfg)
	if err != nil {
		return err
	}
	c.Payable, c.Log = payable(b.net), log
	if b.books, err = pool.Open(time.Now(), c); err != nil {
		return err
	}
	b.account = &accounts{
		books: b.books, net: b.net, operator: payout, room: node.CoinbaseRoom(b.cfg.Stratum.MaxCoinbase),
		solo: c.Rules.Mode == reward.Solo, lost: map[[32]byte]bool{}, log: log,
	}
	return nil
}

// kernelFile, in the data directory, remembers which hashing kernel was the
// fastest here. It may be lost.
const kernelFile = "kernel.json"

func (b *box) openMiner() error {
	m, root := &b.cfg.Miner, os.DirFS("/")
	c := miner.Config{
		Workers: m.Threads, Kernel: m.Kernel, Nice: m.Nice,
		Duty: m.Duty, MaxTemperature: m.MaxTemperature, MaxPower: m.MaxPower,
		Temperature: miner.CPUTemperature(root), Energy: energyCounter(root),
		Machine: hw.Detect(root), Memory: kernelMemory(filepath.Join(b.cfg.Path(b.cfg.Data), kernelFile)),
		Probe: probeKernels(b.log.With("component", "miner")),
	}
	var err error
	if c.CPUs, err = m.CPUList(); err != nil {
		return err
	}
	switch {
	case m.CPUs == configs.PinOff:
		c.Pinning = miner.PinOff
	case len(c.CPUs) > 0:
		c.Pinning = miner.PinList
	}
	if b.miner, err = miner.New(c, sha256d.Kernels(), b.node.Feed, b.node, b.log.With("component", "miner")); err != nil {
		return err
	}
	// The workers hold their threads: the rest of the process keeps as many of
	// its own as it had.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + m.Threads)
	return nil
}

// energyCounter reads the packages' energy. Counters that could not be opened
// are tried again at every reading: somebody may have allowed it meanwhile.
func energyCounter(root fs.FS) func() (float64, error) {
	var counter *hw.Energy
	return func() (float64, error) {
		if counter == nil {
			var err error
			if counter, err = hw.OpenEnergy(root); err != nil {
				return 0, err
			}
		}
		return counter.Joules()
	}
}

// kernelMemory is the file that remembers a kernel.
type kernelMemory string

func (f kernelMemory) Load() ([]byte, error) { return os.ReadFile(string(f)) }

func (f kernelMemory) Save(b []byte) error { return durable.WriteFile(string(f), b, 0o644) }

func (b *box) openMonitor(payout []byte) {
	b.monitor = &monitor{
		net: b.net, chain: b.node.Chain, pool: b.node.PoolSize, miner: b.miner, stratum: b.stratum,
		payout: payout, log: b.log, started: time.Now(), followed: b.node.Chain.Tip().ID,
	}
	if b.books != nil {
		b.monitor.books = b.books.Journal
	}
	if b.stratumListener != nil {
		b.monitor.address = b.stratumListener.Addr().String()
	}
	if b.hasSigner() {
		b.monitor.signer = signerStatus(b.newSigners())
	}
}

func (b *box) hashRate() float64 {
	if b.miner == nil {
		return 0
	}
	return b.miner.Stats().Total.Rates.Minute1
}

func (b *box) checks() []firmwareapi.Check {
	checks := []firmwareapi.Check{{Name: "chain", Check: func(context.Context) error { return b.node.Healthy() }}}
	if b.monitor.signer != nil {
		checks = append(checks, firmwareapi.Check{Name: "signer", Check: func(ctx context.Context) error {
			state, err := b.monitor.signer(ctx)
			if err == nil && len(state.ready) < state.total {
				err = fmt.Errorf("%d of %d keys ready: %s", len(state.ready), state.total, state.err)
			}
			return err
		}})
	}
	return checks
}

// addresses returns where this box can be reached, by what for.
func (b *box) addresses() [][2]string {
	var list [][2]string
	if b.apiListener != nil {
		list = append(list, [2]string{"status", "http://" + b.apiListener.Addr().String() + "/api/v1/status"})
	}
	list = append(list, [2]string{"rpc", "http://" + b.rpcListener.Addr().String()})
	if b.stratumListener != nil {
		list = append(list, [2]string{"miners", "stratum+tcp://" + b.stratumListener.Addr().String()})
		if b.cert != nil {
			list = append(list,
				[2]string{"tls", "stratum+ssl://" + b.stratumListener.Addr().String()},
				[2]string{"sha256", b.cert.Fingerprint()})
		}
	}
	if b.signerListener != nil {
		list = append(list, [2]string{"signers", b.signerListener.Addr().String()})
	}
	return list
}

// run runs everything until ctx ends or a part fails.
func (b *box) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.node.Run(ctx, b.rpcListener) })
	g.Go(func() error { return b.monitor.run(ctx, b.status.Publish) })
	if b.link != nil {
		g.Go(func() error { return b.link.Run(ctx) })
	}
	if b.apiListener != nil {
		g.Go(func() error { return b.api.Run(ctx, b.apiListener) })
	}
	if b.miner != nil {
		g.Go(func() error { return b.miner.Run(ctx) })
	}
	if b.stratum != nil {
		g.Go(func() error { return b.stratum.Run(ctx) })
	}
	if b.books != nil {
		g.Go(func() error { return b.books.Run(ctx) })
		g.Go(func() error { return b.account.run(ctx) })
	}
	if b.upgrade != nil {
		g.Go(func() error { return b.makeWay(ctx) })
	}
	return g.Wait()
}

// makeWay ends everything with errUpgrade when another program is to take over.
func (b *box) makeWay(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.upgrade:
		}
		if err := b.successor(ctx); err != nil {
			b.log.Error("no upgrade: everything goes on as it was", "err", err)
			continue
		}
		b.left = &succession{}
		if b.stratum != nil {
			h, err := b.stratum.HandOver()
			if err != nil {
				b.log.Error("miners have to connect again", "err", err)
			} else {
				b.left.Stratum = *h
			}
		}
		var err error
		if b.left.Work, err = b.node.SaveWork(); err != nil {
			b.log.Error("blocks found for jobs that are out are lost", "err", err)
		}
		return errUpgrade
	}
}

func (b *box) close() {
	for _, l := range []net.Listener{b.rpcListener, b.apiListener, b.stratumListener, b.signerListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	for _, c := range b.signers {
		_ = c.Close()
	}
	if b.node != nil {
		if err := b.node.Close(); err != nil {
			b.log.Error("close node", "err", err)
		}
	}
	if b.books != nil {
		if err := b.books.Shut(); err != nil {
			b.log.Error("close the books of the Stratum port", "err", err)
		}
	}
}
