package ceremony

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/proof"
	"qcitycoin.org/qcity/signer/worker"
)

// The two ways to carry out a script.
const (
	Rehearsal = "rehearsal" // on fresh SoftHSM tokens
	Run       = "run"       // on the script's modules
)

// Places inside a ceremony's folder.
const (
	TranscriptFile = "transcript.jsonl"
	NetworkFile    = "network.toml"
	RecordsDir     = "records"
	ProofsDir      = "proofs"
	BackupDir      = "backup"
	SharesDir      = "shares"
)

// PINs says which PIN is wanted.
type PINs struct {
	Token string // label
	Admin bool   // the security officer's, not the user's
	New   bool   // it is being set, so a typed one is asked for twice
}

// Question asks a role to confirm what was shown by typing Expect.
type Question struct {
	Step   Step
	Person string
	Hint   string // what to type, without saying it
	Expect string
}

// Config is what a Ceremony needs. All of it is required but Roots, SoftHSMTokens
// and Log.
type Config struct {
	Script       *Script
	ScriptSHA256 string // of the script file, hexadecimal digits
	BinarySHA256 string // of this program
	Kind         string // Rehearsal or Run
	Dir          string // folder of the ceremony, which exists
	Worker       string // path of qcity-p11
	SoftHSM      string // path of SoftHSM's library, if it is used
	// SoftHSMTokens is SoftHSM's token directory, if it is used.
	SoftHSMTokens string
	Root          []byte // PEM, the file that the script names
	Scripted      bool   // answers come from a file; the transcript says so

	Show         func(lines []string) error
	Ask          func(context.Context, Question) (string, error)
	PIN          func(context.Context, PINs) ([]byte, error)
	WriteNetwork func(path string, p *consensus.Params) error
	Now          func() time.Time
	Log          *slog.Logger
}

// Ceremony carries out one script in one folder.
type Ceremony struct {
	cfg     Config
	steps   []Step
	log     *log
	modules map[string]*worker.Supervisor
	// hook is called between the parts of a step; tests end the process there.
	hook func(point string, s Step)
}

// New returns a Ceremony; it starts nothing and touches nothing.
func New(cfg Config) *Ceremony {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Ceremony{cfg: cfg, steps: Steps(cfg.Script), modules: map[string]*worker.Supervisor{}, hook: func(string, Step) {}}
}

// Run carries out the steps that the folder's transcript does not have yet. It
// ends with nil after the last one, with ErrRefused when a person does not confirm
// a step, or with what a token or the machine answered. Run it again to go on.
func (c *Ceremony) Run(ctx context.Context) (err error) {
	lock, err := durable.LockDir(c.cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if c.log, err = openLog(filepath.Join(c.cfg.Dir, TranscriptFile)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.log.file.Close()) }()
	next, err := c.position()
	if err != nil || next == len(c.steps) {
		return err
	}
	if err := c.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if len(c.log.entries) > 0 {
		if err := c.append(KindResumed, c.steps[next], nil); err != nil {
			return err
		}
	}
	for ; next < len(c.steps); next++ {
		if err := c.step(ctx, c.steps[next]); err != nil {
			return fmt.Errorf("step %s: %w", c.steps[next].ID, err)
		}
	}
	return nil
}

// position returns the index of the first step that is not done.
func (c *Ceremony) position() (int, error) {
	entries := c.log.entries
	if len(entries) == 0 {
		return 0, nil
	}
	_, next, err := follow(c.steps, entries)
	if err != nil {
		return 0, err
	}
	if next == 0 {
		return 0, nil
	}
	facts := done(entries)[c.steps[0].ID]
	for _, same := range []struct{ what, is, was string }{
		{"script", c.cfg.ScriptSHA256, facts["script"]},
		{"program", c.cfg.BinarySHA256, facts["binary"]},
		{"kind", c.cfg.Kind, facts["kind"]},
	} {
		if same.is != same.was {
			return 0, failure(ErrOther, "%s holds a ceremony with another %s (%s, now %s): use its own, or another folder", c.cfg.Dir, same.what, same.was, same.is)
		}
	}
	return next, nil
}

// lingerLimit is how long a worker of an interrupted run, or a tool that was asked to
// end, is waited for. Both end by themselves after what they are doing.
const lingerLimit = 90 * time.Second

func (c *Ceremony) open(ctx context.Context) error {
	if err := waitForWorkers(ctx, c.cfg.Dir); err != nil {
		return err
	}
	// What a restore test left when it was killed.
	stale, err := filepath.Glob(filepath.Join(c.cfg.Dir, restorePrefix+"*"))
	if err != nil {
		return err
	}
	for _, d := range stale {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	for _, d := range []string{RecordsDir, ProofsDir} {
		if err := os.MkdirAll(filepath.Join(c.cfg.Dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{BackupDir, SharesDir} {
		if err := os.MkdirAll(filepath.Join(c.cfg.Dir, d), 0o700); err != nil {
			return err
		}
	}
	for _, v := range c.cfg.Script.Validators {
		name := c.module(v)
		if c.modules[name] != nil {
			continue
		}
		w, err := c.start(ctx, name)
		if err != nil {
			return errors.Join(fmt.Errorf("module %q: %w", name, err), c.close())
		}
		c.modules[name] = w
	}
	return nil
}

// module names the module of a validator. A rehearsal uses SoftHSM for all.
func (c *Ceremony) module(v Validator) string {
	if c.cfg.Kind == Rehearsal {
		return SoftHSM
	}
	return v.Module
}

func (c *Ceremony) start(ctx context.Context, name string) (*worker.Supervisor, error) {
	w, err := c.worker(name)
	if err != nil {
		return nil, err
	}
	if _, err := w.Open(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, noteWorker(c.cfg.Dir, name, w.Status().PID)
}

// worker makes a worker for a module.
func (c *Ceremony) worker(name string) (*worker.Supervisor, error) {
	cfg := worker.Config{Binary: c.cfg.Worker, Module: c.cfg.Script.Modules[name], Env: Environment(c.cfg.Script.Environment), Log: c.cfg.Log}
	if name == SoftHSM {
		var err error
		if cfg, err = c.softHSM(c.cfg.SoftHSMTokens, "softhsm2.conf"); err != nil {
			return nil, err
		}
		if path, ok := c.cfg.Script.Modules[name]; ok && c.cfg.Kind == Run {
			cfg.Module = path
		}
	}
	return worker.New(cfg)
}

// softHSM configures a worker on a SoftHSM token directory.
func (c *Ceremony) softHSM(tokens, conf string) (worker.Config, error) {
	if tokens == "" || c.cfg.SoftHSM == "" {
		return worker.Config{}, failure(ErrTokenState, "the script uses SoftHSM: name its token directory (--softhsm-tokens)")
	}
	path := filepath.Join(c.cfg.Dir, conf)
	if err := durable.WriteFile(path, []byte(worker.SoftHSMConf(tokens)), 0o600); err != nil {
		return worker.Config{}, err
	}
	abs, err := filepath.Abs(path)
	return worker.Config{
		Binary: c.cfg.Worker, Module: c.cfg.SoftHSM, Env: []string{"SOFTHSM2_CONF=" + abs}, Log: c.cfg.Log,
	}, err
}

func (c *Ceremony) close() error {
	var errs []error
	for _, w := range c.modules {
		errs = append(errs, w.Close())
	}
	clear(c.modules)
	return errors.Join(errs...)
}

// result is what a step found.
type result struct {
	shown  []string
	facts  map[string]string
	expect string // what the role types; "correct" if empty
	hint   string // what that is
}

func (r *result) show(format string, args ...any) {
	r.shown = append(r.shown, fmt.Sprintf(format, args...))
}

// fact notes a value and shows it.
func (r *result) fact(name, value string) {
	r.facts[name] = value
	r.shown = append(r.shown, factLine(name, value))
}

func factLine(name, value string) string { return fmt.Sprintf("%-13s %s", name, value) }

// confirmation is what a role types where nothing on the screen has to be compared
// letter by letter.
const confirmation = "correct"

func (c *Ceremony) step(ctx context.Context, s Step) error {
	interrupted := c.started(s)
	if !interrupted && (s.action == actInit || s.action == actGenerate) {
		if err := c.append(KindStarted, s, nil); err != nil {
			return err
		}
	}
	c.hook("before", s)
	// Before the work, so that whoever is asked for a PIN knows what for.
	if err := c.cfg.Show([]string{"", fmt.Sprintf("Step %s: %s", s.ID, s.Title), "expected: " + s.Expect}); err != nil {
		return err
	}
	r := &result{facts: map[string]string{}}
	if err := c.do(ctx, s, r, interrupted); err != nil {
		return err
	}
	c.hook("after", s)
	if r.expect == "" {
		r.expect, r.hint = confirmation, `the word "`+confirmation+`"`
	}
	if err := c.cfg.Show(r.shown); err != nil {
		return err
	}
	answer, err := c.cfg.Ask(ctx, Question{s, c.cfg.Script.Roles.person(s.Role), r.hint, r.expect})
	if err != nil {
		return err
	}
	c.hook("answered", s)
	if !sameWords(answer, r.expect) {
		// What was typed is not repeated: it may be a PIN, a prompt too late.
		if err := c.append(KindRefused, s, &Entry{Shown: r.shown, Facts: r.facts, Asked: r.expect}); err != nil {
			return err
		}
		return failure(ErrRefused, "the %s typed something else where %q was asked, so the ceremony stops here; find out why, then run it again", s.Role, r.expect)
	}
	if err := c.append(KindDone, s, &Entry{Shown: r.shown, Facts: r.facts, Asked: r.expect, Answer: r.expect}); err != nil {
		return err
	}
	c.hook("done", s)
	return nil
}

func (c *Ceremony) append(kind string, s Step, e *Entry) error {
	if e == nil {
		e = new(Entry)
	}
	e.Time, e.Kind, e.Step, e.Role = c.cfg.Now().UTC().Format(time.RFC3339), kind, s.ID, s.Role
	e.Scripted = c.cfg.Scripted && (kind == KindDone || kind == KindRefused)
	return c.log.append(*e)
}

// started reports whether the step was begun before, so that what it makes may be
// there already. Without that line a key in the token is somebody else's.
func (c *Ceremony) started(s Step) bool {
	return slices.ContainsFunc(c.log.entries, func(e Entry) bool { return e.Step == s.ID && e.Kind == KindStarted })
}

// ready returns a validator's module and token, logged in.
func (c *Ceremony) ready(ctx context.Context, v Validator) (*worker.Supervisor, worker.TokenRef, error) {
	w := c.modules[c.module(v)]
	token := worker.TokenRef{Label: v.Token, Serial: c.facts(actInit, v.Token)["serial"]}
	return w, token, c.login(ctx, w, token, PINs{Token: v.Token})
}

func (c *Ceremony) login(ctx context.Context, w *worker.Supervisor, token worker.TokenRef, want PINs) error {
	// Who is logged in may look; only who is not is asked for the PIN.
	if _, err := w.ListKeys(ctx, token); !errors.Is(err, worker.ErrNotLoggedIn) {
		return err
	}
	pin, err := c.cfg.PIN(ctx, want)
	if err != nil {
		return err
	}
	defer clear(pin)
	return w.Login(ctx, token, pin)
}

// facts returns what the done step of this kind found about a token.
func (c *Ceremony) facts(a action, token string) map[string]string {
	return factsOf(c.cfg.Script, c.steps, done(c.log.entries), a, token)
}

func factsOf(s *Script, steps []Step, done map[string]map[string]string, a action, token string) map[string]string {
	for _, st := range steps {
		if st.action == a && (st.validator < 0 || s.Validators[st.validator].Token == token) {
			return done[st.ID]
		}
	}
	return nil
}

// key returns the public key that a validator's generate step found.
func (c *Ceremony) key(v Validator) (k types.PublicKey, err error) {
	err = k.UnmarshalText([]byte(c.facts(actGenerate, v.Token)["publicKey"]))
	return k, err
}

// network returns the network that the keys make up.
func (c *Ceremony) network() (*consensus.Network, error) {
	keys := make([]types.PublicKey, len(c.cfg.Script.Validators))
	for i, v := range c.cfg.Script.Validators {
		var err error
		if keys[i], err = c.key(v); err != nil {
			return nil, err
		}
	}
	return consensus.NewNetwork(c.cfg.Script.params(keys))
}

func parseProof(text string) (proof.Proof, error) { return proof.Parse([]byte(text + "\n")) }
