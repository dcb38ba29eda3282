package configs

import (
	"math"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"
)

// Pool says what the port's miners get, and how long their shares are kept. The
// books lie in the folder pool of the data directory (docs/pool.md).
type Pool struct {
	// Rewards divides what found blocks earn: "own" (all is payout's), "solo" (the
	// finder's), "proportional" (by the work since the last block found) or "pplns"
	// (by the last work done). An account is the part of a worker's name before the
	// first dot; one that is no address of the network mines for payout.
	Rewards string `toml:"rewards"`
	// Fee is what payout keeps of each reward, in basis points: 100 is one percent.
	// "own" has none.
	Fee int64 `toml:"fee"`
	// PPLNSFactor says how much of the last work counts with "pplns", in units of the
	// work that a block takes on average; three decimals count.
	PPLNSFactor float64 `toml:"pplns_factor"`
	// MinPayout is the smallest amount paid in a coinbase, in base units (10^-8). What
	// is below is kept for the account until it is more.
	MinPayout int64 `toml:"min_payout"`
	// RetentionDays is how long single shares are kept. Sums and balances are kept
	// for good.
	RetentionDays int `toml:"retention_days"`
	// MaxMiB bounds the journal of shares; beyond it the oldest go earlier.
	MaxMiB int `toml:"max_mib"`
}

// Factor is PPLNSFactor in thousandths.
func (p *Pool) Factor() uint64 { return uint64(math.Round(p.PPLNSFactor * 1000)) }

// rules are what must hold of it.
func (p *Pool) rules() []rule {
	known := slices.Contains([]string{"own", "solo", "proportional", "pplns"}, p.Rewards)
	return []rule{
		{toml.Key{"pool", "rewards"}, known, "want \"own\", \"solo\", \"proportional\" or \"pplns\""},
		{toml.Key{"pool", "fee"}, p.Fee >= 0 && p.Fee <= 10_000, "want 0 to 10000 basis points; 100 is one percent"},
		{toml.Key{"pool", "pplns_factor"}, p.PPLNSFactor >= 0.1 && p.PPLNSFactor <= 100, "want 0.1 to 100"},
		{toml.Key{"pool", "min_payout"}, p.MinPayout >= 1000 && p.MinPayout <= 1e15, "want 1000 to 10^15 base units"},
		{toml.Key{"pool", "retention_days"}, p.RetentionDays >= 1 && p.RetentionDays <= 3650, "want 1 to 3650 days"},
		{toml.Key{"pool", "max_mib"}, p.MaxMiB >= 256 && p.MaxMiB <= 1<<22, "want 256 to 4194304 MiB"},
	}
}

// PoolDir is the folder of the pool's books.
func (c *Config) PoolDir() string { return filepath.Join(c.Path(c.Data), "pool") }
