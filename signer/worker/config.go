package worker

import (
	"errors"
	"log/slog"
	"os"
	"time"
)

// Config is what a Supervisor needs.
type Config struct {
	// Binary is the path of qcity-p11, Module that of the PKCS#11 library.
	Binary string
	Module string
	// Env is added to this process's environment for the worker, as KEY=value:
	// vendors' libraries and SoftHSM (SOFTHSM2_CONF) are configured that way.
	// Never put a PIN there.
	Env []string
	// PrivateTokenCopy, if set, protects a SoftHSM token directory.
	PrivateTokenCopy *PrivateTokenCopy
	Timeouts         Timeouts
	Budget           Budget
	Log              *slog.Logger // required
}

// Timeouts are the deadlines of one call each. Zero fields take the default.
type Timeouts struct {
	Start time.Duration // process start, module load and C_Initialize; 10 s
	Call  time.Duration // listing, finding, signing; 2 s
	Login time.Duration // a login is never cut short by anything else; 30 s
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
	case cfg.PrivateTokenCopy != nil && (cfg.PrivateTokenCopy.Source == "" || cfg.PrivateTokenCopy.Dir == ""):
		return errors.New("worker: a private token copy needs Source and Dir")
	}
	return nil
}

func (cfg *Config) setDefaults() {
	setDefault(&cfg.Timeouts.Start, 10*time.Second)
	setDefault(&cfg.Timeouts.Call, 2*time.Second)
	setDefault(&cfg.Timeouts.Login, 30*time.Second)
	setDefault(&cfg.Timeouts.SetUp, time.Minute)
	setDefault(&cfg.Budget.Restarts, 3)
	setDefault(&cfg.Budget.Window, time.Minute)
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// environ is the worker's environment; conf, if set, is SoftHSM's configuration.
func (cfg *Config) environ(conf string) []string {
	env := append(os.Environ(), cfg.Env...)
	if conf != "" {
		env = append(env, "SOFTHSM2_CONF="+conf)
	}
	return env
}
