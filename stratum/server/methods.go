package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/bits"
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
// however many arrive in one burst.
func (s *session) dispatch(q *stratum.Request) {
	var few [8]stratum.Raw
	params, ok := q.Params.Elements(few[:0])
	switch string(q.Method) {
	case stratum.MethodSubmit:
		s.share(q.ID, params)
	case stratum.MethodSubscribe:
		s.subscribe(q.ID, params)
	case stratum.MethodAuthorize:
		s.authorize(q.ID, params)
	case stratum.MethodConfigure:
		s.configure(q.ID, params)
	case stratum.MethodSuggestDifficulty:
		d, isNumber := first(params).Number()
		s.suggest(q.ID, d, ok && isNumber)
	case stratum.MethodSuggestTarget:
		d, isTarget := targetDifficulty(first(params))
		s.suggest(q.ID, d, isTarget)
	case stratum.MethodGetTransactions:
		s.transactions(q.ID)
	case stratum.MethodPing:
		s.say(q.ID, `"pong"`)
	case stratum.MethodExtranonceSubscribe, stratum.MethodMultiVersion:
		s.say(q.ID, "true") // an error sends an Antminer S9 into a reconnect loop
	default:
		if d, isForm := suggestionInName(q.Method); isForm {
			s.suggest(q.ID, d, true)
			return
		}
		s.refuse(q.ID, stratum.Errorf(stratum.CodeOther, "unsupported method %.40q", q.Method))
	}
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
// names it and it is free. The answer never waits for a job.
func (s *session) subscribe(id stratum.Raw, params []stratum.Raw) {
	now := time.Now()
	s.mu.Lock()
	again := s.subscribed
	s.mu.Unlock()
	var e1 [work.PrefixSize]byte
	var was parked
	var resumed bool
	if !again { // only this goroutine ever subscribes
		e1, was, resumed = s.srv.takePrefix(now, params)
	}
	agent, _ := first(params).Text()

	s.mu.Lock()
	defer s.mu.Unlock()
	if !again {
		_ = s.conn.SetReadDeadline(time.Time{}) // subscribed miners may be silent
		s.subscribed, s.extranonce1, s.agent = true, e1, printable(agent, maxAgent)
		s.jobDue = true
		if resumed {
			s.jobs, s.last = was.jobs, was.last
			s.vardiff.Resume(now, was.difficulty)
		}
	}
	s.outBuf(stratum.AppendSubscribeResult(s.buf(), id, s.extranonce1))
}

func (s *Server) takePrefix(now time.Time, params []stratum.Raw) ([work.PrefixSize]byte, parked, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(params) > 1 {
		if old, ok := params[1].Text(); ok {
			if e1, was, ok := s.prefixes.resume(now, old, s.cfg.ResumeFor); ok {
				return e1, was, true
			}
		}
	}
	return s.prefixes.fresh(), parked{}, false
}

// authorize accepts every user name: it only says whom shares count for.
func (s *session) authorize(id stratum.Raw, params []stratum.Raw) {
	now := time.Now()
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
	}
	if len(params) > 1 {
		if password, ok := params[1].Text(); ok {
			if d, ok := stratum.PasswordDifficulty(password); ok {
				s.retargeted(s.vardiff.Pin(now, d))
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
func (s *session) suggest(id stratum.Raw, d float64, ok bool) {
	d, clean := stratum.CleanDifficulty(d)
	if !ok || !clean {
		s.refuse(id, stratum.Errorf(stratum.CodeOther, "a suggestion needs a positive number (or a target of 64 hex digits) as its parameter"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retargeted(s.vardiff.Suggest(time.Now(), d))
	s.answer(id, "true")
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

// transactions says the truth: jobs hold the Merkle branch, not the
// transactions. bfgminer asks for them and only warns.
func (s *session) transactions(id stratum.Raw) {
	tpl := s.srv.current.Load()
	switch {
	case tpl == nil:
		s.refuse(id, stratum.Errorf(stratum.CodeStale, "there is no job yet"))
	case len(tpl.MerkleBranch) == 0:
		s.say(id, "[]") // nothing but the coinbase
	default:
		n := len(tpl.MerkleBranch)
		s.refuse(id, stratum.Errorf(stratum.CodeOther,
			"the block holds %d to %d transactions beside the coinbase; ask the node's getblocktemplate for them", 1<<(n-1), 1<<n-1))
	}
}

// configure answers BIP 310 extensions; an unknown one is false, not an error.
func (s *session) configure(id stratum.Raw, params []stratum.Raw) {
	var names []string
	var options map[string]json.RawMessage
	if len(params) == 0 || json.Unmarshal(params[0], &names) != nil ||
		len(params) > 1 && json.Unmarshal(params[1], &options) != nil {
		s.refuse(id, stratum.Errorf(stratum.CodeOther, "mining.configure needs a list of extensions and an object of their options"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result := map[string]any{}
	announceMask := false
	for _, name := range names {
		switch name {
		case "version-rolling":
			before, had := s.mask, s.negotiated
			s.rollVersions(result, options)
			announceMask = s.mask != 0 && (s.jobs.jobs != nil || had) && s.mask != before
		case "minimum-difficulty":
			d, ok := stratum.Raw(options["minimum-difficulty.value"]).Number()
			d, clean := stratum.CleanDifficulty(d)
			result[name] = ok && clean
			if ok && clean {
				s.retargeted(s.vardiff.Floor(time.Now(), d))
			}
		case "subscribe-extranonce", "info":
			result[name] = true
		default:
			result[name] = false
		}
	}
	text, err := json.Marshal(result)
	if err != nil { // names come from valid JSON and values are booleans and hex
		text = []byte("{}")
	}
	s.answer(id, string(text))
	if announceMask { // work is already out: BIP 310 announces a change
		s.outBuf(stratum.AppendSetVersionMask(s.buf(), s.mask))
	}
}

// rollVersions grants the requested bits that the chain ignores. BIP 310 tells
// a server not to turn a miner away that gets fewer bits than its
// min-bit-count: it can still work, slower.
func (s *session) rollVersions(result map[string]any, options map[string]json.RawMessage) {
	asked := ^uint32(0)
	if text, ok := stratum.Raw(options["version-rolling.mask"]).Text(); ok {
		m, err := stratum.ParseUint32(text)
		if err != nil {
			result["version-rolling"] = "version-rolling.mask is not hex"
			return
		}
		asked = m
	}
	s.mask, s.negotiated = asked&work.VersionMask, true
	result["version-rolling"] = s.mask != 0
	result["version-rolling.mask"] = fmt.Sprintf("%08x", s.mask)
	if want, ok := stratum.Raw(options["version-rolling.min-bit-count"]).Number(); ok && want > float64(bits.OnesCount32(s.mask)) {
		s.srv.log.Info("stratum: a miner asked for more version bits than it may roll",
			"remote", s.remote, "wanted", want, "mask", fmt.Sprintf("%08x", s.mask))
	}
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
