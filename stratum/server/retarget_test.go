package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
	"qcitycoin.org/qcity/stratum"
)

// slowDevice is a miner behind a slow network: what the server says reaches it
// later, and its shares are on their way for a while, too.
type slowDevice struct {
	*client
	down, up time.Duration
	applies  int // when it takes a new difficulty: see the constants
	coming   []delayed
	going    []delayed
	working  float64 // the difficulty it works at now
	told     float64 // the last one it heard of
	toldAt   time.Time
	heard    []notify
	ids      int
}

type delayed struct {
	at   time.Time
	m    message
	line string
}

// When devices apply mining.set_difficulty.
const (
	atOnce = iota
	withTheNextJob
	tooLate // half a minute after
	policies
)

// listen takes what the server has said by now, and digests what has arrived.
func (d *slowDevice) listen() {
	for len(d.lines) > 0 {
		d.coming = append(d.coming, delayed{at: time.Now().Add(d.down), m: <-d.lines})
	}
	for len(d.coming) > 0 && !d.coming[0].at.After(time.Now()) {
		m := d.coming[0].m
		d.coming = d.coming[1:]
		d.take(m)
		switch m.Method {
		case "mining.set_difficulty":
			d.told, d.toldAt = d.diff, time.Now()
			if d.applies == atOnce || d.working == 0 {
				d.working = d.told
			}
		case "mining.notify":
			d.heard = append(d.heard, d.job)
			if d.applies == withTheNextJob {
				d.working = d.told
			}
		case "":
			if len(m.Error) > 0 {
				d.t.Errorf("a request was refused: %s %s", m.ID, m.Error)
			}
		}
	}
	if d.applies == tooLate && time.Since(d.toldAt) > 30*time.Second {
		d.working = d.told
	}
}

// later sends a line when it has been on its way long enough.
func (d *slowDevice) later(line string) {
	d.going = append(d.going, delayed{at: time.Now().Add(d.up), line: line})
}

func (d *slowDevice) deliver() {
	for len(d.going) > 0 && !d.going[0].at.After(time.Now()) {
		d.send(d.going[0].line)
		d.going = d.going[1:]
		synctest.Wait()
	}
}

func (d *slowDevice) request(method, params string) {
	d.ids++
	d.later(fmt.Sprintf(`{"id":%d,"method":%q,"params":%s}`, d.ids, method, params))
}

// Whatever the order in which difficulties, jobs and shares pass each other on
// a network with up to five seconds of delay each way, however a device applies
// a difficulty, and however it asks for one, no share that it honestly found is
// refused.
func TestNoShareIsRefusedBecauseOfARetarget(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func(t *testing.T) {
			cfg := easyConfig()
			cfg.Difficulty.Min, cfg.Difficulty.Max, cfg.Difficulty.Start = startDifficulty/256, startDifficulty/2, startDifficulty/16
			r := startRig(t, cfg)
			defer r.stop()
			r.publish(1, hard)
			seconds := func(most int, what string) time.Duration {
				return time.Duration(rapid.IntRange(0, most*10).Draw(rt, what)) * 100 * time.Millisecond
			}
			d := &slowDevice{
				client: r.client(), down: seconds(5, "down"), up: seconds(5, "up"),
				applies: rapid.IntRange(0, policies-1).Draw(rt, "applies"),
			}
			d.subscribe(`["x"]`)
			d.ids = 1000
			d.request("mining.authorize", `["w"]`)
			for range rapid.IntRange(5, 25).Draw(rt, "steps") {
				time.Sleep(seconds(3, "pause"))
				synctest.Wait()
				d.deliver()
				d.listen()
				wish := startDifficulty / float64(rapid.IntRange(1, 256).Draw(rt, "wish"))
				text := string(stratum.AppendDifficulty(nil, wish))
				switch rapid.IntRange(0, 11).Draw(rt, "event") {
				case 0:
					r.publish(1, hard)
					synctest.Wait()
				case 1:
					d.request("mining.suggest_difficulty", "["+text+"]")
				case 2:
					d.request("mining.suggest_difficulty", `["`+text+`"]`)
				case 3:
					d.request("mining.suggest_difficulty("+text+")", "[]")
				case 4:
					target := stratum.ShareTarget(wish, [32]byte{})
					d.request("mining.suggest_target", fmt.Sprintf(`["%x"]`, target[:]))
				case 5:
					d.request("mining.configure", fmt.Sprintf(`[["minimum-difficulty"],{"minimum-difficulty.value":%s}]`, text))
				case 6:
					name := rapid.SampledFrom([]string{"d", "diff", "md"}).Draw(rt, "password")
					d.request("mining.authorize", fmt.Sprintf(`["w","%s=%s"]`, name, text))
				default:
					if len(d.heard) > 0 && d.working > 0 { // a share of one of its last two jobs
						n := d.heard[max(0, len(d.heard)-1-rapid.IntRange(0, 1).Draw(rt, "back"))]
						work := d.working
						if d.applies == withTheNextJob { // each job has its own
							work = n.difficulty
						}
						d.request("mining.submit", d.solve(n, 0, between(work, 1e300)).params())
					}
				}
			}
			for range 12 { // everything arrives
				time.Sleep(time.Second)
				synctest.Wait()
				d.deliver()
				d.listen()
			}
			if st := r.srv.Stats().Total; st.Refused() != 0 {
				rt.Fatalf("refused: %v", st.Rejected)
			}
			_ = d.conn.Close()
		})
	})
}

// inBubble runs f in virtual time, for rapid, whose panics belong into the
// goroutine that it called.
func inBubble(t *testing.T, f func(*testing.T)) {
	var failed any
	synctest.Test(t, func(t *testing.T) {
		defer func() { failed = recover() }()
		f(t)
	})
	if failed != nil {
		panic(failed)
	}
}

// FuzzSession lets two clients say anything. Whatever that is, each request is
// answered once, with its own id, everything that is said is JSON, and what the
// server remembers of a client stays bounded.
func FuzzSession(f *testing.F) {
	for _, s := range transcriptLines(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		b := newBench(t, hard)
		there := b.second(t)
		for i, line := range strings.Split(script, "\n") {
			ses := b.ses
			if i%3 == 2 {
				ses = there
			}
			// As the line reader would have it.
			line = strings.Trim(line, " \t\r")
			if line == "" || line[0] == 0x16 || len(line) >= stratum.DefaultLineLimit || strings.HasPrefix(line, "GET ") {
				continue
			}
			junk := ses.junk
			err := ses.line([]byte(line))
			ses.mu.Lock()
			if ses.jobDue {
				ses.compose(time.Now())
			}
			var out []byte
			if ses.out != nil {
				out = append(out, *ses.out...)
				*ses.out = (*ses.out)[:0]
			}
			if len(ses.workers) > maxSessionIDs || len(ses.jobs.jobs) > b.ses.srv.cfg.KeepJobs || len(ses.past) > maxPastTargets+1 ||
				len(ses.lapsed) > maxLapsed || cap(ses.why) > 4096 || len(ses.agent) > 4*maxAgent || len(ses.info) > 20*maxAgent {
				t.Fatalf("after %q it remembers too much", line)
			}
			ses.mu.Unlock()
			checkAnswers(t, line, string(out), ses.junk > junk)
			if err != nil {
				return // the connection ends
			}
		}
	})
}

// checkAnswers checks what was said after a line.
func checkAnswers(t *testing.T, line, out string, junk bool) {
	var q struct {
		ID     json.RawMessage `json:"id"`
		Method *string         `json:"method"`
	}
	answers := 0
	for said := range strings.Lines(out) {
		var m message
		if err := json.Unmarshal([]byte(said), &m); err != nil || !strings.HasSuffix(said, "\n") {
			t.Fatalf("after %q it said %q, %v", line, said, err)
		}
		if m.Method != "" {
			continue
		}
		answers++
		if !junk && json.Unmarshal([]byte(line), &q) == nil && q.ID != nil && !strings.Contains(line, string(m.ID)) {
			t.Fatalf("%q was answered with id %s", line, m.ID)
		}
		if (m.Result == nil || string(m.Result) == "null") == (len(m.Error) == 0) {
			t.Fatalf("%q was answered with %s: neither result nor error, or both", line, said)
		}
	}
	request := !junk && json.Unmarshal([]byte(line), &q) == nil && q.Method != nil && *q.Method != ""
	if request && answers != 1 || answers > 1 {
		t.Fatalf("%q has %d answers: %q", line, answers, out)
	}
}

// FuzzParams sends each method anything as its parameters, before and after the
// session is ready.
func FuzzParams(f *testing.F) {
	methods := []string{
		"mining.subscribe", "mining.authorize", "mining.configure", "mining.submit", "mining.extranonce.subscribe", "mining.suggest_difficulty",
		"mining.suggest_difficulty(1)", "mining.suggest_target", "mining.get_transactions", "mining.multi_version", "mining.ping", "client.ping", "x",
	}
	for i := range methods {
		for _, p := range []string{
			`[]`, `{}`, `null`, `[null]`, `["x","deadbeef"]`, `["w","d=8,md=4"]`, `["1e400"]`, `[-0.5]`, `[["info"],{"info.hw-id":"` + strings.Repeat("i", 200) + `"}]`,
			`[["version-rolling","minimum-difficulty","subscribe-extranonce",""],{"version-rolling.mask":"zz","minimum-difficulty.value":"1e3"}]`,
			`["` + strings.Repeat("f", 64) + `"]`, `["w","1","00","00","00","00","00","00","00","00"]`,
		} {
			f.Add(uint8(i), p)
		}
	}
	f.Fuzz(func(t *testing.T, method uint8, params string) {
		if strings.ContainsAny(params, "\r\n") || !json.Valid([]byte(params)) {
			t.Skip()
		}
		b := newBench(t, hard)
		line := fmt.Sprintf(`{"id":"f1","method":%q,"params":%s}`, methods[int(method)%len(methods)], params)
		for _, ses := range []*session{b.ses, b.second(t)} {
			junk := ses.junk
			_ = ses.line([]byte(line))
			ses.mu.Lock()
			out := ""
			if ses.out != nil {
				out = string(*ses.out)
			}
			ses.mu.Unlock()
			checkAnswers(t, line, out, ses.junk > junk)
		}
	})
}

// transcriptLines returns what the devices in testdata say, a conversation each.
func transcriptLines(t testing.TB) (scripts []string) {
	for _, text := range transcripts(t) {
		var said []string
		for line := range strings.Lines(text) {
			if _, words, ok := strings.Cut(line, "> "); ok && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "<") {
				said = append(said, strings.TrimSpace(words))
			}
		}
		scripts = append(scripts, strings.Join(said, "\n"))
	}
	slices.Sort(scripts)
	return scripts
}
