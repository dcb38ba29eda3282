package load

import "time"

// Result is what a run measured. Its JSON form is documented in docs/load.md;
// times are in milliseconds, sizes in bytes.
type Result struct {
	Target   string    `json:"target"`
	Began    time.Time `json:"began"`
	Complete bool      `json:"complete"` // false: interrupted, these are the figures until then
	Setup    Setup     `json:"setup"`

	Storm      Storm      `json:"storm"`
	Broadcasts Broadcasts `json:"broadcasts"`
	Stalled    *Stalled   `json:"stalled,omitempty"`
	Shares     *Shares    `json:"shares,omitempty"`
	// Lost counts connections that held a job and ended before the run did, by
	// reason, stalled ones left out.
	Lost map[string]int `json:"lost"`
	// Junk lines are no Stratum messages; Stray answers answer nothing that was
	// asked; Reconnects are client.reconnect requests, which are not followed.
	Junk       int `json:"junk"`
	Stray      int `json:"stray"`
	Reconnects int `json:"reconnects"`

	Pool  *PoolUsage `json:"pool,omitempty"` // only if its process is known
	Tool  ToolUsage  `json:"tool"`
	Notes []string   `json:"notes,omitempty"`
}

// Setup is what was asked for.
type Setup struct {
	Connections int     `json:"connections"`
	Stalled     float64 `json:"stalled"` // fraction of them
	Seconds     float64 `json:"seconds"` // of measuring after the storm
	Shares      string  `json:"shares"`  // a second, "max" or "0"
	TLS         bool    `json:"tls"`
	Engine      string  `json:"engine"`      // "epoll" or "goroutines"
	Clock       string  `json:"clock"`       // "kernel" or "tool": who stamps arrivals
	ReadDelayMs float64 `json:"readDelayMs"` // for which reading was put off
	CPUs        int     `json:"cpus"`
}

// Percentiles of times in milliseconds; all 0 if there were none.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Storm says how the connections came in.
type Storm struct {
	Holding  int            `json:"holding"` // got a job
	Failed   int            `json:"failed"`
	Reasons  map[string]int `json:"reasons"`  // of the failures
	AllMs    float64        `json:"allMs"`    // from the first connect to the last first job
	PerMiner Percentiles    `json:"perMiner"` // from a connection's connect to its first job
}

// Broadcasts says how first jobs on new tips spread.
type Broadcasts struct {
	Count   int         `json:"count"`
	Missing int         `json:"missing"` // jobs that a live connection did not get
	FanOut  Percentiles `json:"fanOut"`  // after the first connection's, over all connections and broadcasts
	// P99 holds the smallest, median and largest p99 of the single broadcasts.
	P99        Spread       `json:"p99"`
	TipToFirst *Percentiles `json:"tipToFirst,omitempty"` // from the tip's change to the first notify
	List       []Broadcast  `json:"list"`
}

// Spread is the range of a figure.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// Broadcast is one of them.
type Broadcast struct {
	At         time.Time   `json:"at"` // of the first notify
	Prev       string      `json:"prev"`
	Expected   int         `json:"expected"`
	Reached    int         `json:"reached"`
	FanOut     Percentiles `json:"fanOut"`
	TipToFirst *float64    `json:"tipToFirstMs,omitempty"`
}

// Stalled says what became of the connections that stopped reading.
type Stalled struct {
	Connections int            `json:"connections"`
	Closed      int            `json:"closed"`      // by the pool
	ClosedAfter Percentiles    `json:"closedAfter"` // since they stopped reading
	Reasons     map[string]int `json:"reasons"`
	// Queued is what waited for them in the pool's sockets at the end; known
	// only on Linux, with the pool on the same machine.
	Queued *Queued `json:"queued,omitempty"`
}

// Queued describes the send queues of sockets, in bytes.
type Queued struct {
	Sockets int   `json:"sockets"`
	Median  int64 `json:"median"`
	Max     int64 `json:"max"`
}

// Shares says how submits were answered.
type Shares struct {
	Seconds      float64     `json:"seconds"`
	Sent         uint64      `json:"sent"`
	Answered     uint64      `json:"answered"`
	Accepted     uint64      `json:"accepted"`
	Rejected     []Rejected  `json:"rejected"`  // the most frequent first
	PerSecond    float64     `json:"perSecond"` // answers
	PerCPUSecond *float64    `json:"perCPUSecond,omitempty"`
	Latency      Percentiles `json:"latency"` // from submit to answer
}

// Rejected counts refused shares. In Text every number is cut to one #.
type Rejected struct {
	Code  int    `json:"code"`
	Text  string `json:"text"`
	Count uint64 `json:"count"`
}

// PoolUsage is what the pool's processes used.
type PoolUsage struct {
	PIDs               []int   `json:"pids"`
	RSSBefore          int64   `json:"rssBefore"` // before the storm
	RSSAfter           int64   `json:"rssAfter"`  // a second after it
	RSSEnd             int64   `json:"rssEnd"`
	BytesPerConnection float64 `json:"bytesPerConnection"` // (after − before) / connections that hold a job
	StormCPUMs         float64 `json:"stormCPUMs"`
	HoldCPUMs          float64 `json:"holdCPUMs"`
	HoldCores          float64 `json:"holdCores"` // average
	// JobCPUMicros is the CPU time after the storm by the jobs on new tips that
	// arrived, in microseconds; 0 with shares. Unlike times of arrival it hardly
	// depends on what else the machine does.
	JobCPUMicros float64 `json:"jobCPUMicros"`
}

// ToolUsage is what this tool used. On one machine it takes this from the pool.
type ToolUsage struct {
	StormCPUMs float64 `json:"stormCPUMs"`
	HoldCPUMs  float64 `json:"holdCPUMs"`
	HoldCores  float64 `json:"holdCores"`
	// Lag is how long arrived bytes waited after the storm until this tool read
	// them, reads that were put off on purpose left out; known only if the
	// kernel stamps them.
	Lag *Percentiles `json:"lag,omitempty"`
	// Blurred counts the first jobs on a tip that came together with something
	// later, whose stamp they got: they look later than they were.
	Blurred int `json:"blurred"`
}
