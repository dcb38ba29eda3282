package server

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

func TestNobodyHearsNothingFor25Seconds(t *testing.T) {
	for name, withJob := range map[string]bool{"with a job": true, "without a job": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := easyConfig()
				cfg.Difficulty.Min = startDifficulty // so that vardiff is silent too
				r := startRig(t, cfg)
				defer r.stop()
				if withJob {
					r.publish(1, hard)
				}
				c := r.client()
				c.subscribe(`[]`)
				c.call("mining.authorize", `["w"]`)
				last := time.Now()
				var previous notify
				for range 20 {
					m := <-c.lines
					c.take(m)
					if gap := time.Since(last); gap > 25*time.Second {
						t.Errorf("%v of silence", gap)
					}
					last = time.Now()
					if m.Method == "mining.notify" {
						if previous.ID != "" && (c.job.ntime <= previous.ntime || c.job.clean || c.job.coinb1 != previous.coinb1) {
							t.Errorf("refreshed job %+v after %+v", c.job, previous)
						}
						previous = c.job
					}
				}
				if (len(c.jobs) > 0) != withJob {
					t.Errorf("%d jobs", len(c.jobs))
				}
			})
		})
	}
}

func TestStalledClientDelaysNobodyAndIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		stalled := r.dial()
		if _, err := io.WriteString(stalled, `{"id":1,"method":"mining.subscribe","params":[]}`+"\n"+
			`{"id":2,"method":"mining.authorize","params":["lazy","x"]}`+"\n"); err != nil {
			t.Fatal(err)
		}
		c := r.client()
		c.login("x")
		start := time.Now()
		for i := range byte(100) {
			r.publish(i+2, hard)
			c.awaitJob()
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the reading client waited %v (fake clock) for the stalled one", waited)
		}
		if n := r.srv.Stats().Connections; n != 2 {
			t.Fatalf("%d connections before the deadline", n)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if st := r.srv.Stats(); st.Connections != 1 || st.Sessions[0].Workers[0] != "w" {
			t.Errorf("connections after the deadline: %+v", st.Sessions)
		}
	})
}

// A slow client that reads again gets the newest job only, not the history.
func TestSlowClientGetsOnlyTheNewestJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		conn := r.dial()
		_, _ = io.WriteString(conn, `{"id":1,"method":"mining.subscribe","params":[]}`+"\n"+
			`{"id":2,"method":"mining.authorize","params":["slow","x"]}`+"\n")
		// It reads its first job, so that what is under way when it stops is a job.
		in := bufio.NewReader(conn)
		for line := ""; !strings.Contains(line, "mining.notify\",\"params\""); {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var newest *work.Job
		for i := range byte(50) {
			newest = r.publish(i+2, hard)
			synctest.Wait()
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		all, _ := io.ReadAll(in)
		jobs := strings.Count(string(all), "mining.notify\",\"params\"")
		if jobs != 2 {
			t.Errorf("%d jobs were queued, want the one under way and the newest", jobs)
		}
		var m message
		lines := strings.Split(strings.TrimSpace(string(all)), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &m); err != nil || !strings.Contains(string(m.Params[2]), fmt.Sprintf("%x", newest.CoinbasePrefix)) {
			t.Errorf("last line %s, %v", lines[len(lines)-1], err)
		}
	})
}

func TestFloodWithoutReadingIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		conn := r.dial()
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		line := `{"id":"` + strings.Repeat("x", 900) + `","method":"mining.ping"}` + "\n"
		sent := 0
		for {
			n, err := io.WriteString(conn, line)
			sent += n
			if err != nil {
				break
			}
		}
		if sent > 64<<10 {
			t.Errorf("the server took %d bytes of requests whose answers nobody reads", sent)
		}
	})
}

func TestResumeOnlyWhenFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, easyConfig())
		defer r.stop()
		r.publish(1, hard)
		a := r.client()
		a.login("x")
		late := a.valid(a.job)
		b := r.client()
		b.subscribe(fmt.Sprintf(`["t",%q]`, a.e1))
		if b.e1 == a.e1 {
			t.Fatal("two live sessions share an extranonce1")
		}
		_ = a.conn.Close()
		synctest.Wait()
		c := r.client()
		c.subscribe(fmt.Sprintf(`["t",%q]`, a.e1))
		if c.e1 != a.e1 {
			t.Fatalf("resumed as %s, was %s", c.e1, a.e1)
		}
		c.call("mining.authorize", `["w","x"]`)
		if job := c.awaitJob(); !job.clean {
			t.Error("the first job of a connection is not clean")
		}
		if m := c.call("mining.submit", late.params()); string(m.Result) != "true" {
			t.Errorf("a share found before the interruption: %s", m.Error)
		}
		for _, id := range []string{`"00000000"`, `"zzzzzzzz"`, `null`, `"12"`, `7`} {
			d := r.client()
			d.subscribe(`["t",` + id + `]`)
			if binary.BigEndian.Uint32(unhex(t, d.e1)) == 0 || d.e1 == a.e1 {
				t.Errorf("session id %s gave extranonce1 %s", id, d.e1)
			}
		}
	})
}

// Better transactions wait until a device has had its job for a while, another
// parent does not.
func TestUpdatesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := easyConfig()
		cfg.UpdateInterval = 10 * time.Second
		r := startRig(t, cfg)
		defer r.stop()
		r.publish(1, hard)
		c := r.client()
		c.login(fmt.Sprintf("d=%v", startDifficulty)) // no retarget sends a job
		start := time.Now()
		for range 3 {
			time.Sleep(time.Second)
			r.publish(1, hard)
		}
		if job := c.awaitJob(); time.Since(start) < 9*time.Second || time.Since(start) > 11*time.Second || job.clean || job.coinb1 != "01020304" {
			t.Errorf("after %v: %+v", time.Since(start), job)
		}
		start = time.Now()
		r.publish(2, hard)
		if job := c.awaitJob(); time.Since(start) != 0 || !job.clean {
			t.Errorf("another parent: after %v, %+v", time.Since(start), job)
		}
	})
}
