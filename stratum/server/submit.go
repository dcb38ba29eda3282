package server

import (
	"crypto/sha256"
	"fmt"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
	"qcitycoin.org/qcity/stratum/pool"
)

// refusal is why a share does not count; the sentence for the miner is in the
// session's why, so that a refused share costs next to no memory.
type refusal struct {
	code   stratum.Code // 0: it counts
	reason pool.Reason
}

func (s *session) refuseShare(r pool.Reason, code stratum.Code, format string, args ...any) refusal {
	s.why = fmt.Appendf(s.why[:0], format, args...)
	return refusal{code, r}
}

// candidate is a submission that could be assembled into a header.
type candidate struct {
	worker *pool.Worker // nil if the name is not authorized here
	job    sentJob
	sol    work.Solution
	mask   uint32 // version bits this session may roll
	hash   [32]byte
}

// share answers mining.submit. An error ends the session.
func (s *session) share(now time.Time, id stratum.Raw, params []stratum.Raw) error {
	other, err := s.judge(now, id, params)
	if other != 0 {
		s.twin(other)
	}
	return err
}

// judge does share's work; other is the number of a session that has submitted
// the same before, or 0.
func (s *session) judge(now time.Time, id stratum.Raw, params []stratum.Raw) (other uint32, err error) {
	var c candidate
	no := s.assemble(now, &c, params)
	share := pool.Share{Hash: c.hash, Real: stratum.HashDifficulty(c.hash)}
	if no.code == 0 {
		other = s.srv.twins.meet(&c.sol, s.number)
		// Before any test that could lose a block.
		if share.Block = s.srv.tryBlock(s, &c); share.Block {
			share.Difficulty = c.job.aim.difficulty
		} else {
			share.Difficulty, no = s.assess(now, &c)
		}
	}
	if no.code == 0 && !s.srv.books.Accept(now, c.worker, share) && !share.Block {
		no = s.refuseShare(pool.DuplicateShare, stratum.CodeDuplicate, "duplicate share")
	}
	if no.code != 0 {
		return other, s.refused(now, id, &c, no)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	s.ladder = ladder{}
	s.earn()
	s.retargeted(s.vardiff.Share(now, share.Difficulty))
	s.answer(id, "true")
	if s.agent == "" && s.question == unasked {
		s.askVersion()
	}
	return other, nil
}

// refused answers a share that does not count.
func (s *session) refused(now time.Time, id stratum.Raw, c *candidate, no refusal) error {
	s.srv.books.Reject(now, c.worker, no.reason)
	s.mu.Lock()
	s.rejected++
	s.vardiff.Alive(now)
	s.outBuf(stratum.AppendError(s.buf(), id, &stratum.Error{Code: no.code, Reason: string(s.why)}))
	var err error
	if invalid(no.reason) {
		err = s.climb(now, no.reason)
	}
	patient := s.spend(now)
	s.mu.Unlock()
	if err == nil && !patient {
		err = s.flooded(stratum.Raw("null"))
	}
	return err
}

// assemble reads a submission as the devices send it and computes its hash.
func (s *session) assemble(now time.Time, c *candidate, params []stratum.Raw) refusal {
	var few [6][]byte
	fields := few[:0]
	for _, p := range params[:min(len(params), len(few))] {
		text, ok := p.Text()
		if !ok && len(fields) < 5 {
			return s.refuseShare(pool.Malformed, stratum.CodeOther, "parameter %d of mining.submit is not a string", len(fields)+1)
		}
		fields = append(fields, text) // a sixth that is null counts as absent
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(fields) > 0 {
		c.worker = s.worker(fields[0])
	}
	if !s.subscribed {
		return s.refuseShare(pool.NotSubscribed, stratum.CodeNotSubscribed, "send mining.subscribe before mining.submit")
	}
	if len(fields) < 5 {
		return s.refuseShare(pool.Malformed, stratum.CodeOther,
			"mining.submit needs worker, job id, extranonce2, ntime and nonce; there are only %d parameters", len(fields))
	}
	var ok bool
	jobID, err := stratum.ParseUint32(fields[1])
	if err == nil && len(fields[1]) <= 8 {
		c.job, ok = s.jobs.find(jobID)
	}
	if !ok {
		return s.refuseShare(pool.UnknownJob, stratum.CodeStale, "job %.20q is not known on this connection, or too old", fields[1])
	}
	c.mask = work.VersionMask // bits without a negotiation: MiningRigRentals in front of an S21
	if s.negotiated {
		c.mask = s.mask
	}
	prefix := s.prefixOf(jobID)
	copy(c.sol.Extranonce[:], prefix[:])
	no := s.complete(c, fields)
	if no.code == 0 && prefix != s.extranonce1 && s.credit(now, &c.job, c.hash) == 0 {
		// mining.set_extranonce holds from the next job on, but this device
		// may have taken it at once.
		copy(c.sol.Extranonce[:], s.extranonce1[:])
		c.hash = solutionHash(c.job.tpl.Job, &c.sol)
	}
	return no
}

// complete fills in the fields the miner chose and hashes the header.
func (s *session) complete(c *candidate, fields [][]byte) refusal {
	malformed := func(name string, err error) refusal {
		return s.refuseShare(pool.Malformed, stratum.CodeOther, "%s: %v", name, err)
	}
	var err error
	if err = stratum.ParseBytes(c.sol.Extranonce[len(c.sol.Extranonce)-s.nonce2:], fields[2]); err != nil {
		return malformed("extranonce2", err)
	}
	if c.sol.Time, err = stratum.ParseUint32(fields[3]); err != nil {
		return malformed("ntime", err)
	}
	if c.sol.Nonce, err = stratum.ParseUint32(fields[4]); err != nil {
		return malformed("nonce", err)
	}
	var rolled uint32
	if len(fields) > 5 && len(fields[5]) > 0 {
		if rolled, err = stratum.ParseUint32(fields[5]); err != nil {
			return malformed("version bits", err)
		}
		s.rolls = s.rolls || rolled != 0
	}
	job := c.job.tpl.Job
	c.sol.JobID = job.ID
	var ok bool
	if c.sol.Version, ok = rolledVersion(job.Version, rolled); !ok {
		return s.refuseShare(pool.BadVersion, stratum.CodeOther,
			"version bits %08x touch bits outside %08x, which no block may change; old bmminer firmware does this, update it", rolled, work.VersionMask)
	}
	c.hash = solutionHash(job, &c.sol)
	return refusal{}
}

// rolledVersion applies the sixth parameter. Because templates leave the
// rollable bits zero, the three readings in use (the value under the mask as in
// BIP 310, XOR with the job's version as ESP-Miner sends it, OR) are the same;
// a whole version field is understood too.
func rolledVersion(version, bits uint32) (uint32, bool) {
	switch {
	case bits&^work.VersionMask == 0:
		return version ^ bits, true
	case (bits^version)&^work.VersionMask == 0:
		return bits, true
	}
	return 0, false
}

// solutionHash is job.Header(sol).Hash() without allocating for a coinbase of
// ordinary size.
func solutionHash(job *work.Job, sol *work.Solution) [32]byte {
	var room [512]byte
	coinbase := append(room[:0], job.CoinbasePrefix...)
	coinbase = append(coinbase, sol.Extranonce[:]...)
	coinbase = append(coinbase, job.CoinbaseSuffix...)
	leaf := sha256.Sum256(coinbase)
	leaf = sha256.Sum256(leaf[:])
	header := job.HeaderWithRoot(*sol, work.FoldBranch(leaf, job.MerkleBranch))
	return header.Hash()
}

// tryBlock submits a share that meets the chain's target, whatever else may be
// wrong with it, and reports whether it made a block. Whether its time or its
// parent still fit is for the chain to say.
func (s *Server) tryBlock(ses *session, c *candidate) bool {
	if !c.job.tpl.Target.Met(c.hash) || !s.solved.Add(c.hash) {
		return false
	}
	if c.worker != nil {
		c.sol.Finder = c.worker.Name()
	}
	outcome, id, err := s.deliver(c.sol)
	log := s.log.With("height", c.job.tpl.Height, "block", fmt.Sprintf("%x", reversed(id)), "remote", ses.remote)
	if c.worker != nil {
		log = log.With("worker", printable([]byte(c.worker.Name()), maxWorkerName))
	}
	switch outcome {
	case work.Accepted, work.Held:
		log.Info("stratum: block found", "outcome", outcome.String())
		return true
	case work.Stale:
		log.Info("stratum: block found, but another took the height first")
	default:
		s.solved.Forget(c.hash) // the reason may pass; let the miner send it again
		log.Error("stratum: the chain refused a solved block", "err", err)
	}
	return false
}

func reversed(id [32]byte) [32]byte {
	for i, j := 0, len(id)-1; i < j; i, j = i+1, j-1 {
		id[i], id[j] = id[j], id[i]
	}
	return id
}

// lateAtMost bounds how long after a new parent shares of the one before count for
// a client that takes no newer job.
const lateAtMost = 10 * time.Second

// stale reports whether work on a parent is worth nothing any more. A miner
// cannot know of a new parent before it was told: what it found until then, and
// shortly after, as long as wire and firmware take, is work done in good faith.
func (s *session) stale(now time.Time, parent [32]byte) bool {
	tip := s.srv.tip.Load()
	switch {
	case tip == nil || parent != tip.parent && (parent != tip.before || now.Sub(tip.since) >= lateAtMost):
		return true
	case parent == tip.parent:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.tpl.PrevBlock == tip.parent && now.Sub(s.moved) >= s.srv.cfg.StaleGrace
}

// assess decides whether a share that is no block counts, and for how much.
func (s *session) assess(now time.Time, c *candidate) (float64, refusal) {
	job := &c.job
	last := uint64(max(job.ntime, job.tpl.Time)) + uint64(s.srv.cfg.NTimeAhead.Seconds())
	rolled := c.sol.Version ^ job.tpl.Version
	switch {
	case c.worker == nil:
		return 0, s.refuseShare(pool.Unauthorized, stratum.CodeUnauthorized, "this worker is not authorized on this connection, send mining.authorize first")
	case s.stale(now, job.tpl.PrevBlock):
		return 0, s.refuseShare(pool.StaleShare, stratum.CodeStale, "stale: the block after this job's parent (height %d) is already found", job.tpl.Height)
	case c.sol.Time < job.tpl.MinTime:
		return 0, s.refuseShare(pool.BadTime, stratum.CodeOther, "ntime %08x is before %08x, the earliest the chain accepts", c.sol.Time, job.tpl.MinTime)
	case uint64(c.sol.Time) > last:
		return 0, s.refuseShare(pool.BadTime, stratum.CodeOther, "ntime %08x is more than %v ahead of the job", c.sol.Time, s.srv.cfg.NTimeAhead)
	case rolled&^c.mask != 0:
		return 0, s.refuseShare(pool.BadVersion, stratum.CodeOther, "version bits %08x are outside the granted mask %08x", rolled, c.mask)
	}
	s.mu.Lock()
	credit := s.credit(now, job, c.hash)
	s.mu.Unlock()
	if credit == 0 {
		s.why = append(s.why[:0], "low difficulty share: "...)
		s.why = stratum.AppendDifficulty(s.why, stratum.HashDifficulty(c.hash))
		s.why = append(s.why, " of "...)
		s.why = stratum.AppendDifficulty(s.why, job.aim.difficulty)
		return 0, refusal{stratum.CodeLowDifficulty, pool.LowDifficulty}
	}
	return credit, refusal{}
}
