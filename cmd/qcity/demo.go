package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"qcitycoin.org/qcity/configs"
)

func newDemo() *cobra.Command {
	defaults := configs.Default()
	var o demoOptions
	var dir string
	var until uint32
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Bring up a whole network on this machine",
		Long: `Bring up a devnet: five validator keys, each generated in a SoftHSM2 token of its
own, sign every tenth block; this machine's CPU and any Stratum miner that
connects mine the others. The first start makes everything in the data
directory; later starts go on with the same chain. Ctrl-C ends it cleanly.

The options from --threads on are written to qcity.toml in the data directory when
the devnet is made. Given at a later start they count for that start only.`,
		Example: `  qcity demo
  qcity demo --data /srv/devnet
  qcity demo --data ./devnet --until-height 30 --json`,
		Args:    cobra.NoArgs,
		PreRunE: checkFeatures,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.given = cmd.Flags().Changed
			return runDemo(cmd.Context(), dir, o, until, asJSON)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&dir, "data", "./devnet", "data directory")
	f.Uint32Var(&until, "until-height", 0, "end with exit code 0 once the chain is this high; 0 goes on until Ctrl-C")
	f.BoolVar(&asJSON, "json", false, "print a JSON summary at the end; the log goes to standard error")
	f.IntVar(&o.threads, "threads", defaults.Miner.Threads, "CPU mining threads; 0 leaves mining to Stratum miners")
	f.StringVar(&o.payout, "payout", "", "address that mined blocks pay; empty makes a key in wallet.wif")
	f.StringVar(&o.rpc, "rpc", defaults.RPC.Listen, "JSON-RPC address")
	f.StringVar(&o.api, "api", defaults.API.Listen, "status API address, on loopback; empty: off")
	f.StringVar(&o.stratum, "stratum", defaults.Stratum.Listen, "Stratum address; empty: off")
	f.Uint32Var(&o.interval, "interval", 0, "seconds between blocks of a new devnet; 0 takes the profile's")
	return c
}

// override puts the options given on the command line over the configuration.
func (o *demoOptions) override(c *configs.Config) error {
	for flag, set := range map[string]func(){
		"threads": func() { c.Miner.Threads = o.threads },
		"payout":  func() { c.Payout = cmp.Or(o.payout, c.Payout) },
		"rpc":     func() { c.RPC.Listen = o.rpc },
		"api":     func() { c.API.Listen = o.api },
		"stratum": func() { c.Stratum.Listen = o.stratum },
	} {
		if o.given(flag) {
			set()
		}
	}
	if !o.given("interval") || o.interval == 0 {
		return nil
	}
	net, err := configs.LoadNetwork(c.NetworkName())
	if err == nil && net.IntervalSeconds != o.interval {
		err = fmt.Errorf("this devnet was made with %d seconds between blocks, which is part of the network: name another folder with --data for --interval %d", net.IntervalSeconds, o.interval)
	}
	return err
}

// display is where a demo's log lines and status go.
type display struct {
	log    *slog.Logger
	raw    io.Writer // for lines of the signer process
	logs   *tail     // nil: no screen
	closer func() error
}

// newDisplay shows a screen on a terminal and plain log lines elsewhere. On a
// screen the log goes to a file, and its last lines are drawn.
func newDisplay(dir string, asJSON bool) (*display, error) {
	if asJSON || !term.IsTerminal(int(os.Stdout.Fd())) {
		out := io.Writer(os.Stdout)
		if asJSON {
			out = os.Stderr
		}
		return &display{log: newLog(out), raw: out, closer: func() error { return nil }}, nil
	}
	f, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	logs := new(tail)
	out := io.MultiWriter(f, logs)
	return &display{log: newLog(out), raw: out, logs: logs, closer: f.Close}, nil
}

func newLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func runDemo(ctx context.Context, dir string, o demoOptions, until uint32, asJSON bool) (err error) {
	setupLog := newLog(os.Stderr)
	if err := ensureDevnet(ctx, dir, o, setupLog); err != nil {
		return err
	}
	file := filepath.Join(dir, configs.FileName)
	cfg, err := configs.Load(file)
	if err != nil {
		return err
	}
	if err := o.override(&cfg); err != nil {
		return err
	}
	d, err := newDisplay(dir, asJSON)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.closer()) }()
	b, err := openBox(ctx, cfg, file, nil, d.log)
	if err != nil {
		return err
	}
	defer b.close()
	running := d.log.With("network", b.net.ID, "height", b.node.Chain.Tip().Height)
	for _, a := range b.addresses() {
		running = running.With(a[0], a[1])
	}
	running.Info("devnet running")
	reached, err := runUntil(ctx, b, d, file, until)
	if err != nil {
		return err
	}
	tip := b.node.Chain.Tip()
	d.log.Info("devnet stopped", "height", tip.Height, "tip", tip.ID)
	if d.logs != nil {
		fmt.Printf("devnet stopped at height %d, block %s; the same command goes on from there\n", tip.Height, tip.ID)
	}
	if until > 0 && !reached {
		return fmt.Errorf("stopped at height %d, before height %d was reached", tip.Height, until)
	}
	if asJSON {
		s, err := b.monitor.summary()
		if err != nil {
			return err
		}
		return writeJSON(os.Stdout, s)
	}
	return nil
}

// errReached ends a demo whose --until-height has come.
var errReached = errors.New("height reached")

// runUntil runs box, signer and screen until ctx ends or the height is reached.
func runUntil(ctx context.Context, b *box, d *display, file string, until uint32) (reached bool, err error) {
	g, ctx := errgroup.WithContext(ctx)
	signerProcess := &child{name: "signer", args: []string{"signer", "run", "--config", file, "--end-with-parent"}, log: d.log, out: d.raw}
	g.Go(func() error { return signerProcess.run(ctx) })
	g.Go(func() error { return b.run(ctx) })
	if until > 0 {
		g.Go(func() error { return b.waitHeight(ctx, until) })
	}
	if d.logs != nil {
		g.Go(func() error { return show(ctx, b, d) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, errReached) {
		return false, err
	} else if err != nil {
		return true, nil
	}
	return until > 0 && b.node.Chain.Tip().Height >= until, nil
}

// waitHeight returns errReached once the chain is that high.
func (b *box) waitHeight(ctx context.Context, height uint32) error {
	for {
		changed := b.node.Chain.Changed()
		if b.node.Chain.Tip().Height >= height {
			return errReached
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// show draws the status screen until ctx ends.
func show(ctx context.Context, b *box, d *display) error {
	fd := int(os.Stdout.Fd())
	var head []string
	for _, a := range b.addresses() {
		head = append(head, row(a[0], "%s", a[1]))
	}
	s := &screen{
		w: os.Stdout, logs: d.logs, now: time.Now, head: head,
		size: func() (int, int) {
			width, height, err := term.GetSize(fd)
			if err != nil || width < 20 || height < 5 {
				return 80, 24
			}
			return width, height
		},
	}
	if _, err := io.WriteString(os.Stdout, ansiEnter); err != nil {
		return err
	}
	defer io.WriteString(os.Stdout, ansiLeave)
	tick := time.NewTicker(statusInterval / 2)
	defer tick.Stop()
	for {
		st, changed := b.status.Latest()
		if st != nil {
			if err := s.draw(st); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}
