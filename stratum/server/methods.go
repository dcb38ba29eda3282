package server

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// Bounds on what one client may make the server remember.
const (
	maxAgent      = 64  // bytes of a user agent
	maxWorkerName = 128 // bytes of a worker name
	maxSessionIDs = 256 // workers of one session; aggregating proxies use tens
)

// dispatch answers one request. Requests are answered in the order they came,
// however many arrive in one burst. An error ends the session.
func (s *session) dispatch(q *stratum.Request) error {
	var few [8]stratum.Raw
	params, ok := q.Params.Elements(few[:0])
	now := time.Now()
	s.heard.Store(now.UnixNano())
	if string(q.Method) == stratum.MethodSubmit {
		return s.share(now, q.ID, params)
	}
	s.mu.Lock()
	patient := s.spend(now)
	s.mu.Unlock()
	if !patient {
		return s.flooded(q.ID)
	}
	switch string(q.Method) {
	case stratum.MethodSubscribe:
		s.subscribe(now, q.ID, params)
	case stratum.MethodAuthorize:
		s.authorize(now, q.ID, params)
	case stratum.MethodConfigure:
		s.configure(now, q.ID, params)
	case stratum.MethodSuggestDifficulty:
		d, isNumber := first(params).Number()
		s.suggest(now, q.ID, d, ok && isNumber)
	case stratum.MethodSuggestTarget:
		d, isTarget := targetDifficulty(first(params))
		s.suggest(now, q.ID, d, isTarget)
	case stratum.MethodGetTransactions:
		s.transactions(q.ID, first(params))
	case stratum.MethodPing, stratum.MethodClientPing:
		s.say(q.ID, `"pong"`)
	case stratum.MethodExtranonceSubscribe:
		s.mu.Lock()
		s.changes = true
		s.mu.Unlock()
		s.say(q.ID, "true") // an error sends an Antminer S9 into a reconnect loop
	case stratum.MethodMultiVersion:
		s.say(q.ID, "true") // likewise
	default:
		if d, isForm := suggestionInName(q.Method); isForm {
			s.suggest(now, q.ID, d, true)
			return nil
		}
		s.refuse(q.ID, stratum.Errorf(stratum.CodeOther, "unsupported method %.40q", q.Method))
	}
	return nil
}

func first(params []stratum.Raw) stratum.Raw {
	if len(params) == 0 {
		return nil
	}
	return params[0]
}

func (s *session) say(id stratum.Raw, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer(id, result)
}

// subscribe gives the session its extranonce1, an earlier one if the client
// names it and may have it. The answer never waits for a job.
func (s *session) subscribe(now time.Time, id stratum.Raw, params []stratum.Raw) {
	s.mu.Lock()
	again := s.subscribed
	s.mu.Unlock()
	if !again { // only this goroutine ever subscribes
		p := s.srv.takePrefix(now, s, params)
		agent, _ := first(params).Text()
		s.mu.Lock()
		s.settle(now, &p, printable(agent, maxAgent))
		s.mu.Unlock()
		p.pushOut(s.srv.log.Info, s.remote)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var room [work.ExtranonceSize]byte
	s.outBuf(stratum.AppendSubscribeResult(s.buf(), id, s.extranonce(&room)))
}

// settle makes a place the session's own. The caller holds s.mu.
func (s *session) settle(now time.Time, p *prefix, agent string) {
	_ = s.conn.SetReadDeadline(time.Time{}) // subscribed miners may be silent
	s.subscribed, s.extranonce1, s.agent = true, p.extranonce1, agent
	s.jobDue = true
	s.earn()
	device, _ := stratum.DeviceOf(agent, s.srv.cfg.Devices)
	s.class, s.nonce2 = device.Class, usualNonce2
	if device.Extranonce2 > 0 {
		s.nonce2 = device.Extranonce2
	}
	s.vardiff.Suit(now, device.Start, device.Floor)
	if p.resumed {
		s.jobs, s.last, s.lapsed, s.past = p.was.jobs, p.was.last, p.was.lapsed, p.was.past
		s.vardiff.Resume(now, p.was.difficulty)
	}
	if p.from != nil {
		s.takenAt, s.takenOff = now, p.from.number
	}
}

// usualNonce2 is the size of extranonce2; aggregating proxies need 8 bytes.
const usualNonce2 = work.ExtranonceSize - work.PrefixSize

// authorize accepts every user name: it only says whom shares count for.
func (s *session) authorize(now time.Time, id stratum.Raw, params []stratum.Raw) {
	name, ok := first(params).Text()
	if !ok || len(name) > maxWorkerName {
		s.refuse(id, stratum.Errorf(stratum.CodeOther,
			"mining.authorize needs a worker name of at most %d bytes as its first parameter", maxWorkerName))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.worker(name) == nil {
		if len(s.workers) >= maxSessionIDs {
			s.outBuf(stratum.AppendError(s.buf(), id, stratum.Errorf(stratum.CodeUnauthorized,
				"more than %d worker names on one connection", maxSessionIDs)))
			return
		}
		w := s.srv.books.Open(now, string(name))
		if w == nil {
			s.outBuf(stratum.AppendError(s.buf(), id, stratum.Errorf(stratum.CodeUnauthorized,
				"this server has no room for another worker name")))
			return
		}
		s.jobDue = s.jobDue || len(s.workers) == 0
		s.workers = append(s.workers, w)
		s.earn()
	}
	if len(params) > 1 {
		if password, ok := params[1].Text(); ok {
			fixed, least := stratum.PasswordDifficulty(password)
			if fixed > 0 {
				s.wish(now, pinned, max(fixed, least))
			} else if least > 0 {
				s.wish(now, atLeast, least)
			}
		}
	}
	s.answer(id, "true")
}

// retargeted makes a changed difficulty go out with a new job.
func (s *session) retargeted(changed bool) { s.jobDue = s.jobDue || changed }

// worker finds an authorized worker of this session by name.
func (s *session) worker(name []byte) *pool.Worker {
	for _, w := range s.workers {
		if w.Name() == string(name) {
			return w
		}
	}
	return nil
}

// suggest honours a difficulty the miner asks for. The answer is true even if
// the limits changed the figure: set_difficulty tells the truth.
func (s *session) suggest(now time.Time, id stratum.Raw, d float64, ok bool) {
	d, clean := stratum.CleanDifficulty(d)
	if !ok || !clean {
		s.refuse(id, stratum.Errorf(stratum.CodeOther, "a suggestion needs a positive number (or a target of 64 hex digits) as its parameter"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wish(now, suggested, d)
	s.answer(id, "true")
}

// The ways in which a miner asks for a difficulty, the strongest last.
const (
	suggested = iota // about this much
	atLeast
	pinned
	wishKinds
)

// wish honours what the miner asks for, at most once a second when it works
// already: a late share is then always of one of the jobs that are remembered.
// The caller holds s.mu.
func (s *session) wish(now time.Time, kind int, d float64) {
	if s.working && now.Sub(s.asked) < time.Second {
		s.wishes[kind] = d
		return
	}
	s.asked = now
	switch kind {
	case suggested:
		s.retargeted(s.vardiff.Suggest(now, d))
	case atLeast:
		s.retargeted(s.vardiff.Floor(now, d))
	case pinned:
		s.retargeted(s.vardiff.Pin(now, d))
	}
}

// grantWish honours a wish that had to wait. The caller holds s.mu.
func (s *session) grantWish(now time.Time) {
	for kind, d := range s.wishes {
		if d > 0 && now.Sub(s.asked) >= time.Second {
			s.wishes[kind] = 0
			s.wish(now, kind, d)
		}
	}
}

// suggestionInName reads old clients' "mining.suggest_difficulty(1024)".
func suggestionInName(method []byte) (float64, bool) {
	rest, ok := bytes.CutPrefix(method, []byte(stratum.MethodSuggestDifficulty+"("))
	if !ok {
		return 0, false
	}
	d, err := strconv.ParseFloat(string(bytes.TrimSuffix(rest, []byte(")"))), 64)
	return d, err == nil
}

// targetDifficulty reads a big-endian target.
func targetDifficulty(r stratum.Raw) (float64, bool) {
	text, ok := r.Text()
	var t work.Target
	if !ok || len(text) != 2*len(t) || stratum.ParseBytes(t[:], text) != nil {
		return 0, false
	}
	return t.Difficulty(), true
}

// transactions answers with a job's transactions, in hex, or with their number
// when the list would be long or is not known. bfgminer asks with every job,
// warns when it gets no list, and checks no more of it than the length. An
// unknown job counts as the newest one.
func (s *session) transactions(id, job stratum.Raw) {
	tpl := s.srv.current.Load()
	if text, ok := job.Text(); ok {
		if number, err := stratum.ParseUint32(text); err == nil {
			s.mu.Lock()
			if sent, found := s.jobs.find(number); found {
				tpl = sent.tpl
			}
			s.mu.Unlock()
		}
	}
	if tpl == nil {
		s.refuse(id, stratum.Errorf(stratum.CodeStale, "there is no job yet"))
		return
	}
	if list := tpl.transactions(); list != "" {
		s.say(id, list)
		return
	}
	n := len(tpl.MerkleBranch)
	s.refuse(id, stratum.Errorf(stratum.CodeOther,
		"the block holds %d to %d transactions beside the coinbase; ask the node's getblocktemplate for them", 1<<(n-1), 1<<n-1))
}

// printable makes client text fit for terminals and logs.
func printable(text []byte, limit int) string {
	text = text[:min(len(text), limit)]
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(text))
}
