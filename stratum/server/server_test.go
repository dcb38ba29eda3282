package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum/pool"
)

// startDifficulty takes a test about 4,000 hashes a share.
const startDifficulty = 1.0 / (1 << 20)

func easyConfig() (cfg Config) {
	cfg.Difficulty.Start, cfg.Difficulty.Min = startDifficulty, startDifficulty/16
	cfg.UpdateInterval = 1 // every job of the feed is worth sending
	return cfg
}

func TestMinerFindsSharesAndABlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		job := r.publish(1, work.TargetFromDifficulty(4*startDifficulty))
		c := r.client()
		c.login("x")
		for range 3 {
			s := c.solve(c.job, 0, between(startDifficulty, 4*startDifficulty))
			if m := c.call("mining.submit", s.params()); string(m.Result) != "true" {
				t.Fatalf("share refused: %s", m.Error)
			}
		}
		c.job.difficulty = 4 * startDifficulty
		if m := c.call("mining.submit", c.valid(c.job).params()); string(m.Result) != "true" {
			t.Fatalf("block refused: %s", m.Error)
		}
		blocks := r.chain.found()
		if len(blocks) != 1 {
			t.Fatalf("%d blocks reached the chain", len(blocks))
		}
		header := job.Header(blocks[0])
		if got := c.hash(c.job, "00000000000000aa", blocks[0].Time, blocks[0].Nonce, 0); header.Hash() != got {
			t.Errorf("chain got header %x, the miner hashed %x", header.Hash(), got)
		}
		st := r.srv.Stats()
		w := st.Workers[0]
		if w.Name != "w" || w.Accepted != 4 || w.Blocks != 1 || w.Difficulty != 4*startDifficulty || w.Best < 4*startDifficulty ||
			w.HashRate.Minute <= 0 || st.Miners != 1 || st.Sessions[0].UserAgent != "test/1" || len(w.Rejected) != 0 {
			t.Errorf("accounts: %+v", st)
		}
	})
}

func TestRejects(t *testing.T) {
	mod := func(f func(*share)) func(*client) string {
		return func(c *client) string { s := c.valid(c.job); f(&s); return s.params() }
	}
	for name, tc := range map[string]struct {
		params func(*client) string
		code   int
		reason pool.Reason
	}{
		"no parameters":         {func(*client) string { return `[]` }, 20, pool.Malformed},
		"parameters an object":  {func(*client) string { return `{"a":1}` }, 20, pool.Malformed},
		"too few":               {func(*client) string { return `["w","1","00"]` }, 20, pool.Malformed},
		"number for a string":   {func(*client) string { return `["w",1,"00","00","00"]` }, 20, pool.Malformed},
		"extranonce2 no hex":    {mod(func(s *share) { s.e2 = "zz" }), 20, pool.Malformed},
		"ntime no hex":          {mod(func(s *share) { s.ntime = "now" }), 20, pool.Malformed},
		"nonce empty":           {mod(func(s *share) { s.nonce = "" }), 20, pool.Malformed},
		"version bits no hex":   {mod(func(s *share) { s.version = "x" }), 20, pool.Malformed},
		"unknown job":           {mod(func(s *share) { s.job = "abcdef01" }), 21, pool.UnknownJob},
		"job id no hex":         {mod(func(s *share) { s.job = "bogus" }), 21, pool.UnknownJob},
		"job id too long":       {mod(func(s *share) { s.job += "00000000" }), 21, pool.UnknownJob},
		"unauthorized worker":   {mod(func(s *share) { s.worker = "other" }), 24, pool.Unauthorized},
		"top bit (old bmminer)": {mod(func(s *share) { s.version = "40000000" }), 20, pool.BadVersion},
		"ntime too early":       {mod(func(s *share) { s.ntime = "00000001" }), 20, pool.BadTime},
		"ntime too late":        {mod(func(s *share) { s.ntime = "ffffffff" }), 20, pool.BadTime},
		"low difficulty": {func(c *client) string {
			return c.solve(c.job, 0, between(0, startDifficulty/2)).params()
		}, 23, pool.LowDifficulty},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				r.publish(1, hard)
				c := r.client()
				c.login("x")
				m := c.call("mining.submit", tc.params(c))
				if m.code() != tc.code || len(m.Error) != 3 || len(m.Error[1]) < 10 {
					t.Errorf("answer %s %s, want code %d with a reason", m.Result, m.Error, tc.code)
				}
				if st := r.srv.Stats(); st.Total.Rejected[tc.reason.String()] != 1 || st.Total.Accepted != 0 || st.Sessions[0].Rejected != 1 {
					t.Errorf("accounts %+v, want one %v", st.Total, tc.reason)
				}
				if m := c.call("mining.submit", c.valid(c.job).params()); string(m.Result) != "true" {
					t.Errorf("a good share after it was refused: %s", m.Error)
				}
			})
		})
	}
}

func TestSubmitBeforeSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		c := r.client()
		if m := c.call("mining.submit", `["w","1","00","00","00"]`); m.code() != 25 {
			t.Errorf("answer %s %s", m.Result, m.Error)
		}
	})
}

// Every spelling of one share is that share; other version bits are another share.
func TestDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		c := r.client()
		c.login("x")
		s := c.valid(c.job)
		if m := c.call("mining.submit", s.params()); string(m.Result) != "true" {
			t.Fatalf("refused: %s", m.Error)
		}
		for name, change := range map[string]func(*share){
			"same":                 func(*share) {},
			"upper case":           func(s *share) { s.e2 = strings.ToUpper(s.e2); s.nonce = strings.ToUpper(s.nonce) },
			"long extranonce2":     func(s *share) { s.e2 += "ffff" },
			"long nonce":           func(s *share) { s.nonce += "ff" },
			"zero version bits":    func(s *share) { s.version = "00000000" },
			"whole version":        func(s *share) { s.version = "20000000" },
			"leading zeros of job": func(s *share) { s.job = strings.Repeat("0", 8-len(s.job)) + s.job },
		} {
			d := s
			change(&d)
			if m := c.call("mining.submit", d.params()); m.code() != 22 {
				t.Errorf("%s: answer %s %s", name, m.Result, m.Error)
			}
		}
		// The session comes back with its extranonce1 and sends the share again.
		_ = c.conn.Close()
		synctest.Wait()
		again := r.client()
		again.subscribe(fmt.Sprintf(`["test/1",%q]`, c.e1))
		if again.e1 != c.e1 {
			t.Fatalf("resumed as %s, was %s", again.e1, c.e1)
		}
		again.call("mining.authorize", `["w","x"]`)
		if m := again.call("mining.submit", s.params()); m.code() != 22 {
			t.Errorf("after resume: answer %s %s", m.Result, m.Error)
		}
	})
}

func TestStaleSharesAndLateOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		c := r.client()
		c.login("x")
		first := c.job
		r.publish(1, hard)
		if second := c.awaitJob(); second.clean || !first.clean {
			t.Errorf("clean flags %v, %v", first.clean, second.clean)
		}
		if m := c.call("mining.submit", c.valid(first).params()); string(m.Result) != "true" {
			t.Errorf("late share of the same parent: %s", m.Error)
		}
		r.publish(2, hard)
		if third := c.awaitJob(); !third.clean {
			t.Error("a new parent came without clean_jobs")
		}
		// What was on its way when the parent came counts, and counts once.
		late := c.valid(first).params()
		if m := c.call("mining.submit", late); string(m.Result) != "true" {
			t.Errorf("share on its way: %s %s", m.Result, m.Error)
		}
		if m := c.call("mining.submit", late); m.code() != 22 {
			t.Errorf("the same again: %s %s", m.Result, m.Error)
		}
		time.Sleep(3 * time.Second)
		if m := c.call("mining.submit", c.valid(first).params()); m.code() != 21 {
			t.Errorf("stale share: %s %s", m.Result, m.Error)
		}
		third := c.job
		for parent := range byte(2) {
			r.publish(3+parent, hard)
			c.awaitJob()
		}
		if m := c.call("mining.submit", c.valid(third).params()); m.code() != 21 {
			t.Errorf("share of the parent before the last: %s %s", m.Result, m.Error)
		}
	})
}

// A share is not stale because the server knows of a new parent that the miner was
// not told of; but not for ever, should it never listen.
func TestNotStaleBeforeTheMinerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		c := r.client()
		c.login("x")
		ses := r.srv.all()[0]
		first := c.job
		synctest.Wait() // nothing is being written
		ses.mu.Lock()
		ses.writing = true // as if the socket took nothing
		ses.mu.Unlock()
		r.publish(2, hard)
		synctest.Wait()
		for wait, want := range map[time.Duration]bool{0: false, 5 * time.Second: false, 11 * time.Second: true} {
			if ses.stale(time.Now().Add(wait), [32]byte{1}) != want {
				t.Errorf("after %v: stale %v", wait, !want)
			}
		}
		ses.mu.Lock()
		ses.writing = false
		ses.write()
		ses.mu.Unlock()
		if c.awaitJob(); c.job.prev == first.prev || ses.stale(time.Now(), [32]byte{1}) || !ses.stale(time.Now().Add(2*time.Second), [32]byte{1}) {
			t.Error("after it was told: wrong")
		}
	})
}

// A solved header goes to the chain whatever is wrong with it as a share.
func TestBlockComesBeforeEveryReject(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil   func(*rig, *share)
		verdict work.Outcome
		err     error
		code    int
	}{
		"accepted":               {func(*rig, *share) {}, work.Accepted, nil, 0},
		"held":                   {func(*rig, *share) {}, work.Held, nil, 0},
		"stale but saved":        {func(r *rig, _ *share) { r.publish(2, hard); synctest.Wait() }, work.Accepted, nil, 0},
		"on its way, too late":   {func(r *rig, _ *share) { r.publish(2, hard); synctest.Wait() }, work.Stale, nil, 0},
		"stale and too late":     {func(r *rig, _ *share) { r.publish(2, hard); synctest.Wait(); time.Sleep(3 * time.Second) }, work.Stale, nil, 21},
		"unauthorized and taken": {func(_ *rig, s *share) { s.worker = "other" }, work.Accepted, nil, 0},
		"unauthorized, too late": {func(_ *rig, s *share) { s.worker = "other" }, work.Stale, nil, 24},
		"refused, still a share": {func(*rig, *share) {}, work.Rejected, errors.New("bad-time"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				r.chain.verdict, r.chain.err = tc.verdict, tc.err
				r.publish(1, work.TargetFromDifficulty(startDifficulty))
				c := r.client()
				c.login("x")
				s := c.valid(c.job)
				tc.spoil(r, &s)
				if m := c.call("mining.submit", s.params()); m.code() != tc.code {
					t.Errorf("answer %s %s, want code %d", m.Result, m.Error, tc.code)
				}
				if n := len(r.chain.found()); n != 1 {
					t.Errorf("%d solutions reached the chain", n)
				}
				wins := uint64(0)
				if tc.verdict == work.Accepted || tc.verdict == work.Held {
					wins = 1
				}
				if st := r.srv.Stats(); st.Total.Blocks != wins {
					t.Errorf("%d blocks counted, want %d", st.Total.Blocks, wins)
				}
			})
		})
	}
}

func TestBlockIsSubmittedOnceUnlessRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.chain.verdict, r.chain.err = work.Rejected, errors.New("disk full")
		r.publish(1, work.TargetFromDifficulty(startDifficulty))
		c := r.client()
		c.login("x")
		s := c.valid(c.job)
		c.call("mining.submit", s.params())
		r.chain.mu.Lock()
		r.chain.verdict, r.chain.err = work.Accepted, nil
		r.chain.mu.Unlock()
		if m := c.call("mining.submit", s.params()); string(m.Result) != "true" {
			t.Errorf("second attempt: %s", m.Error)
		}
		if m := c.call("mining.submit", s.params()); m.code() != 22 {
			t.Errorf("third attempt: %s %s", m.Result, m.Error)
		}
		if n := len(r.chain.found()); n != 2 {
			t.Errorf("the chain was asked %d times, want 2", n)
		}
	})
}

func TestVersionBitReadings(t *testing.T) {
	for name, tc := range map[string]struct {
		configure string
		bits      uint32
		sent      string
		code      int
	}{
		"value under the mask":       {`[["version-rolling"],{"version-rolling.mask":"1fffe000"}]`, 0x00abc000, "00abc000", 0},
		"whole version":              {`[["version-rolling"],{"version-rolling.mask":"1fffe000"}]`, 0x00abc000, "20abc000", 0},
		"not negotiated":             {"", 0x00abc000, "00abc000", 0},
		"BIP 323 bits":               {"", 0x00000020, "00000020", 0},
		"granted but absent":         {`[["version-rolling"],{"version-rolling.mask":"1fffe000"}]`, 0, "", 0},
		"null sixth parameter":       {"", 0, "null", 0},
		"outside the granted mask":   {`[["version-rolling"],{"version-rolling.mask":"00ffe000"}]`, 0x01000000, "01000000", 20},
		"outside the chain's mask":   {"", 0, "80000000", 20},
		"five version bits too deep": {"", 0, "00000010", 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				r.publish(1, hard)
				c := r.client()
				if tc.configure != "" {
					c.call("mining.configure", tc.configure)
				}
				c.login("x")
				s := c.solve(c.job, tc.bits, between(startDifficulty, 1e300))
				s.version = tc.sent
				params := strings.Replace(s.params(), `"null"`, "null", 1)
				if m := c.call("mining.submit", params); m.code() != tc.code {
					t.Errorf("answer %s %s, want code %d", m.Result, m.Error, tc.code)
				}
			})
		})
	}
}

// However a device applies set_difficulty (at once, with the next job, late),
// no share it honestly found is refused.
func TestNoRejectFromRetarget(t *testing.T) {
	const d = startDifficulty
	synctest.Test(t, func(t *testing.T) {
		cfg := easyConfig()
		r := startRig(t, cfg)
		defer r.stop()
		r.publish(1, hard)
		c := r.client()
		c.login("x")
		old := c.job
		c.call("mining.suggest_difficulty", fmt.Sprintf("[%v]", 4*d))
		raised := c.awaitJob()
		if raised.difficulty != 4*d || raised.ID == old.ID || raised.ntime <= old.ntime {
			t.Fatalf("after the retarget: %+v", raised)
		}
		accept := func(what string, s share, want float64) {
			t.Helper()
			before := r.srv.Stats().Total.Difficulty
			if m := c.call("mining.submit", s.params()); string(m.Result) != "true" {
				t.Errorf("%s: %s", what, m.Error)
			}
			if got := r.srv.Stats().Total.Difficulty - before; got != want {
				t.Errorf("%s: credited %v, want %v", what, got, want)
			}
		}
		accept("old job at its own difficulty", c.solve(old, 0, between(d, 4*d)), d)
		accept("new job by a device that is late", c.solve(raised, 0, between(d, 4*d)), d)
		accept("new job", c.solve(raised, 0, between(4*d, 1e300)), 4*d)
		c.call("mining.suggest_difficulty", fmt.Sprintf("[%v]", d/2))
		c.awaitJob()
		accept("old job at once at the new difficulty", c.solve(raised, 0, between(d/2, d)), d/2)
		c.call("mining.suggest_difficulty", fmt.Sprintf("[%v]", 4*d))
		latest := c.awaitJob()
		time.Sleep(3 * time.Minute) // fake clock: the grace is over
		if m := c.call("mining.submit", c.solve(latest, 0, between(d, 4*d)).params()); m.code() != 23 {
			t.Errorf("after the grace: %s %s", m.Result, m.Error)
		}
	})
}
