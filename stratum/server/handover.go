package server

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/port"
)

// Handover is a server's whole state on its way to the process that follows:
// the sockets stay open, so that no miner notices more than a short silence.
type Handover struct {
	// FDs are duplicates of the sockets, the listener first. They are the
	// caller's, and close when a program is executed unless he clears that flag.
	FDs []int
	// State says which of them is what, and what was being talked about.
	State []byte
}

// handoverVersion changes whenever state can no longer be read by the program before.
const handoverVersion = 1

// errVersion means that another program's state is of no use.
var errVersion = errors.New("the state was written by a program that is too different")

// savedState is what Handover.State holds, in Go's gob encoding: fields may be
// added without a new version.
type savedState struct {
	Version   int
	NextJob   uint32
	Templates []work.Job
	Current   int // index into Templates, −1 for none
	Sessions  []savedSession
	Parked    []savedParked
}

type savedJob struct {
	ID, Time   uint32
	Difficulty float64
	Template   int
}

type savedPast struct {
	Difficulty float64
	Until      time.Time
}

// savedParked is what stays of a session whose connection is closed.
type savedParked struct {
	Extranonce1 [work.PrefixSize]byte
	Closed      time.Time
	Difficulty  float64
	Jobs        []savedJob
	Last        savedJob
	Lapsed      []savedLapsed
	Past        []savedPast
}

type savedSession struct {
	FD            int // index into Handover.FDs
	Connected     time.Time
	Unopened      bool   // what the client speaks is not known yet
	Input         []byte // received, not yet handled
	Output        []byte // queued, not yet sent
	Junk          int
	Subscribed    bool
	Agent         string
	Extranonce1   [work.PrefixSize]byte
	Workers       []string
	Negotiated    bool
	Mask          uint32
	Vardiff       stratum.VardiffState
	Announced     float64
	Past          []savedPast
	Jobs          []savedJob
	Last          savedJob
	Working, Owed bool // a job was sent; one is due
	LastNotify    time.Time
	Accepted      uint64
	Rejected      uint64

	Nonce2         int
	Changes, Rolls bool
	Fresh          bool
	Lapsed         []savedLapsed
	TakenAt        time.Time
	Class, Info    string
}

type savedLapsed struct {
	Extranonce1 [work.PrefixSize]byte
	Last        uint32
}

// HandOver ends Run without closing plain connections and returns them. Those
// that cannot move to another process are closed; their miners come back and
// resume. It may be called once, while Run runs.
func (s *Server) HandOver() (*Handover, error) {
	if !s.handing.CompareAndSwap(false, true) {
		return nil, errors.New("stratum: already handed over")
	}
	close(s.stop)
	<-s.ended
	return s.handed, s.handErr
}

// freeze makes every session's goroutines return without closing anything.
func (s *Server) freeze() {
	past := time.Unix(1, 0)
	for _, ses := range s.all() {
		_ = ses.socket.SetDeadline(past)
	}
}

// collect packs up everything after the last goroutine of a session ended.
func (s *Server) collect() (*Handover, error) {
	h := &Handover{}
	ln, err := dupSocket(s.ln)
	if err != nil {
		return nil, fmt.Errorf("stratum: hand over the listener: %w", err)
	}
	h.FDs = append(h.FDs, ln)
	t := &templateTable{index: map[*template]int{}}
	st := savedState{Version: handoverVersion, NextJob: s.nextJob.Load(), Current: t.of(s.current.Load())}
	for ses := range s.sessions {
		saved, ok := ses.save(t)
		if !ok {
			s.letGo(ses)
			continue
		}
		fd, err := dupSocket(ses.conn)
		if err != nil {
			s.log.Debug("stratum: a connection cannot be handed over", "remote", ses.remote, "err", err)
			s.letGo(ses)
			continue
		}
		saved.FD = len(h.FDs)
		h.FDs = append(h.FDs, fd)
		st.Sessions = append(st.Sessions, saved)
		_ = ses.socket.Close()
	}
	for e1, p := range s.prefixes.parked {
		st.Parked = append(st.Parked, savedParked{
			Extranonce1: e1, Closed: p.closed, Difficulty: p.difficulty, Jobs: t.jobs(&p.jobs), Last: t.job(p.last),
			Lapsed: saveLapsed(p.lapsed), Past: savePast(p.past),
		})
	}
	st.Templates = t.list
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&st); err != nil {
		return nil, fmt.Errorf("stratum: pack up the sessions: %w", err)
	}
	h.State = b.Bytes()
	return h, nil
}

// letGo closes a session that cannot move; its place is kept.
func (s *Server) letGo(ses *session) {
	_ = ses.socket.Close()
	if ses.subscribed {
		s.prefixes.park(ses.extranonce1, ses.parked(time.Now()), s.cfg.ResumeEntries)
	}
}

// save describes a session; ok is false for one that is ending anyway.
func (s *session) save(t *templateTable) (savedSession, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := savedSession{
		Connected: s.connected, Unopened: s.kind == port.Unknown, Input: s.first, Junk: s.junk,
		Subscribed: s.subscribed, Agent: s.agent, Extranonce1: s.extranonce1, Negotiated: s.negotiated, Mask: s.mask,
		Vardiff: s.vardiff.State(), Announced: s.announced, Jobs: t.jobs(&s.jobs), Last: t.job(s.last),
		Working: s.working, Owed: s.jobDue, LastNotify: s.lastNotify, Accepted: s.accepted, Rejected: s.rejected,
	}
	if !saved.Unopened {
		saved.Input = s.lines.Unread()
	}
	if s.out != nil {
		saved.Output = *s.out
	}
	for _, w := range s.workers {
		saved.Workers = append(saved.Workers, w.Name())
	}
	saved.Nonce2, saved.Changes, saved.Rolls, saved.Fresh = s.nonce2, s.changes, s.rolls, s.fresh
	saved.TakenAt, saved.Class, saved.Info = s.takenAt, s.class, s.info
	saved.Lapsed, saved.Past = saveLapsed(s.lapsed), savePast(s.past)
	return saved, !s.closing
}

func saveLapsed(list []lapsed) (saved []savedLapsed) {
	for _, l := range list {
		saved = append(saved, savedLapsed{l.extranonce1, l.last})
	}
	return saved
}

func savePast(list []pastTarget) (saved []savedPast) {
	for _, p := range list {
		saved = append(saved, savedPast{p.difficulty, p.until})
	}
	return saved
}

func loadLapsed(saved []savedLapsed) (list []lapsed) {
	for _, l := range saved {
		list = append(list, lapsed{l.Extranonce1, l.Last})
	}
	return list
}

func loadPast(saved []savedPast) (list []pastTarget) {
	for _, p := range saved {
		list = append(list, pastTarget{p.Difficulty, p.Until})
	}
	return list
}

// templateTable numbers the templates that saved jobs refer to.
type templateTable struct {
	list  []work.Job
	index map[*template]int
}

func (t *templateTable) of(tpl *template) int {
	if tpl == nil {
		return -1
	}
	i, ok := t.index[tpl]
	if !ok {
		i = len(t.list)
		t.index[tpl], t.list = i, append(t.list, *tpl.Job)
	}
	return i
}

func (t *templateTable) job(j sentJob) savedJob {
	if j.tpl == nil {
		return savedJob{Template: -1}
	}
	return savedJob{ID: j.id, Time: j.ntime, Difficulty: j.aim.difficulty, Template: t.of(j.tpl)}
}

// jobs returns the ring's jobs, oldest first.
func (t *templateTable) jobs(r *jobRing) []savedJob {
	list := make([]savedJob, 0, len(r.jobs))
	for i := range r.jobs {
		list = append(list, t.job(r.jobs[(r.next+i)%len(r.jobs)]))
	}
	return list
}

// Adopt takes over what another process handed over, before Run. Its listener
// is not touched: the caller gives New a listener made from FDs[0]. The other
// descriptors belong to the server from here on. The error says why no session
// could be taken over; they are closed then.
func (s *Server) Adopt(h *Handover) error {
	var st savedState
	err := gob.NewDecoder(bytes.NewReader(h.State)).Decode(&st)
	if err == nil && st.Version != handoverVersion {
		err = fmt.Errorf("%w: version %d, not %d", errVersion, st.Version, handoverVersion)
	}
	if err != nil {
		for _, fd := range h.FDs[1:] {
			closeSocket(fd)
		}
		return fmt.Errorf("stratum: sessions of the program before are lost: %w", err)
	}
	s.nextJob.Store(st.NextJob)
	templates := make([]*template, len(st.Templates))
	for i := range st.Templates {
		templates[i] = newTemplate(&st.Templates[i])
	}
	if st.Current >= 0 && st.Current < len(templates) {
		s.current.Store(templates[st.Current])
		s.follow(time.Now(), templates[st.Current].PrevBlock)
	}
	for i := range st.Parked {
		p := &st.Parked[i]
		s.prefixes.parked[p.Extranonce1] = parked{
			closed: p.Closed, difficulty: p.Difficulty,
			jobs: s.sentJobs(templates, p.Jobs), last: sent(templates, p.Last),
			lapsed: loadLapsed(p.Lapsed), past: loadPast(p.Past),
		}
	}
	for i := range st.Sessions {
		if err := s.adopt(h, &st.Sessions[i], templates); err != nil {
			s.log.Warn("stratum: a connection was lost on the way from the program before", "err", err)
		}
	}
	return nil
}

func (s *Server) adopt(h *Handover, saved *savedSession, templates []*template) error {
	if saved.FD <= 0 || saved.FD >= len(h.FDs) {
		return fmt.Errorf("no socket %d", saved.FD)
	}
	conn, err := connOf(h.FDs[saved.FD])
	if err != nil {
		return err
	}
	ses := newSession(s, conn, saved.Connected)
	if ses.first = saved.Input; !saved.Unopened {
		ses.use(port.Opened{Conn: conn, Kind: port.Plain, First: saved.Input})
	}
	ses.junk = saved.Junk
	ses.subscribed, ses.agent, ses.extranonce1 = saved.Subscribed, saved.Agent, saved.Extranonce1
	ses.negotiated, ses.mask = saved.Negotiated, saved.Mask
	ses.vardiff = stratum.ResumeVardiff(s.cfg.Difficulty, saved.Vardiff)
	ses.announced, ses.working, ses.jobDue = saved.Announced, saved.Working, saved.Owed
	ses.lastNotify, ses.accepted, ses.rejected = saved.LastNotify, saved.Accepted, saved.Rejected
	ses.jobs, ses.last = s.sentJobs(templates, saved.Jobs), sent(templates, saved.Last)
	ses.working = ses.working && ses.last.tpl != nil
	ses.lapsed, ses.past = loadLapsed(saved.Lapsed), loadPast(saved.Past)
	if len(saved.Output) > 0 {
		ses.outBuf(append(ses.buf(), saved.Output...))
	}
	for _, name := range saved.Workers {
		if w := s.books.Open(time.Now(), name); w != nil {
			ses.workers = append(ses.workers, w)
		}
	}
	ses.changes, ses.rolls, ses.fresh = saved.Changes, saved.Rolls, saved.Fresh
	ses.takenAt, ses.class, ses.info = saved.TakenAt, saved.Class, saved.Info
	if saved.Nonce2 != 0 {
		ses.nonce2 = saved.Nonce2
	}
	for _, l := range ses.lapsed {
		s.prefixes.live[l.extranonce1] = ses
	}
	if ses.subscribed {
		s.prefixes.live[ses.extranonce1] = ses
	}
	s.sessions[ses] = struct{}{}
	return nil
}

func sent(templates []*template, j savedJob) sentJob {
	if j.Template < 0 || j.Template >= len(templates) {
		return sentJob{}
	}
	tpl := templates[j.Template]
	return sentJob{id: j.ID, ntime: j.Time, aim: tpl.aim(j.Difficulty), tpl: tpl}
}

func (s *Server) sentJobs(templates []*template, saved []savedJob) (r jobRing) {
	for _, j := range saved {
		if job := sent(templates, j); job.tpl != nil {
			r.add(job, s.cfg.KeepJobs)
		}
	}
	return r
}

// parked is what the session leaves behind. The caller holds s.mu or is alone.
func (s *session) parked(now time.Time) parked {
	past := append(append([]pastTarget(nil), s.past...), pastTarget{s.announced, now.Add(s.srv.cfg.RetargetGrace)})
	return parked{closed: now, difficulty: s.vardiff.Difficulty(), jobs: s.jobs, last: s.last, lapsed: s.lapsed, past: past}
}

// ListenerOf makes a listener of a handed-over descriptor, which it closes.
func ListenerOf(fd int) (net.Listener, error) { return listenerOf(fd) }
