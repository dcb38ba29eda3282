package server

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/port"
)

// misuse counts what the rules below did, since the start.
type misuse struct {
	junk, junkClosed, long, late, slow, floods, stalled atomic.Uint64
	warned, resent, reconnected, dropped                atomic.Uint64
	identical, takeovers, changed                       atomic.Uint64
}

// MisuseStats counts what clients did that they should not, and what was done
// about it, since the start.
type MisuseStats struct {
	JunkLines     uint64 // lines that could not be read
	JunkClosed    uint64 // connections closed for too many of them
	LongLines     uint64 // connections closed for a line over the limit
	NeverStarted  uint64 // connections closed that did not subscribe, or not authorize, in time
	SlowLines     uint64 // connections closed over half a line that never ended
	Floods        uint64 // connections closed for messages without effect
	StalledWrites uint64 // connections closed that took no data
	// Sessions that sent nothing but invalid shares, by how far it went.
	InvalidWarned, InvalidResent, InvalidReconnected, InvalidDropped uint64

	IdenticalWork     uint64 // sessions found to submit the same work as another one
	Takeovers         uint64 // sessions whose place was taken by their miner's next connection
	ExtranonceChanges uint64 // mining.set_extranonce sent
}

func (m *misuse) stats() MisuseStats {
	return MisuseStats{
		JunkLines: m.junk.Load(), JunkClosed: m.junkClosed.Load(), LongLines: m.long.Load(), NeverStarted: m.late.Load(),
		SlowLines: m.slow.Load(), Floods: m.floods.Load(), StalledWrites: m.stalled.Load(),
		InvalidWarned: m.warned.Load(), InvalidResent: m.resent.Load(),
		InvalidReconnected: m.reconnected.Load(), InvalidDropped: m.dropped.Load(),
		IdenticalWork: m.identical.Load(), Takeovers: m.takeovers.Load(), ExtranonceChanges: m.changed.Load(),
	}
}

// spend takes a token for a message that has no effect, and reports whether
// there was one. Tokens come back with time, and with every accepted share: a
// proxy with many good shares never runs out. The caller holds s.mu.
func (s *session) spend(now time.Time) bool {
	burst := float64(s.srv.cfg.FloodBurst)
	if s.counted.IsZero() {
		s.tokens = burst
	} else if dt := now.Sub(s.counted); dt > 0 {
		s.tokens = min(s.tokens+dt.Seconds()*float64(s.srv.cfg.FloodRate), burst)
	}
	s.counted = now
	s.tokens--
	return s.tokens >= 0
}

// earn gives a token for a message that had an effect. The caller holds s.mu.
func (s *session) earn() {
	if !s.counted.IsZero() {
		s.tokens = min(s.tokens+1, float64(s.srv.cfg.FloodBurst))
	}
}

// flooded says goodbye to a client out of tokens.
func (s *session) flooded(id stratum.Raw) error {
	s.srv.misuse.floods.Add(1)
	s.refuse(id, stratum.Errorf(stratum.CodeOther,
		"more than %d messages without effect and %d a second, closing; connect again", s.srv.cfg.FloodBurst, s.srv.cfg.FloodRate))
	return errors.New("too many messages without effect")
}

// ladder is how far a session got that sends nothing but invalid shares.
type ladder struct {
	count uint32 // invalid shares since the last good one
	since time.Time
	step  int // steps taken
}

// The ladder: a message to the owner, the same work again, a new connection,
// the end. Each step needs another invalid share, so whoever stops is left
// alone; a good share, of any worker on the connection, leads back to the ground.
const (
	ladderShares    = 10
	ladderResend    = time.Minute
	ladderReconnect = 2 * time.Minute
	ladderDrop      = 3 * time.Minute
)

// invalid says whether a refused share shows that a miner does not hash what it
// was told to. Being late and saying something twice do not.
func invalid(r pool.Reason) bool { return r != pool.StaleShare && r != pool.DuplicateShare }

// climb takes a session that sent another invalid share up the ladder; it
// returns an error when the connection is to be closed. The caller holds s.mu.
func (s *session) climb(now time.Time, r pool.Reason) error {
	l := &s.ladder
	if l.count == 0 {
		l.since = now
	}
	l.count++
	lasted := now.Sub(l.since)
	switch {
	case l.step == 0 && l.count >= ladderShares:
		s.srv.misuse.warned.Add(1)
		if s.ready() { // others may not know the message
			s.outBuf(stratum.AppendShowMessage(s.buf(), fmt.Sprintf(
				"no share was good, the last %d were refused, now as %s; check this miner", l.count, r)))
		}
	case l.step == 1 && lasted >= ladderResend:
		s.srv.misuse.resent.Add(1)
		s.forceDifficulty, s.fresh, s.jobDue = true, true, true
	case l.step == 2 && lasted >= ladderReconnect:
		s.srv.misuse.reconnected.Add(1)
		s.outBuf(stratum.AppendReconnect(s.buf()))
	case l.step == 3 && lasted >= ladderDrop:
		s.srv.misuse.dropped.Add(1)
		s.srv.log.Info("stratum: closing a connection that sends nothing but invalid shares",
			"remote", s.remote, "agent", s.agent, "shares", l.count, "reason", r.String())
		return fmt.Errorf("%d invalid shares and no good one", l.count)
	default:
		return nil
	}
	l.step++
	return nil
}

// police closes what only takes a place: a line that never ends, and a client
// that never gets ready for work. It runs once a second; the caller holds s.mu.
func (s *session) police(now time.Time) {
	if s.closing || s.kind == port.Unknown { // before, the time to subscribe is what counts
		return
	}
	var why string
	switch since, begun := s.lines.Begun(); {
	case begun && now.Sub(since) >= s.srv.cfg.LineTimeout:
		s.srv.misuse.slow.Add(1)
		why = fmt.Sprintf("a line was not finished within %v", s.srv.cfg.LineTimeout)
	case s.subscribed && !s.ready() && now.Sub(s.connected) >= s.srv.cfg.AuthorizeTimeout:
		s.srv.misuse.late.Add(1)
		why = fmt.Sprintf("no mining.authorize within %v", s.srv.cfg.AuthorizeTimeout)
	default:
		return
	}
	s.outBuf(stratum.AppendError(s.buf(), stratum.Raw("null"), stratum.Errorf(stratum.CodeOther, "%s, closing", why)))
	s.closing, s.jobDue = true, false
	s.write()
}
