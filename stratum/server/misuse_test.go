package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/stratum"
)

// rest reads until the server hangs up and returns what it said, by method;
// answers count as "" and refusals as "error".
func (c *client) rest() map[string]int {
	heard := map[string]int{}
	for m := range c.lines {
		c.take(m)
		if len(m.Error) > 0 {
			m.Method = "error"
		}
		heard[m.Method]++
	}
	return heard
}

func TestFloodIsClosedAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		c := r.client()
		go func() {
			for range 3000 {
				if _, err := c.conn.Write([]byte(`{"id":1,"method":"mining.ping"}` + "\n")); err != nil {
					return
				}
			}
		}()
		if heard := c.rest(); heard[""] != 2000 || heard["error"] != 1 {
			t.Errorf("heard %v", heard)
		}
		again := r.client() // nobody is banned
		if m := again.call("mining.ping", "[]"); string(m.Result) != `"pong"` {
			t.Errorf("after the flood: %s", m.Error)
		}
		if st := r.srv.Stats(); st.Misuse.Floods != 1 {
			t.Errorf("counted %+v", st.Misuse)
		}
	})
}

// Twenty messages a second are no flood, and who has good shares may have as
// many bad ones: a proxy of ten thousand miners at a block change.
func TestProxyIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		s := &session{srv: r.srv}
		for range 3600 {
			time.Sleep(time.Second)
			for range 20 {
				if !s.spend(time.Now()) {
					t.Fatal("20 messages a second are called a flood")
				}
			}
		}
		for range 100_000 {
			s.earn()
			if !s.spend(time.Now()) {
				t.Fatal("as many bad shares as good ones are called a flood")
			}
		}
	})
}

func TestInvalidShareLadder(t *testing.T) {
	for name, tc := range map[string]struct {
		params func(*client) string
		good   bool // a good share now and then
		want   MisuseStats
	}{
		"low difficulty": {
			params: func(c *client) string { return c.solve(c.job, 0, between(0, startDifficulty/64)).params() },
			want:   MisuseStats{InvalidWarned: 1, InvalidResent: 1, InvalidReconnected: 1, InvalidDropped: 1},
		},
		"malformed": {
			params: func(*client) string { return `["w"]` },
			want:   MisuseStats{InvalidWarned: 1, InvalidResent: 1, InvalidReconnected: 1, InvalidDropped: 1},
		},
		"another worker's are good": {
			params: func(*client) string { return `["w"]` },
			good:   true,
		},
		"stale": {params: func(c *client) string { return c.valid(c.jobs[0]).params() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := easyConfig()
				cfg.Difficulty.Max, cfg.Difficulty.Min = startDifficulty, startDifficulty
				r := startRig(t, cfg)
				defer r.stop()
				r.publish(1, hard)
				c := r.client()
				c.login("x")
				r.publish(2, hard)
				c.awaitJob()
				heard := map[string]int{}
				sent := 0
				params := tc.params(c) // the same one is as bad again
				for closed := false; !closed && sent < 60; sent++ {
					time.Sleep(5 * time.Second)
					line := fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":%s}`+"\n", sent, params)
					if tc.good && sent%8 == 7 {
						line += fmt.Sprintf(`{"id":"good","method":"mining.submit","params":%s}`+"\n", c.valid(c.job).params())
					}
					if _, err := c.conn.Write([]byte(line)); err != nil {
						break
					}
					synctest.Wait()
					for more := true; more; {
						select {
						case m, open := <-c.lines:
							if !open {
								more, closed = false, true
								break
							}
							c.take(m)
							heard[m.Method]++
						default:
							more = false
						}
					}
				}
				got := r.srv.Stats().Misuse
				if got != tc.want {
					t.Errorf("counted %+v", got)
				}
				if dropped := sent < 60; dropped != (tc.want.InvalidDropped > 0) {
					t.Errorf("%d shares went in", sent)
				}
				if heard["client.show_message"] != int(tc.want.InvalidWarned) || heard["client.reconnect"] != int(tc.want.InvalidReconnected) {
					t.Errorf("heard %v", heard)
				}
				again := r.client() // nobody is banned
				again.login("x")
			})
		})
	}
}

func TestMisuseIsCounted(t *testing.T) {
	for name, tc := range map[string]struct {
		send string
		wait time.Duration
		want MisuseStats
	}{
		"junk":              {strings.Repeat("junk\n", 5), 0, MisuseStats{JunkLines: 5, JunkClosed: 1}},
		"long line":         {strings.Repeat("x", 9000), 0, MisuseStats{LongLines: 1}},
		"nothing":           {"", time.Minute, MisuseStats{NeverStarted: 1}},
		"no authorize":      {`{"id":1,"method":"mining.subscribe"}` + "\n", 11 * time.Minute, MisuseStats{NeverStarted: 1}},
		"half a line":       {`{"id":1,"method":"mining.subscribe"}` + "\n{", 2 * time.Minute, MisuseStats{SlowLines: 1}},
		"one byte a minute": {`{"id":1,"method":"mining.subscribe"}` + "\n", 3 * time.Minute, MisuseStats{SlowLines: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				c := r.client()
				go func() {
					_, _ = c.conn.Write([]byte(tc.send))
					if strings.HasPrefix(name, "one byte") {
						for range 100 {
							if _, err := c.conn.Write([]byte("x")); err != nil {
								return
							}
							time.Sleep(time.Minute)
						}
					}
				}()
				time.Sleep(tc.wait)
				c.rest()
				if got := r.srv.Stats().Misuse; got != tc.want {
					t.Errorf("counted %+v", got)
				}
			})
		})
	}
}

func TestStalledClientIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		conn := r.dial()
		_, _ = conn.Write([]byte(`{"id":1,"method":"mining.ping"}` + "\n")) // and nobody reads the answer
		time.Sleep(time.Minute)
		if got := r.srv.Stats().Misuse; got.StalledWrites != 1 {
			t.Errorf("counted %+v", got)
		}
	})
}

// Two connections that name the same session do not take it from each other for ever.
func TestTakeoverHappensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		a := r.client()
		a.login("d=1")
		go func() {
			for range a.lines {
			}
		}()
		id := a.e1
		for i := range 3 {
			time.Sleep(10 * time.Second)
			b := r.clientFrom(fmt.Sprintf("192.0.2.1:%d", 2000+i))
			b.subscribe(fmt.Sprintf(`["x",%q]`, id))
			if taken := b.e1 == id; taken != (i == 0) {
				t.Errorf("connection %d: taken over %v", i, taken)
			}
			go func() {
				for range b.lines {
				}
			}()
		}
		if got := r.srv.Stats().Misuse.Takeovers; got != 1 {
			t.Errorf("%d taken over", got)
		}
	})
}

// The place of a session that was taken over goes to the new connection and to
// nobody else, whichever of the two ends first.
func TestTakenPlaceIsParkedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		a := r.client()
		a.login2()
		time.Sleep(6 * time.Second)
		b := r.client()
		b.subscribe(fmt.Sprintf(`["x",%q]`, a.e1))
		a.rest() // it is closed
		synctest.Wait()
		if len(r.srv.prefixes.live) != 1 || len(r.srv.prefixes.parked) != 0 {
			t.Errorf("%d live, %d parked", len(r.srv.prefixes.live), len(r.srv.prefixes.parked))
		}
		_ = b.conn.Close()
		synctest.Wait()
		if len(r.srv.prefixes.live) != 0 || len(r.srv.prefixes.parked) != 1 {
			t.Errorf("at the end %d live, %d parked", len(r.srv.prefixes.live), len(r.srv.prefixes.parked))
		}
	})
}

// login2 is login while there is no job.
func (c *client) login2() {
	c.subscribe(`["x"]`)
	c.call("mining.authorize", `["w","d=1"]`)
}

func TestClientWithoutAgentIsAskedOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		agent string
		asked bool
	}{"no agent": {`[]`, true}, "agent": {`["x/1"]`, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, easyConfig())
				defer r.stop()
				r.publish(1, hard)
				c := r.client()
				c.subscribe(tc.agent)
				c.call("mining.authorize", `["w"]`)
				job := c.awaitJob()
				asked := 0
				for i := range 3 {
					c.send(fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":%s}`, 100+i, c.valid(job).params()))
					synctest.Wait()
					for len(c.lines) > 0 {
						m := <-c.lines
						c.take(m)
						if m.Method == "client.get_version" {
							asked++
							c.send(`{"id":` + string(m.ID) + `,"result":"cgminer/9.9\u0007","error":null}`)
						}
					}
				}
				synctest.Wait()
				agent := r.srv.Stats().Sessions[0].UserAgent
				if (asked == 1) != tc.asked || asked > 1 || (agent == "cgminer/9.9?") != tc.asked {
					t.Errorf("asked %d times, agent %q", asked, agent)
				}
			})
		})
	}
}

// A device that hangs up over the question is not asked again, whatever it is.
func TestShyClientIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		for i, remote := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"} {
			c := r.clientFrom(remote)
			c.subscribe(`[]`)
			c.call("mining.authorize", `["w"]`)
			c.call("mining.submit", c.valid(c.awaitJob()).params())
			synctest.Wait()
			asked := false
			for len(c.lines) > 0 {
				asked = asked || (<-c.lines).Method == "client.get_version"
			}
			if want := i != 1; asked != want {
				t.Errorf("%s: asked %v", remote, asked)
			}
			_ = c.conn.Close()
			synctest.Wait()
		}
	})
}

func TestMessagesFromTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		a, b, half := r.client(), r.client(), r.client()
		a.login("x")
		b.subscribe(`["other/1"]`)
		b.call("mining.authorize", `["w2"]`)
		b.awaitJob()
		half.subscribe(`["test/1"]`)
		if n := r.srv.Message("hello\n", nil); n != 2 {
			t.Errorf("the message went to %d", n)
		}
		if n := r.srv.Reconnect(func(s SessionStats) bool { return s.UserAgent == "other/1" }); n != 1 {
			t.Errorf("%d were asked to reconnect", n)
		}
		synctest.Wait()
		heard := func(c *client) (methods []string) {
			for len(c.lines) > 0 {
				m := <-c.lines
				methods = append(methods, m.Method+strings.Join(raw(m.Params), ","))
			}
			return methods
		}
		if got := heard(a); fmt.Sprint(got) != `[client.show_message"hello?"]` {
			t.Errorf("a heard %v", got)
		}
		if got := heard(b); fmt.Sprint(got) != `[client.show_message"hello?" client.reconnect]` {
			t.Errorf("b heard %v", got)
		}
	})
}

func raw(params []json.RawMessage) (text []string) {
	for _, p := range params {
		text = append(text, string(p))
	}
	return text
}

func TestDeviceInfoIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		c := r.client()
		c.call("mining.configure", `[["info"],{"info.hw-version":"S21\u001b","info.sw-version":"1.2","info.other":"x","info.hw-id":7}]`)
		c.subscribe(`["Antminer S21/1"]`)
		st := r.srv.Stats().Sessions[0]
		if st.Info != "hw-version=S21? sw-version=1.2" || st.Class != "asic" {
			t.Errorf("%+v", st)
		}
	})
}

func TestOperatorsDevicesComeFirst(t *testing.T) {
	own := []stratum.Device{{Agent: "bitaxe", Class: "mine", Start: 7}, {Agent: "", Class: "rest"}}
	for agent, want := range map[string]string{"Bitaxe/BM1370": "mine", "NiceHash/1.0.0": "rest", "": "rest"} {
		if d, ok := stratum.DeviceOf(agent, own); !ok || d.Class != want {
			t.Errorf("%s is %+v", agent, d)
		}
	}
	for agent, want := range map[string]string{"NerdNOS/1": "hobby", "nerdminerv2/1.8": "lottery", "cgminer/4.11": "asic", "nobody": ""} {
		if d, _ := stratum.DeviceOf(agent, nil); d.Class != want {
			t.Errorf("%s is %+v", agent, d)
		}
	}
}
