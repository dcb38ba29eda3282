package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/stratum/load"
)

// poolLoad is what the flags of qcity pool load ask for.
type poolLoad struct {
	cfg             load.Config
	stalled, shares string
	compare         bool
	rounds          int
	stormOnly       bool
	tipCommand      string
	noProgress      bool
	json            bool
	serve           testPool
}

func newPoolLoad() *cobra.Command {
	var p poolLoad
	c := &cobra.Command{
		Use:   "load [ADDRESS]",
		Short: "Put a Stratum pool under load and measure how it bears it",
		Long: `Connect thousands of simulated miners to a Stratum V1 pool and measure: how long
it takes until all hold a job, how far apart the first and the last of them get a
new one, what clients that stop reading do to the others, how many shares a
second it answers, and the memory and CPU time its process takes.

ADDRESS is HOST:PORT or stratum+tcp://HOST:PORT (stratum+ssl:// for TLS). Without
it, this program's own Stratum server is started in a process of its own, with
made-up work, and measured. docs/load.md says what each figure means.

Load only pools that are yours.`,
		Example: `  qcity pool load
  qcity pool load --connections 10000 --duration 30s --json > result.json
  qcity pool load 127.0.0.1:3333 --pid $(pidof ckpool) --worker ADDRESS.%d
  qcity pool load --connections 5000 --stalled 1% --compare-stalled
  qcity pool load --connections 200 --shares max --tip-every 0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				p.cfg.Address = args[0]
			}
			if err := p.check(cmd.Flags().Changed); err != nil {
				return err
			}
			return p.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVarP(&p.cfg.Connections, "connections", "n", 1000, "connections")
	f.IntVar(&p.cfg.InFlight, "in-flight", 0, "connections that may be on their way to a job at a time; 0: all at once")
	f.DurationVar(&p.cfg.Timeout, "timeout", time.Minute, "what has no job by then has failed")
	f.DurationVar(&p.cfg.Duration, "duration", 20*time.Second, "how long new jobs and shares are measured after the storm")
	f.BoolVar(&p.stormOnly, "storm-only", false, "end when every connection has a job or failed")
	f.StringVar(&p.stalled, "stalled", "0", "part of the connections that stop reading after their first job, as 1%")
	f.BoolVar(&p.compare, "compare-stalled", false, "measure without and with stalled connections in turns, and compare")
	f.IntVar(&p.rounds, "rounds", 2, "turns of each with --compare-stalled")
	f.StringVar(&p.shares, "shares", "0", "shares a second in all, or max")
	f.IntVar(&p.cfg.Window, "window", 32, "unanswered shares a connection may have, up to 64")
	f.IntVar(&p.cfg.Batch, "batch", 8, "shares sent in one write, with a number for --shares")
	f.StringVar(&p.cfg.Worker, "worker", "load.%d", "worker name; %d stands for the connection's number")
	f.StringVar(&p.cfg.Password, "password", "x", "password of every worker; many pools read a difficulty from it, as d=0.001")
	f.BoolVar(&p.cfg.Pipeline, "pipeline", false, "send authorize without waiting for the answer to subscribe")
	f.BoolVar(&p.cfg.TLS, "tls", false, "speak TLS")
	f.BoolVar(&p.cfg.TLSVerify, "tls-verify", false, "check the pool's certificate")
	f.IntSliceVar(&p.cfg.PIDs, "pid", nil, "process ids of the pool, to say what memory and CPU time it takes (Linux)")
	f.StringVar(&p.tipCommand, "tip-command", "", "shell command that writes a line whenever the chain's tip changes")
	f.IntVar(&p.cfg.Threads, "threads", 0, "threads of the tool; 0: one for each CPU")
	f.DurationVar(&p.cfg.ReadDelay, "read-delay", 200*time.Millisecond, "put off reading new jobs, which the kernel stamps, so that the pool has the CPUs for itself; 0: read at once")
	f.BoolVar(&p.noProgress, "no-progress", false, "no progress line")
	f.BoolVar(&p.json, "json", false, "print JSON")
	p.serve.flags(c)
	c.AddCommand(newPoolLoadServe())
	return c
}

// ownFlags are for the server that is started when no address is given.
var ownFlags = []string{"tip-every", "job-every", "branches", "difficulty"}

// check names the first flag that makes no sense.
func (p *poolLoad) check(given func(string) bool) (err error) {
	if p.cfg.Stalled, err = load.ParseFraction(p.stalled); err != nil {
		return fmt.Errorf("--stalled: %w", err)
	}
	if p.cfg.Shares, err = load.ParseRate(p.shares); err != nil {
		return fmt.Errorf("--shares: %w", err)
	}
	if p.cfg.Address != "" {
		for _, name := range ownFlags {
			if given(name) {
				return fmt.Errorf("--%s concerns the server that is started when no ADDRESS is given: leave one of them out", name)
			}
		}
	}
	switch {
	case p.cfg.Connections == 0 || p.cfg.Window == 0 || p.cfg.Batch == 0 || p.cfg.Timeout == 0:
		return errors.New("--connections, --window, --batch and --timeout must not be 0")
	case p.cfg.Address == "" && (p.cfg.TLSVerify || given("pid") || given("tip-command")):
		return errors.New("--tls-verify, --pid and --tip-command are for a pool that runs already: give its ADDRESS")
	case p.compare && !(p.cfg.Stalled > 0):
		return errors.New("--compare-stalled needs --stalled, as --stalled 1%")
	case p.compare && (p.rounds < 1 || p.rounds > 100):
		return fmt.Errorf("--rounds is %d: give 1 to 100", p.rounds)
	case p.compare && p.stormOnly:
		return errors.New("--compare-stalled compares broadcasts, which --storm-only leaves out: drop one of them")
	case p.cfg.Duration < time.Second:
		return fmt.Errorf("--duration is %v: give a second or more, or --storm-only", p.cfg.Duration)
	}
	if p.cfg.Address == "" && !given("read-delay") && !p.serve.slow() {
		p.cfg.ReadDelay = 0 // jobs would come together
	}
	if p.stormOnly {
		p.cfg.Duration = -1
	}
	cfg := p.cfg
	if cfg.Address == "" {
		if err := p.serve.check(); err != nil {
			return err
		}
		cfg.Address = "our own server, whose port is not known yet"
	}
	return cfg.Check()
}

func (p *poolLoad) run(ctx context.Context, out io.Writer) error {
	line := newStatusLine(os.Stderr, p.noProgress)
	defer line.clear()
	if p.compare {
		return p.runCompared(ctx, out, line)
	}
	p.cfg.Progress = func(g load.Progress) { line.show(progressText(g)) }
	res, err := p.measure(ctx)
	line.clear()
	if err != nil {
		return err
	}
	if err := p.print(out, res, loadText(res)); err != nil {
		return err
	}
	if !res.Complete {
		return context.Cause(ctx)
	}
	return nil
}

// runCompared measures without and with stalled connections in turns.
func (p *poolLoad) runCompared(ctx context.Context, out io.Writer, line *statusLine) error {
	var runs []*load.Result
	stalled := p.cfg.Stalled
	for i := 0; i < 2*p.rounds && ctx.Err() == nil; i++ {
		p.cfg.Stalled = 0
		if i%2 == 1 {
			p.cfg.Stalled = stalled
		}
		p.cfg.Progress = func(g load.Progress) {
			line.show(fmt.Sprintf("run %d of %d, %s", i+1, 2*p.rounds, progressText(g)))
		}
		res, err := p.measure(ctx)
		if err != nil {
			return err
		}
		runs = append(runs, res)
	}
	line.clear()
	c := load.Compare(runs)
	c.Complete = c.Complete && len(runs) == 2*p.rounds
	if err := p.print(out, c, comparisonText(&c, stalled)); err != nil {
		return err
	}
	if !c.Complete {
		return context.Cause(ctx)
	}
	return nil
}

// measure runs the load once, against a server of our own if need be.
func (p *poolLoad) measure(ctx context.Context) (*load.Result, error) {
	cfg := p.cfg
	if cfg.Address != "" {
		if p.tipCommand != "" {
			return p.withTips(ctx, cfg)
		}
		return load.Run(ctx, cfg)
	}
	own, err := p.startServe()
	if err != nil {
		return nil, err
	}
	defer own.stop()
	cfg.Address, cfg.PIDs, cfg.Tips = own.hello.Listening, []int{own.hello.PID}, own.tips
	return load.Run(ctx, cfg)
}

// ownPool is our server in a process of its own.
type ownPool struct {
	cmd   *exec.Cmd
	keep  io.Closer // its lifeline
	hello poolLine
	tips  chan load.Tip
}

func (p *poolLoad) startServe() (*ownPool, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := p.serve
	o := &ownPool{tips: make(chan load.Tip, 256)}
	o.cmd = exec.Command(self, "pool", "load", "serve", "--orphan",
		"--connections", strconv.Itoa(p.cfg.Connections), "--tip-every", s.tipEvery.String(), "--job-every", s.jobEvery.String(),
		"--branches", strconv.Itoa(s.branches), "--difficulty", strconv.FormatFloat(s.difficulty, 'g', -1, 64))
	o.cmd.Stderr = os.Stderr
	detach(o.cmd)
	if o.keep, err = o.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := o.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server to measure: %w", err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &o.hello) != nil || o.hello.Listening == "" {
		o.stop()
		return nil, errors.New("the server to measure did not start: see its message above")
	}
	go readTips(lines, o.tips)
	return o, nil
}

// stop ends the server at once: it has nothing to lose.
func (o *ownPool) stop() {
	_ = o.cmd.Process.Kill()
	_ = o.keep.Close()
	_ = o.cmd.Wait()
}

// readTips reads tip changes until the lines end. A line is an object with
// "unixNano" and maybe "prev", or any other text, which means: now.
func readTips(lines *bufio.Scanner, tips chan<- load.Tip) {
	defer close(tips)
	for lines.Scan() {
		now := time.Now().UnixNano()
		var l poolLine
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.UnixNano == 0 {
			l = poolLine{UnixNano: now}
		}
		tips <- load.Tip{Prev: l.Prev, Nano: l.UnixNano}
	}
}

// withTips runs the load with the command that tells of new tips beside it.
func (p *poolLoad) withTips(ctx context.Context, cfg load.Config) (*load.Result, error) {
	cmdCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := exec.CommandContext(cmdCtx, "sh", "-c", p.tipCommand)
	c.Stderr = os.Stderr
	c.WaitDelay = time.Second
	detach(c)
	stdout, err := c.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := c.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("--tip-command: %w", err)
	}
	defer func() {
		cancel()
		_ = c.Wait()
	}()
	tips := make(chan load.Tip, 256)
	go readTips(bufio.NewScanner(stdout), tips)
	cfg.Tips = tips
	return load.Run(ctx, cfg)
}
