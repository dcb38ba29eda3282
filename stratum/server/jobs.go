package server

import (
	"bytes"
	"encoding/hex"
	"sync"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// template is a published work.Job with what is computed once for all sessions.
type template struct {
	*work.Job
	body    []byte    // the shared middle of mining.notify
	network float64   // difficulty of a block
	common  *template // whose work this is, with another coinbase; itself if it is common work

	mu       sync.Mutex
	aims     map[float64]*aim     // by difficulty
	personal map[string]*template // by account; nil for those that do the common work

	listed sync.Once
	list   string // see transactions
}

// of returns the template that a worker works on.
func (t *template) of(worker string, personal func(*work.Job, string) (*work.Job, bool)) *template {
	if personal == nil {
		return t
	}
	account := pool.Account(worker)
	t.mu.Lock()
	defer t.mu.Unlock()
	own, known := t.personal[account]
	if !known {
		if job, ok := personal(t.Job, worker); ok {
			own = newTemplate(job)
			own.common = t
		}
		if t.personal == nil {
			t.personal = map[string]*template{}
		}
		t.personal[account] = own // as many as there are accounts with a connection
	}
	if own == nil {
		return t
	}
	return own
}

// aim is a share difficulty of a template: most sessions have one of few.
type aim struct {
	difficulty float64
	target     work.Target
}

// maxAims bounds what miners who ask for odd difficulties may make a template remember.
const maxAims = 1024

func (t *template) aim(difficulty float64) *aim {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.aims[difficulty]
	if a == nil {
		a = &aim{difficulty: difficulty, target: stratum.ShareTarget(difficulty, t.Target)}
		if len(t.aims) < maxAims {
			t.aims[difficulty] = a
		}
	}
	return a
}

func newTemplate(job *work.Job) *template {
	t := &template{Job: job, body: stratum.AppendNotifyBody(nil, job), network: job.Target.Difficulty(), aims: map[float64]*aim{}}
	t.common = t
	return t
}

// maxTransactions is the longest list of transactions that a client is sent, in
// bytes; a larger one would stop it from reading jobs.
const maxTransactions = 16 << 10

// transactions returns the transactions beside the coinbase as a JSON array of
// hex strings, or "" if that is too long or the job's source does not tell.
func (t *template) transactions() string {
	t.listed.Do(func() {
		if len(t.MerkleBranch) == 0 {
			t.list = "[]"
			return
		}
		if t.Transactions == nil {
			return
		}
		b := []byte{'['}
		for i, tx := range t.Transactions() {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(hex.AppendEncode(append(b, '"'), tx), '"')
			if len(b) > maxTransactions {
				return
			}
		}
		t.list = string(append(b, ']'))
	})
	return t.list
}

// sentJob is one mining.notify as a session got it. Its target never changes:
// a later retarget cannot turn its shares into rejects.
type sentJob struct {
	id    uint32
	ntime uint32
	aim   *aim
	tpl   *template
}

// jobRing remembers the newest jobs of one session.
type jobRing struct {
	jobs []sentJob
	next int
}

func (r *jobRing) add(j sentJob, keep int) {
	if len(r.jobs) < keep {
		r.jobs = append(r.jobs, j)
		return
	}
	r.jobs[r.next] = j
	r.next = (r.next + 1) % len(r.jobs)
}

func (r *jobRing) find(id uint32) (sentJob, bool) {
	for i := range r.jobs {
		if r.jobs[i].id == id {
			return r.jobs[i], true
		}
	}
	return sentJob{}, false
}

// pastTarget is a difficulty that was announced and then superseded.
type pastTarget struct {
	difficulty float64
	until      time.Time
}

// maxPastTargets is how many superseded difficulties a session remembers apart.
const maxPastTargets = 8

// announce makes d the announced difficulty and remembers the one before. When
// there are too many, the two oldest become one, as easy as the easier of them:
// a share may then count for less, but is never refused.
func (s *session) announce(now time.Time, d float64) {
	if s.announced > 0 {
		if len(s.past) == maxPastTargets {
			s.past[1].difficulty = min(s.past[0].difficulty, s.past[1].difficulty)
			s.past = append(s.past[:0], s.past[1:]...)
		}
		s.past = append(s.past, pastTarget{s.announced, now.Add(s.srv.cfg.RetargetGrace)})
	}
	s.announced = d
	s.remember()
	s.outBuf(stratum.AppendSetDifficulty(s.buf(), d))
}

// remember has the books keep what the miner resumes with after a crash.
func (s *session) remember() {
	names := make([]string, len(s.workers))
	for i, w := range s.workers {
		names[i] = w.Name()
	}
	s.srv.books.Issued(s.extranonce1, names, s.vardiff.Difficulty())
}

// floodFactor is how many times harder a difficulty has to become for the job that
// comes with it to replace all others at once (bfgminer as a proxy, Antminer S19).
const floodFactor = 8

// compose queues the newest job, preceded by its difficulty if that changed.
// It runs when the session is about to write, so however slow a client is,
// only the newest job is ever waiting for it. The caller holds s.mu.
func (s *session) compose(now time.Time) {
	s.jobDue = false
	if !s.ready() {
		return
	}
	tpl := s.srv.current.Load()
	if tpl == nil { // nothing to hash yet: say something, so that nobody hangs up
		s.lastNotify = now
		s.announced = s.vardiff.Difficulty()
		s.remember()
		s.outBuf(stratum.AppendSetDifficulty(s.buf(), s.announced))
		return
	}
	tpl = tpl.of(s.workers[0].Name(), s.srv.cfg.Personal)
	d := stratum.ShareDifficulty(s.vardiff.Difficulty(), tpl.network)
	// A device may be slow to drop what it works on, and some only do so when told
	// to. When it is far too fast that is worth more than what is in its pipeline.
	flood := s.announced > 0 && d >= floodFactor*s.announced
	if d != s.announced || s.forceDifficulty {
		s.announce(now, d)
		s.forceDifficulty = false
	}
	if !s.working {
		s.vardiff.Restart(now)
	}
	job := sentJob{
		id:    s.srv.nextJob.Add(1),
		ntime: s.jobTime(now, tpl),
		aim:   tpl.aim(d),
		tpl:   tpl,
	}
	moved := !s.working || s.last.tpl.PrevBlock != tpl.PrevBlock
	if moved {
		s.moved = now
	}
	clean := moved || s.fresh || flood
	s.fresh = false
	s.outBuf(stratum.AppendNotify(s.buf(), job.id, tpl.body, job.ntime, clean))
	s.jobs.add(job, s.srv.cfg.KeepJobs)
	s.last, s.lastNotify, s.working = job, now, true
}

// jobTime returns the time stamp of the next job. Work that was sent before
// gets a later one: many miners start extranonce2 and nonce again at zero with
// every job id, and would find the very same shares a second time.
func (s *session) jobTime(now time.Time, tpl *template) uint32 {
	t := max(tpl.Time, uint32(max(0, now.Unix())))
	if last := s.last.tpl; last != nil && (last == tpl || bytes.Equal(last.body, tpl.body)) {
		t = max(t, s.last.ntime+1)
	}
	return t
}

// credit judges a share's hash: it returns the difficulty the share counts
// for, or 0 if it meets no target this session may be working at. That is the
// job's own target first; then any other difficulty the device may have applied
// to this job, because devices apply set_difficulty at once, with the next job
// or only with the next block. Such a share counts only for what it proves.
func (s *session) credit(now time.Time, job *sentJob, hash [32]byte) float64 {
	if job.aim.target.Met(hash) {
		return job.aim.difficulty
	}
	best := 0.0
	try := func(d float64) {
		if d > best && d < job.aim.difficulty {
			if t := work.TargetFromDifficulty(d); t.Met(hash) {
				best = d
			}
		}
	}
	try(s.announced)
	for _, p := range s.past {
		if now.Before(p.until) {
			try(p.difficulty)
		}
	}
	return best
}
