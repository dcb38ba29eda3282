package server

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/port"
)

// Stats is a snapshot of the server.
type Stats struct {
	Time        time.Time
	Connections int // open connections
	Miners      int // of these, subscribed and authorized ones
	Total       pool.ShareStats
	Workers     []pool.WorkerStats // every account, by name; names are printable here
	Sessions    []SessionStats     // every open connection, by time of connecting
	Misuse      MisuseStats
}

// SessionStats describes one open connection.
type SessionStats struct {
	Remote      string // address of the peer
	Transport   string // plain, tls, websocket or tls+websocket; empty until known
	UserAgent   string // as given in mining.subscribe or asked for, unprintable characters replaced
	Class       string // of the device, see stratum.Device; empty: unknown
	Info        string // what mining.configure told of the device
	Workers     []string
	Extranonce1 string // hex, empty before mining.subscribe
	VersionMask uint32 // granted version bits, 0 if not negotiated
	Rolls       bool   // sends version bits
	Difficulty  float64
	Connected   time.Time
	Accepted    uint64
	Rejected    uint64
	Twin        bool // submits the same work as another connection
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
	st.Misuse = s.misuse.stats()
	st.Total, st.Workers = s.books.Stats(now)
	for i := range st.Workers {
		st.Workers[i].Name = printable([]byte(st.Workers[i].Name), maxWorkerName)
	}
	return st
}

func (s *session) stats() (SessionStats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info := SessionStats{
		Remote: s.remote, UserAgent: s.agent, VersionMask: s.mask, Difficulty: s.announced,
		Connected: s.connected, Accepted: s.accepted, Rejected: s.rejected,
		Class: s.class, Info: s.info, Rolls: s.rolls, Twin: s.twins >= twinsToTell,
	}
	if s.kind != port.Unknown {
		info.Transport = s.kind.String()
	}
	if s.subscribed {
		info.Extranonce1 = hex.EncodeToString(s.extranonce(new([work.ExtranonceSize]byte)))
	}
	for _, w := range s.workers {
		info.Workers = append(info.Workers, printable([]byte(w.Name()), maxWorkerName))
	}
	return info, s.ready()
}
