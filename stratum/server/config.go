package server

import (
	"crypto/tls"
	"fmt"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
)

// Config is what an operator may set. Zero fields mean the defaults named here.
type Config struct {
	// MaxSessions is the largest number of connections at a time; one more is
	// told so and closed. Default 10,000. There is no limit per address: rental
	// services put thousands of miners behind one.
	MaxSessions int
	// TLS serves clients that begin with a TLS handshake, on the same port. Nil
	// closes them at once: some try without TLS then.
	TLS *tls.Config
	// LineLimit is the longest line read, in bytes. Default 8192.
	LineLimit int
	// JunkLines is the number of unreadable lines that closes a connection. Default 5.
	JunkLines int
	// Difficulty holds the limits and the aim of variable difficulty.
	Difficulty stratum.VardiffConfig
	// Devices is searched before the built-in table of devices; an entry for the
	// agent "" replaces that. Default none.
	Devices []stratum.Device
	// SubscribeTimeout closes a connection that has not subscribed, and
	// AuthorizeTimeout one that has not authorized a worker. Default 30 s and
	// 10 min. A miner that did both may stay silent for ever.
	SubscribeTimeout time.Duration
	AuthorizeTimeout time.Duration
	// LineTimeout closes a connection that begins a line and does not end it. Default 1 min.
	LineTimeout time.Duration
	// FloodBurst messages without effect at once, and FloodRate a second in the
	// long run, are taken; more close the connection. An accepted share allows
	// one more. Default 2000 and 20.
	FloodBurst, FloodRate int
	// WriteTimeout closes a connection that takes no data, or confirms none (Linux),
	// for so long. Default 30 s.
	WriteTimeout time.Duration
	// RefreshInterval is the longest time between two jobs; the same work is
	// sent again with a later time stamp, because firmware gives a server up
	// after 60 to 120 silent seconds, and some lets its hash rate fade without
	// new jobs. Default 22 s: checked once a second, that is 25 s at most
	// even on a machine that is late.
	RefreshInterval time.Duration
	// UpdateInterval is the least time between a job and the next on the same
	// parent: every new job costs a device the work in its pipeline, and better
	// transactions are worth less than that. Default 10 s.
	UpdateInterval time.Duration
	// StaleGrace is how long shares of the parent before still count after a
	// session was sent a job on the new one. Default 2 s.
	StaleGrace time.Duration
	// RetargetGrace is how long shares of a superseded, easier difficulty are
	// still taken: some devices apply a new one only at the next block. Default 2 min.
	RetargetGrace time.Duration
	// KeepJobs is the number of sent jobs a session remembers for late shares. Default 32.
	KeepJobs int
	// NTimeAhead is how far a share's time may lie beyond its job's: large
	// devices use the low bits as one more nonce. Default 7000 s. The chain
	// judges the time of a block by its own rule.
	NTimeAhead time.Duration
	// ResumeEntries and ResumeFor bound the closed sessions whose extranonce1,
	// difficulty and jobs wait for their miner to come back. Default 16,384, 10 min.
	ResumeEntries int
	ResumeFor     time.Duration
	// Personal returns the work of one worker on a job of the feed: the same but for
	// its coinbase, with an id of its own that the submitter knows. False: the worker
	// does the common work. It is asked once for each account and job. Nil: all work
	// is common.
	Personal func(job *work.Job, worker string) (*work.Job, bool)
	// TakeoverSilence is how long an open connection must have said nothing
	// before a new one from the same address may have its extranonce1. Default 5 s.
	TakeoverSilence time.Duration
}

func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// WithDefaults fills the zero fields.
func (c Config) WithDefaults() Config {
	orDefault(&c.MaxSessions, 10_000)
	orDefault(&c.LineLimit, stratum.DefaultLineLimit)
	orDefault(&c.JunkLines, 5)
	c.Difficulty = c.Difficulty.WithDefaults()
	orDefault(&c.SubscribeTimeout, 30*time.Second)
	orDefault(&c.AuthorizeTimeout, 10*time.Minute)
	orDefault(&c.LineTimeout, time.Minute)
	orDefault(&c.FloodBurst, 2000)
	orDefault(&c.FloodRate, 20)
	orDefault(&c.TakeoverSilence, 5*time.Second)
	orDefault(&c.WriteTimeout, 30*time.Second)
	orDefault(&c.RefreshInterval, 22*time.Second)
	orDefault(&c.UpdateInterval, 10*time.Second)
	orDefault(&c.StaleGrace, 2*time.Second)
	orDefault(&c.RetargetGrace, 2*time.Minute)
	orDefault(&c.KeepJobs, 32)
	orDefault(&c.NTimeAhead, 7000*time.Second)
	orDefault(&c.ResumeEntries, 16_384)
	orDefault(&c.ResumeFor, 10*time.Minute)
	return c
}

// Check refuses values that cannot work; call it after WithDefaults.
func (c Config) Check() error {
	for _, f := range []struct {
		name     string
		value    int64
		min, max int64
	}{
		{"MaxSessions", int64(c.MaxSessions), 1, 1 << 20},
		{"LineLimit", int64(c.LineLimit), 512, 1 << 20},
		{"JunkLines", int64(c.JunkLines), 1, 1 << 20},
		{"SubscribeTimeout", int64(c.SubscribeTimeout), int64(time.Second), int64(time.Hour)},
		{"AuthorizeTimeout", int64(c.AuthorizeTimeout), int64(time.Second), int64(24 * time.Hour)},
		{"LineTimeout", int64(c.LineTimeout), int64(time.Second), int64(time.Hour)},
		{"FloodBurst", int64(c.FloodBurst), 100, 1 << 30},
		{"FloodRate", int64(c.FloodRate), 1, 1 << 30},
		{"TakeoverSilence", int64(c.TakeoverSilence), 1, int64(time.Hour)},
		{"WriteTimeout", int64(c.WriteTimeout), int64(time.Second), int64(time.Hour)},
		{"RefreshInterval", int64(c.RefreshInterval), int64(time.Second), int64(time.Hour)},
		{"UpdateInterval", int64(c.UpdateInterval), 1, int64(time.Hour)},
		{"StaleGrace", int64(c.StaleGrace), 1, int64(time.Minute)},
		{"RetargetGrace", int64(c.RetargetGrace), 1, int64(24 * time.Hour)},
		{"KeepJobs", int64(c.KeepJobs), 2, 4096},
		{"NTimeAhead", int64(c.NTimeAhead), 1, int64(24 * time.Hour)},
		{"ResumeEntries", int64(c.ResumeEntries), 1, 1 << 20},
		{"ResumeFor", int64(c.ResumeFor), 1, int64(24 * time.Hour)},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("stratum: %s is %d, set it between %d and %d", f.name, f.value, f.min, f.max)
		}
	}
	for _, d := range c.Devices {
		if d.Start < 0 || d.Floor < 0 || d.Extranonce2 != 0 && d.Extranonce2 != 4 && d.Extranonce2 != 8 {
			return fmt.Errorf("stratum: device %q has start %v, floor %v and an extranonce2 of %d bytes; set difficulties from 0 up and 4 or 8 bytes (0: 8)",
				d.Agent, d.Start, d.Floor, d.Extranonce2)
		}
	}
	if err := c.Difficulty.Check(); err != nil {
		return fmt.Errorf("stratum: %w", err)
	}
	return nil
}
