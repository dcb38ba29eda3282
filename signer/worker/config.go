package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// Config is what a Supervisor needs.
type Config struct {
	// Binary is the path of qcity-p11, Module that of the PKCS#11 library.
	Binary string
	Module string
	// InitArgs is a string that the module wants in C_Initialize; NSS does.
	InitArgs string
	// Env is the worker's environment besides the few variables of this process
	// that every program needs (passed) and SOFTHSM2_CONF: an entry NAME=value sets
	// a variable, an entry NAME passes this process's on. Vendors' libraries are
	// configured that way. Never put a PIN there.
	Env []string
	// Sessions is how many signatures one token may be asked for at the same
	// time, each in a session of its own; DefaultSessions if 0.
	Sessions int
	// Sandbox limits what the worker may do besides; nil sets only the limits that
	// no module can need otherwise.
	Sandbox *Sandbox
	// VendorCodes says what may be done about codes that the module's vendor chose
	// (from RVVendor on). Those that are not here are ClassRestart.
	VendorCodes map[RV]Class
	// PrivateTokenCopy, if set, protects a SoftHSM token directory.
	PrivateTokenCopy *PrivateTokenCopy
	Timeouts         Timeouts
	Budget           Budget
	Log              *slog.Logger // required
	// Discarded, unless nil, is told of each worker that failed and why.
	Discarded func(cause error)
}

// DefaultSessions is two: one at work and one spare. Measured, signatures a
// second with 1, 2, 4 and 8 sessions: SoftHSM on two cores 1,500, 2,500, 3,100,
// 3,000 with a 99th percentile that doubles at each step from 2 on; a TPM 98,
// 125, 68, 64; a token behind p11-kit's socket 1,019, 797, 766, 604. So two is the
// best or costs little everywhere, and it does not leave a slot's votes waiting
// behind one call that is slow. It is a constant and not measured at the start
// because that would take signatures over arbitrary digests with a valuable
// key. A network HSM, where the time is the way to it, gains from one session per
// key that it holds: set Sessions.
const DefaultSessions = 2

// Timeouts are the deadlines of one call each. Zero fields take the default.
type Timeouts struct {
	Start time.Duration // process start, module load and C_Initialize; 10 s
	Call  time.Duration // listing, finding, signing; 1.8 s, so that a hang is over within 2 s
	Login time.Duration // a login is never cut short by anything else; 30 s
	Pad   time.Duration // a login whose PIN a person enters at the token; 2 min
	SetUp time.Duration // InitToken and GenerateKey; 60 s
}

// Budget bounds the restarts of a failing worker: Restarts within Window, then
// the token counts as down. Zero fields take the default of 3 in 60 s.
type Budget struct {
	Restarts int
	Window   time.Duration
}

func (cfg *Config) check() error {
	switch {
	case cfg.Binary == "":
		return errors.New("worker: the path of qcity-p11 is not set")
	case cfg.Module == "":
		return errors.New("worker: the path of the PKCS#11 module is not set")
	case cfg.Log == nil:
		return errors.New("worker: a logger is needed")
	case cfg.Sessions < 0 || cfg.Sessions > MaxParallel:
		return fmt.Errorf("worker: %d sessions, want 1 to %d, or 0 for the default", cfg.Sessions, MaxParallel)
	case cfg.PrivateTokenCopy != nil && (cfg.PrivateTokenCopy.Source == "" || cfg.PrivateTokenCopy.Dir == ""):
		return errors.New("worker: a private token copy needs Source and Dir")
	}
	for rv := range cfg.VendorCodes {
		if rv < RVVendor {
			return fmt.Errorf("worker: %s is a code of the standard, its class is fixed; vendors' begin at %#x", rv, uint64(RVVendor))
		}
	}
	return nil
}

func (cfg *Config) setDefaults() {
	setDefault(&cfg.Timeouts.Start, 10*time.Second)
	setDefault(&cfg.Sessions, DefaultSessions)
	setDefault(&cfg.Timeouts.Call, 1800*time.Millisecond)
	setDefault(&cfg.Timeouts.Login, 30*time.Second)
	setDefault(&cfg.Timeouts.Pad, 2*time.Minute)
	setDefault(&cfg.Timeouts.SetUp, time.Minute)
	setDefault(&cfg.Budget.Restarts, 3)
	setDefault(&cfg.Budget.Window, time.Minute)
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// passed are the variables every worker gets. What else is in a daemon's
// environment may be secret, or change what the dynamic linker loads.
var passed = [...]string{"PATH", "HOME", "LANG", "TZ", "SOFTHSM2_CONF"}

// environ is the worker's environment; conf, if set, is SoftHSM's configuration.
func (cfg *Config) environ(conf string) []string {
	var env []string
	pass := func(name string) {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range passed {
		pass(name)
	}
	for _, e := range cfg.Env {
		if strings.Contains(e, "=") {
			env = append(env, e) // the last one of a name counts
		} else {
			pass(e)
		}
	}
	if conf != "" {
		env = append(env, "SOFTHSM2_CONF="+conf)
	}
	return env
}
