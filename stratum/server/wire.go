package server

import (
	"net"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
)

// wire is what a session remembers besides its work: extensions it speaks, the
// history of its extranonce1, and how it behaves. The session's mutex guards
// what is not atomic.
type wire struct {
	number uint32       // names the session in tables; unique among open sessions
	heard  atomic.Int64 // when the last request came, unix nanoseconds

	nonce2   int      // size of extranonce2 in bytes
	lapsed   []lapsed // extranonce1 values it had before, newest last
	changes  bool     // takes mining.set_extranonce
	fresh    bool     // extranonce1 changed: the next job is a clean one
	takenAt  time.Time
	takenOff uint32 // number of the session it was taken from, 0 if it was not
	rolls    bool   // sent version bits without asking first
	class    string // of the device, see stratum.Device
	info     string // what the device said of itself in mining.configure

	question question
	asked    time.Time          // when the miner last asked for a difficulty
	wishes   [wishKinds]float64 // what it asked for too soon after

	tokens  float64 // see misuse.go
	counted time.Time
	ladder  ladder
	twins   int
	why     []byte // reason of the last refusal; reading goroutine only

	forceDifficulty bool // send set_difficulty even if nothing changed
}

// lapsed is an extranonce1 that held up to and including a job.
type lapsed struct {
	extranonce1 [work.PrefixSize]byte
	last        uint32 // job id
}

// maxLapsed is how many former extranonce1 values a session remembers.
const maxLapsed = 4

// prefixOf returns the extranonce1 that a job of this session was sent with.
// Job ids rise, and may pass zero.
func (s *session) prefixOf(job uint32) [work.PrefixSize]byte {
	for i := range s.lapsed {
		if int32(job-s.lapsed[i].last) <= 0 {
			return s.lapsed[i].extranonce1
		}
	}
	return s.extranonce1
}

// extranonce returns extranonce1 as the client sees it: in front of an
// extranonce2 of 4 bytes there are 4 zeros more.
func (s *session) extranonce(room *[work.ExtranonceSize]byte) []byte {
	copy(room[:], s.extranonce1[:])
	return room[:len(room)-s.nonce2]
}

// setExtranonce gives the session another extranonce1, with a clean job. Shares
// of the jobs before still count with the old one. The caller holds s.mu.
func (s *session) setExtranonce(e [work.PrefixSize]byte) {
	if len(s.lapsed) == maxLapsed {
		s.lapsed = append(s.lapsed[:0], s.lapsed[1:]...)
	}
	s.lapsed = append(s.lapsed, lapsed{s.extranonce1, s.last.id})
	s.extranonce1 = e
	var room [work.ExtranonceSize]byte
	s.outBuf(stratum.AppendSetExtranonce(s.buf(), s.extranonce(&room)))
	s.fresh, s.jobDue = true, true
	s.srv.misuse.changed.Add(1)
}

// host is the address without the port.
func (s *session) host() string {
	host, _, err := net.SplitHostPort(s.remote)
	if err != nil {
		return s.remote
	}
	return host
}

// silence is how long the client has said nothing.
func (s *session) silence(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, s.heard.Load()))
}
