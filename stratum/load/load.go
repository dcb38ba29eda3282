// Package load puts a Stratum V1 pool under load and measures how it bears it:
// thousands of connections that come at once, the spread of new jobs, clients
// that stop reading, shares at a high rate, and what all this costs the pool's
// process. It knows the protocol only, no pool's program.
package load

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// MaxConnections is the most connections of a run.
const MaxConnections = 50_000

// Config says what to do. Zero fields mean the defaults named here.
type Config struct {
	// Address is the pool: HOST:PORT, with or without stratum+tcp:// or
	// stratum+ssl:// in front (which sets TLS).
	Address string
	// TLS wraps each connection; the certificate is checked only with TLSVerify.
	TLS, TLSVerify bool

	Connections int // default 1000
	// InFlight bounds the connections under way at a time; 0: all at once.
	InFlight int
	// Timeout ends the storm: what has no job then has failed. Default 60 s.
	Timeout time.Duration
	// Duration is how long broadcasts and shares are measured after the storm.
	// Default 20 s; negative: the storm only.
	Duration time.Duration
	// Stalled is the fraction of connections, from 0 up to 1, that stop reading
	// after their first job.
	Stalled float64

	// Worker is the user name; %d in it stands for the connection's number.
	// Default "load.%d". Password: default "x".
	Worker, Password string
	Agent            string // default "qcity-load"
	// Pipeline sends mining.authorize without waiting for the answer to
	// mining.subscribe.
	Pipeline bool

	Shares Rate
	// Window is the most unanswered submits of a connection, Batch the most that
	// go out in one write at a given rate. Defaults 32 and 8.
	Window, Batch int

	// ReadDelay puts off the reading of new jobs after the first arrived, where
	// the kernel stamps arrivals and no shares are sent: so the tool takes no
	// CPU time from a pool on the same machine while that sends. It must be
	// shorter than the time between two jobs: of those that come together, the
	// stamp is the last one's. At most half a second. Default: none.
	ReadDelay time.Duration
	// Threads is the number of epoll loops. Default: one for each CPU.
	Threads int
	// PIDs are the pool's processes, to say what they use. Linux only.
	PIDs []int
	// Tips tells when the chain's tip changed; nil if nobody knows.
	Tips <-chan Tip
	// Progress, if not nil, is called a few times a second.
	Progress func(Progress)

	goroutines bool // the portable engine, in tests
	// pause lets the pool come to rest after the storm, before its memory is
	// read. Default 1 s; shorter in tests.
	pause time.Duration
}

// Rate is a number of shares a second.
type Rate struct {
	Rate float64 // 0: none
	Max  bool    // as many as the pool answers
}

// ParseRate reads "max" or a number of shares a second.
func ParseRate(s string) (Rate, error) {
	if s == "max" {
		return Rate{Max: true}, nil
	}
	r, err := strconv.ParseFloat(s, 64)
	if err != nil || !(r >= 0 && r <= 1e8) {
		return Rate{}, fmt.Errorf("%q is no share rate: give a number of shares a second up to 100000000, or max", s)
	}
	return Rate{Rate: r}, nil
}

func (r Rate) String() string {
	if r.Max {
		return "max"
	}
	return strconv.FormatFloat(r.Rate, 'g', -1, 64)
}

func (r Rate) any() bool { return r.Max || r.Rate > 0 }

// ParseFraction reads a fraction of connections: "1%" or "0.01".
func ParseFraction(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f < 1) {
		return 0, fmt.Errorf("%q is no fraction of the connections: give a percentage below 100%%, as 1%% is", s)
	}
	return f, nil
}

// withDefaults fills the zero fields and takes the address apart.
func (c Config) withDefaults() Config {
	for _, p := range []struct {
		scheme string
		tls    bool
	}{{"stratum+tcp://", false}, {"stratum+tls://", true}, {"stratum+ssl://", true}, {"tcp://", false}, {"ssl://", true}, {"tls://", true}} {
		if rest, ok := strings.CutPrefix(c.Address, p.scheme); ok {
			c.Address, c.TLS = strings.TrimSuffix(rest, "/"), c.TLS || p.tls
			break
		}
	}
	c.Connections = cmp.Or(c.Connections, 1000)
	c.Timeout = cmp.Or(c.Timeout, time.Minute)
	c.Duration = cmp.Or(c.Duration, 20*time.Second)
	c.pause = cmp.Or(c.pause, time.Second)
	c.Worker = cmp.Or(c.Worker, "load.%d")
	c.Password = cmp.Or(c.Password, "x")
	c.Agent = cmp.Or(c.Agent, "qcity-load")
	c.Window = cmp.Or(c.Window, 32)
	c.Batch = cmp.Or(c.Batch, 8)
	c.Threads = cmp.Or(c.Threads, runtime.GOMAXPROCS(0))
	return c
}

// Check refuses what makes no sense: the first wrong value, zero fields counting
// as their defaults.
func (c Config) Check() error {
	c = c.withDefaults()
	return c.check()
}

// check is Check for a configuration that has its defaults.
func (c *Config) check() error {
	switch {
	case c.Address == "":
		return errors.New("no pool to load: give its address as HOST:PORT")
	case c.Connections < 1 || c.Connections > MaxConnections:
		return fmt.Errorf("%d connections: give 1 to %d", c.Connections, MaxConnections)
	case c.InFlight < 0:
		return fmt.Errorf("%d connections under way at a time: give 1 or more, or 0 for all at once", c.InFlight)
	case c.Timeout < 0:
		return fmt.Errorf("a timeout of %v: give a positive time", c.Timeout)
	case !(c.Stalled >= 0 && c.Stalled < 1):
		return fmt.Errorf("a stalled fraction of %v: give 0 or more and less than 1", c.Stalled)
	case c.Window < 1 || c.Window > window:
		return fmt.Errorf("%d unanswered shares for each connection: give 1 to %d", c.Window, window)
	case c.Batch < 1 || c.Batch > c.Window:
		return fmt.Errorf("%d shares in one write: give 1 to the %d that may be unanswered", c.Batch, c.Window)
	case c.ReadDelay < 0 || c.ReadDelay > lastGrace/2:
		return fmt.Errorf("a reading delay of %v: give 0 to %v", c.ReadDelay, lastGrace/2)
	case c.Threads < 1 || c.Threads > 256:
		return fmt.Errorf("%d threads: give 1 to 256", c.Threads)
	case strings.ContainsAny(c.Worker+c.Password+c.Agent, "\"\\\n\r"):
		return errors.New("worker name, password and agent must not hold quotes, backslashes or line ends")
	}
	return nil
}

// Progress is how far a run is.
type Progress struct {
	Phase                 string // "connecting" or "measuring"
	Elapsed, Of           time.Duration
	Connections           int
	Holding, Failed, Lost int
	Broadcasts            int
	Answers               uint64
}
