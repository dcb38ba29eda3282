package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mode is the only argument of a probing qcity-p11.
const Mode = "conformance"

// SocketFD is the descriptor of its connection.
const SocketFD = 3

// Runner starts the probing processes.
type Runner struct {
	Binary   string   // qcity-p11
	Env      []string // besides this process's own, which vendors' libraries may need
	Module   string
	InitArgs string
	// Limit bounds the time a single case may take; 60 s if 0. A module that hangs
	// is killed then, which is why it is not short: a killed login was seen to
	// destroy a SoftHSM token.
	Limit time.Duration
}

// Options says what may be done to a token.
type Options struct {
	Label, Serial string
	PIN           []byte // none: cases that need a login are skipped
	Scratch       bool   // keys may be made and destroyed
	WrongPIN      bool   // one wrong PIN may be tried
	// Progress, if set, is called with every outcome as it comes.
	Progress func(Outcome)
}

// Report is what a probe found.
type Report struct {
	Token    Token     `json:"token"`
	Curve    string    `json:"curve,omitempty"` // of the scratch key
	Outcomes []Outcome `json:"outcomes"`
	Rates    []Rate    `json:"rates,omitempty"`
	// LoginFailed says how a login failed, after which no other was tried: then the
	// outcomes say nothing of the kind of token.
	LoginFailed string `json:"loginFailed,omitempty"`
}

// Count returns how many outcomes have each result.
func (r *Report) Count() map[Result]int {
	n := make(map[Result]int)
	for _, o := range r.Outcomes {
		n[o.Result]++
	}
	return n
}

// ErrToken: no token, or more than one, was meant.
var ErrToken = errors.New("no single token")

// List returns the initialised tokens. It logs in nowhere.
func (r *Runner) List(ctx context.Context) ([]Token, error) {
	var tokens []Token
	exit, err := r.process(ctx, Request{}, nil, func(a Answer) error {
		tokens = append(tokens, a.Tokens...)
		if a.Err != "" {
			return errors.New(a.Err)
		}
		return nil
	})
	if err == nil && exit != "" {
		return nil, fmt.Errorf("the module %s ended its process: %s", r.Module, exit)
	}
	if err != nil {
		return nil, err
	}
	for i := range tokens {
		if tokens[i].Secp256k1 == "" {
			tokens[i].Secp256k1 = known(tokens[i])
		}
	}
	return tokens, nil
}

// Probe asks the token all cases that opts allows. A failed case is no error.
func (r *Runner) Probe(ctx context.Context, opts Options) (*Report, error) {
	tokens, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	tokens = slices.DeleteFunc(tokens, func(t Token) bool {
		return opts.Label != "" && t.Label != opts.Label || opts.Serial != "" && t.Serial != opts.Serial
	})
	if len(tokens) != 1 {
		return nil, fmt.Errorf("%w: %d tokens match; name one with --token and --serial (see qcity hsm list)", ErrToken, len(tokens))
	}
	report := &Report{Token: tokens[0]}
	p := &probe{Runner: r, report: report, opts: opts}
	if len(opts.PIN) > 0 && tokens[0].PIN != "ok" && tokens[0].PIN != "low" {
		p.pinRefused = "PIN state " + tokens[0].PIN + ": not tried"
	}
	for _, group := range p.groups() {
		if err := p.ask(ctx, group); err != nil {
			return report, err
		}
	}
	slices.SortFunc(report.Outcomes, func(a, b Outcome) int { return a.Number - b.Number })
	return report, nil
}

type probe struct {
	*Runner
	opts       Options
	report     *Report
	pinRefused string
}

func (p *probe) done(o Outcome) {
	p.report.Outcomes = append(p.report.Outcomes, o)
	if p.opts.Progress != nil {
		p.opts.Progress(o)
	}
}

// groups cuts the table into runs of cases that share a process: of one area,
// and either all with a scratch key or all without.
func (p *probe) groups() [][]Case {
	var out [][]Case
	last := Case{}
	for _, c := range cases {
		together := len(out) > 0 && c.Number/100 == last.Number/100 && (c.Needs|last.Needs)&Alone == 0 && c.Needs&WrongPIN == last.Needs&WrongPIN &&
			c.Needs&Key == last.Needs&Key && c.Needs&Login == last.Needs&Login
		if together {
			out[len(out)-1] = append(out[len(out)-1], c)
		} else {
			out = append(out, []Case{c})
		}
		last = c
	}
	return out
}

// why says why a case is not asked; empty if it is.
func (p *probe) why(c Case) string {
	switch {
	case c.Needs&Key != 0 && !p.opts.Scratch:
		return "makes a key: needs --scratch"
	case c.Needs&WrongPIN != 0 && !p.opts.WrongPIN:
		return "tries a wrong PIN: needs --wrong-pin"
	case c.Needs&Login != 0 && len(p.opts.PIN) == 0:
		return "needs a PIN: --pin"
	case c.Needs&Login != 0 && p.pinRefused != "":
		return p.pinRefused
	}
	return ""
}

// ask puts a group of cases to fresh processes until each has its outcome.
func (p *probe) ask(ctx context.Context, group []Case) error {
	group = slices.DeleteFunc(slices.Clone(group), func(c Case) bool {
		why := p.why(c)
		if why != "" {
			p.done(Outcome{Number: c.Number, Name: c.Name, Result: Skipped, Note: why})
		}
		return why != ""
	})
	for len(group) > 0 {
		if why := p.why(group[0]); why != "" {
			p.done(Outcome{Number: group[0].Number, Name: group[0].Name, Result: Skipped, Note: why})
			group = group[1:]
			continue
		}
		req := Request{Label: p.report.Token.Label, Serial: p.report.Token.Serial}
		var pin []byte
		for _, c := range group {
			req.Cases = append(req.Cases, c.Number)
			if c.Needs&Login != 0 {
				pin = p.opts.PIN
			}
		}
		refused, loggedIn := "", pin == nil
		exit, err := p.process(ctx, req, pin, func(a Answer) error {
			switch {
			case a.PINRefused:
				refused = a.Err
				p.noLogin(refused)
			case a.Err != "":
				return errors.New(a.Err)
			}
			loggedIn = loggedIn || a.LoggedIn
			if a.Curve != "" {
				p.report.Curve = a.Curve
			}
			p.report.Rates = append(p.report.Rates, a.Rates...)
			if a.Outcome == nil {
				return nil
			}
			if len(group) == 0 || a.Outcome.Number != group[0].Number {
				return fmt.Errorf("qcity-p11 answered case %d out of turn", a.Outcome.Number)
			}
			a.Outcome.Name = group[0].Name
			p.done(*a.Outcome)
			group = group[1:]
			return nil
		})
		if err != nil {
			return err
		}
		if len(group) == 0 {
			break
		}
		if refused != "" {
			p.done(Outcome{Number: group[0].Number, Name: group[0].Name, Result: Fail, Note: refused})
			group = group[1:]
			continue
		}
		if !loggedIn {
			p.noLogin("the process ended before its login had: " + exit)
		}
		p.done(died(group[0], exit))
		group = group[1:]
	}
	return nil
}

// noLogin lets no further process log in: the token may have counted a try.
func (p *probe) noLogin(reason string) {
	p.pinRefused, p.report.LoginFailed = "a login failed: no further one is tried", reason
}

// died is the outcome of the case in which the process ended.
func died(c Case, exit string) Outcome {
	o := Outcome{Number: c.Number, Name: c.Name, Result: Fail, Value: "process died", Note: exit}
	if strings.HasPrefix(exit, hung) {
		o.Value = "hangs"
	}
	if c.Needs&Varies != 0 {
		o.Result = Pass // what happens here is recorded, whatever it is
	}
	return o
}

const hung = "the call did not return within "

// process runs one probing process. exit says how it ended, empty if well. When ctx
// ends it waits for the call under way, and for what was made to be destroyed.
func (r *Runner) process(ctx context.Context, req Request, pin []byte, each func(Answer) error) (exit string, err error) {
	req.Module, req.InitArgs = r.Module, r.InitArgs
	doc, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("make a socket pair: %w", err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil { // makes deadlines work
		return "", err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "probe"), os.NewFile(uintptr(pair[1]), "probe (child)")
	defer ours.Close()
	var said strings.Builder
	cmd := exec.Command(r.Binary, Mode)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = &head{b: &said}
	cmd.WaitDelay = time.Second
	wait, err := start(cmd)
	theirs.Close()
	if err != nil {
		return "", fmt.Errorf("start %s: %w", r.Binary, err)
	}
	hangUp := context.AfterFunc(ctx, func() { ours.Close() })
	defer hangUp()
	frame := slices.Concat(doc, []byte{'\n', byte(len(pin) >> 8), byte(len(pin))}, pin)
	defer clear(frame)
	_, err = ours.Write(frame)
	if err == nil {
		err = r.read(ours, each)
	}
	if ctx.Err() != nil {
		// It ends by itself once the call that it is in has.
		late := time.AfterFunc(r.limit(), func() { _ = cmd.Process.Kill() })
		_ = wait()
		late.Stop()
		return "", ctx.Err()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Kill()
		_ = wait()
		return hung + r.limit().String(), nil
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	end := wait()
	var ended *exec.ExitError
	if err == nil && end != nil && !errors.As(end, &ended) {
		return "", end
	}
	if end != nil && (err == nil || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)) {
		return strings.TrimSpace(end.Error() + ": " + firstLine(said.String())), nil
	}
	return "", err
}

func (r *Runner) limit() time.Duration {
	if r.Limit > 0 {
		return r.Limit
	}
	return time.Minute
}

func (r *Runner) read(conn *os.File, each func(Answer) error) error {
	in := bufio.NewReader(conn)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(r.limit())); err != nil {
			return err
		}
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
		var a Answer
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("qcity-p11 answered with what is no answer: %w", err)
		}
		if err := each(a); err != nil {
			return err
		}
	}
}

// start starts cmd with no_new_privs, which a process inherits from the thread
// that forks it. The thread carries it for good, so it is given up, but not before
// the child has ended: the kernel takes its end for that of the child's parent
// (prctl(2), PR_SET_PDEATHSIG). wait waits for the child.
func start(cmd *exec.Cmd) (wait func() error, err error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return func() error { return <-ended }, <-started
}

// head keeps the beginning of what a module prints.
type head struct{ b *strings.Builder }

func (h *head) Write(p []byte) (int, error) {
	if room := 4096 - h.b.Len(); room > 0 {
		h.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
