package server

import (
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
)

// takenFor is how long an extranonce1 that was taken from a session cannot be
// taken again. Without it two connections of one proxy that name the same
// session would take it from each other for ever.
const takenFor = 10 * time.Minute

// prefix is a session's place: its extranonce1 and what was left with it.
type prefix struct {
	extranonce1 [work.PrefixSize]byte
	was         parked
	resumed     bool
	from        *session // the open session it was taken from, nil if none
}

// takePrefix finds the extranonce1 of a new session: the one that its
// mining.subscribe names, if that is parked or can be taken over, or a fresh one.
func (s *Server) takePrefix(now time.Time, ses *session, params []stratum.Raw) (p prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(params) > 1 {
		if id, ok := params[1].Text(); ok {
			if e, ok := parsePrefix(id); ok {
				p.extranonce1 = e
				if p.was, p.resumed = s.prefixes.resume(now, e, s.cfg.ResumeFor); p.resumed {
					s.prefixes.live[e] = ses
					return p
				}
				if old := s.prefixes.live[e]; old != nil && s.takeOver(now, &p, old, ses) {
					s.prefixes.live[e] = ses
					return p
				}
			}
		}
	}
	p = prefix{extranonce1: s.prefixes.fresh()}
	s.prefixes.live[p.extranonce1] = ses
	return p
}

// takeOver moves an open session's place to the connection that names it: a
// miner whose TCP connection broke comes back before this side notices. An
// extranonce1 is no secret (every block shows its finder's), so only the same
// address can take it, only from a connection that has been silent, and not
// again for some time. The old connection gets a fresh extranonce1 if it
// understands that, and is closed otherwise. The caller holds srv.mu.
func (s *Server) takeOver(now time.Time, p *prefix, old, ses *session) bool {
	old.mu.Lock()
	defer old.mu.Unlock()
	if old == ses || old.extranonce1 != p.extranonce1 || old.host() != ses.host() ||
		old.silence(now) < s.cfg.TakeoverSilence || now.Sub(old.takenAt) < takenFor {
		return false
	}
	p.was, p.resumed, p.from = old.parked(now), true, old
	// Its owner goes on writing there; the rings must not share memory.
	p.was.jobs.jobs = append([]sentJob(nil), p.was.jobs.jobs...)
	if old.changes && !old.closing {
		e := s.prefixes.fresh()
		s.prefixes.live[e] = old
		old.setExtranonce(e)
	} else {
		old.subscribed, old.jobDue = false, false // nothing to park when it leaves
		old.closing = true
		old.dropLapsed()
	}
	s.misuse.takeovers.Add(1)
	return true
}

// pushOut makes what takeOver queued on the old connection go out.
func (p *prefix) pushOut(log func(msg string, args ...any), remote string) {
	if p.from == nil {
		return
	}
	log("stratum: a miner came back while its old connection was still open", "remote", remote, "old", p.from.remote)
	p.from.mu.Lock()
	defer p.from.mu.Unlock()
	p.from.write()
}

// renumber gives a session that understands it another extranonce1.
func (s *Server) renumber(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if !ses.changes || !ses.subscribed || ses.closing {
		return
	}
	e := s.prefixes.fresh()
	s.prefixes.live[e] = ses
	ses.setExtranonce(e)
}

// dropLapsed frees the extranonce1 values a session had before. The caller
// holds srv.mu.
func (s *session) dropLapsed() {
	for _, l := range s.lapsed {
		if s.srv.prefixes.live[l.extranonce1] == s {
			delete(s.srv.prefixes.live, l.extranonce1)
		}
	}
}
