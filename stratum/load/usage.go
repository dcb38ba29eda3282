package load

import (
	"cmp"
	"math"
	"time"
)

// usage is what processes had used at a moment.
type usage struct {
	cpu, own time.Duration // of the pool's processes; of this one
	rss      int64         // of the pool's
}

// meter holds the usage at the turns of a run.
type meter struct {
	pool                         processes
	before, stormed, rested, end usage
}

// fill writes what the turns say.
func (m *meter) fill(res *Result, holding int, seconds float64) {
	res.Tool = ToolUsage{
		StormCPUMs: ms(int64(m.stormed.own - m.before.own)),
		HoldCPUMs:  ms(int64(m.end.own - m.rested.own)),
	}
	if seconds > 0 {
		res.Tool.HoldCores = round3(res.Tool.HoldCPUMs / 1000 / seconds)
	}
	if len(m.pool.pids) == 0 {
		return
	}
	p := &PoolUsage{
		PIDs: m.pool.pids, RSSBefore: m.before.rss, RSSAfter: m.rested.rss, RSSEnd: m.end.rss,
		StormCPUMs: ms(int64(m.stormed.cpu - m.before.cpu)), HoldCPUMs: ms(int64(m.end.cpu - m.rested.cpu)),
	}
	if holding > 0 {
		p.BytesPerConnection = math.Round(float64(p.RSSAfter-p.RSSBefore) / float64(holding))
	}
	if seconds > 0 {
		p.HoldCores = round3(p.HoldCPUMs / 1000 / seconds)
	}
	if jobs := reached(res.Broadcasts.List); jobs > 0 && res.Shares == nil {
		p.JobCPUMicros = round1(1000 * p.HoldCPUMs / float64(jobs))
	}
	res.Pool = p
}

func round1(x float64) float64 { return math.Round(x*10) / 10 }
func round3(x float64) float64 { return math.Round(x*1000) / 1000 }

// compareRejected puts the most frequent first.
func compareRejected(a, b Rejected) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
}

// lateMs is how late this tool may read before a note says so.
const lateMs = 50

// notes adds what a reader of the figures should know.
func (r *Result) notes() {
	note := func(text string) { r.Notes = append(r.Notes, text) }
	if r.Complete && r.Setup.Seconds > 0 && r.Broadcasts.Count == 0 && r.Storm.Holding > 0 {
		note("there was no new tip in the time: measure for longer than one block takes")
	}
	if r.Tool.Lag != nil && r.Tool.Lag.P99 > lateMs {
		note("this tool was late to read, because the machine was busy: the pool has been slowed down, too, if it is on the same machine")
	}
	if r.Shares == nil && r.Setup.Clock == "kernel" && r.Tool.Blurred > reached(r.Broadcasts.List)/100 {
		note("new jobs came together with something later and look later than they were: shorten the reading delay, if there is one")
	}
	if r.Shares != nil && r.Complete && r.Shares.Sent == 0 && r.Storm.Holding > 0 {
		note("no share was found: the pool's difficulty is too high for a tool that hashes on this CPU; many pools lower it for a password like d=0.0001")
	}
}

func reached(list []Broadcast) (n int) {
	for _, b := range list {
		n += b.Reached
	}
	return n
}
