package server

import (
	"encoding/binary"
	"sync/atomic"

	"qcitycoin.org/qcity/miner/work"
)

// twinSlots is the size of the table of recent submissions, 128 KiB.
const twinSlots = 1 << 14

// twinTable notices when two sessions submit the same choice of extranonce2,
// time, nonce and version for the same block, whatever became of it. Honest
// sessions never do: it is a device that ignores its extranonce1, or a share
// that somebody copies (decred/dcrpool#81). A slot holds 32 bits of a
// fingerprint and a session's number.
type twinTable [twinSlots]atomic.Uint64

// meet notes a submission of a session and returns the number of another
// session that sent the same before, or 0.
func (t *twinTable) meet(sol *work.Solution, session uint32) uint32 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio, as splitmix64 has it
	h := sol.JobID
	for _, v := range [...]uint64{
		binary.LittleEndian.Uint64(sol.Extranonce[work.PrefixSize:]),
		uint64(sol.Nonce)<<32 | uint64(sol.Time), uint64(sol.Version),
	} {
		h = (h ^ v) * odd
		h ^= h >> 29
	}
	was := t[h%twinSlots].Swap(h&^0xffffffff | uint64(session))
	if was>>32 == h>>32 && uint32(was) != session {
		return uint32(was)
	}
	return 0
}

// twinsToTell is how many submissions in common are no accident.
const twinsToTell = 2

// twin deals with a submission that another session has sent as well: the
// operator is told once, and the session gets an extranonce1 of its own again.
func (s *session) twin(number uint32) {
	other := s.srv.byNumber(number)
	if other == nil { // it ended: this is its miner, sending again what was not answered
		return
	}
	s.mu.Lock()
	tell := false
	if number != s.takenOff && s.twins < twinsToTell {
		s.twins++
		tell = s.twins == twinsToTell
	}
	agent := s.agent
	s.mu.Unlock()
	if !tell {
		return
	}
	s.srv.misuse.identical.Add(1)
	s.srv.twinNoise.Do(func() {
		s.srv.log.Warn("stratum: two connections submit identical work, so one of them ignores its extranonce1 or copies the other's shares; update its firmware",
			"remote", s.remote, "agent", agent, "other", other.remote)
	})
	s.srv.renumber(s)
}

func (s *Server) byNumber(number uint32) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		if ses.number == number {
			return ses
		}
	}
	return nil
}
