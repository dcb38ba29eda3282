package server

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"
)

// Stats is a snapshot of the server.
type Stats struct {
	Time        time.Time
	Connections int // open connections
	Miners      int // of these, subscribed and authorized ones
	Total       ShareStats
	Workers     []WorkerStats  // every account, by name
	Sessions    []SessionStats // every open connection, by time of connecting
}

// ShareStats counts shares since the server started.
type ShareStats struct {
	Accepted   uint64
	Rejected   map[string]uint64 // by reason, only those that happened
	Difficulty float64           // sum over accepted shares
	Best       float64           // highest difficulty a share's hash would have met
	Blocks     uint64            // accepted or held by the chain
	LastShare  time.Time         // zero if none
	HashRate   HashRate
}

// WorkerStats is the account of one worker name.
type WorkerStats struct {
	Name     string // unprintable characters replaced
	Sessions int    // open connections that authorized it
	ShareStats
}

// SessionStats describes one open connection.
type SessionStats struct {
	Remote      string // address of the peer
	UserAgent   string // as given in mining.subscribe, unprintable characters replaced
	Workers     []string
	Extranonce1 string // hex, empty before mining.subscribe
	VersionMask uint32 // granted version bits, 0 if not negotiated
	Difficulty  float64
	Connected   time.Time
	Accepted    uint64
	Rejected    uint64
}

// Stats returns a snapshot. Parts of it are taken one after the other; no
// miner waits for it.
func (s *Server) Stats() Stats {
	now := time.Now()
	st := Stats{Time: now}
	s.mu.Lock()
	sessions := make([]*session, 0, len(s.sessions))
	for ses := range s.sessions {
		sessions = append(sessions, ses)
	}
	s.mu.Unlock()
	st.Connections = len(sessions)
	for _, ses := range sessions {
		info, ready := ses.stats()
		if ready {
			st.Miners++
		}
		st.Sessions = append(st.Sessions, info)
	}
	slices.SortFunc(st.Sessions, func(a, b SessionStats) int {
		return cmp.Or(a.Connected.Compare(b.Connected), cmp.Compare(a.Remote, b.Remote))
	})
	st.Total, st.Workers = s.accounts.stats(now)
	return st
}

func (s *session) stats() (SessionStats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := SessionStats{
		Remote: s.remote, UserAgent: s.agent, VersionMask: s.mask, Difficulty: s.announced,
		Connected: s.connected, Accepted: s.accepted, Rejected: s.rejected,
	}
	if s.subscribed {
		info.Extranonce1 = hex.EncodeToString(s.extranonce1[:])
	}
	for _, w := range s.workers {
		info.Workers = append(info.Workers, printable([]byte(w.name), maxWorkerName))
	}
	return info, s.ready()
}

func (a *accounts) stats(now time.Time) (ShareStats, []WorkerStats) {
	a.totalMu.Lock()
	total := a.total.stats(now)
	a.totalMu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	workers := make([]WorkerStats, 0, len(a.workers))
	for _, w := range a.workers {
		w.mu.Lock()
		workers = append(workers, WorkerStats{
			Name: printable([]byte(w.name), maxWorkerName), Sessions: w.sessions, ShareStats: w.tally.stats(now),
		})
		w.mu.Unlock()
	}
	slices.SortFunc(workers, func(a, b WorkerStats) int { return cmp.Compare(a.Name, b.Name) })
	return total, workers
}

func (t *tally) stats(now time.Time) ShareStats {
	st := ShareStats{
		Accepted: t.accepted, Rejected: map[string]uint64{}, Difficulty: t.credit, Best: t.best,
		Blocks: t.blocks, LastShare: t.last, HashRate: t.rate.estimate(now),
	}
	for r, n := range t.rejected {
		if n > 0 {
			st.Rejected[Reason(r).String()] = n
		}
	}
	return st
}
