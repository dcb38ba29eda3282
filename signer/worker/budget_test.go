package worker

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetWindow: when the budget is used up no worker is started until the
// oldest failure leaves the window; Down stays until a success.
func TestBudgetWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Binary: "b", Module: "m", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		allowed := func() error { return s.allowed(time.Now()) }
		for range 3 {
			s.spend(ErrLost)
			if err := allowed(); err != nil {
				t.Fatalf("refused within the budget: %v", err)
			}
			<-time.After(10 * time.Second)
		}
		s.spend(ErrLost) // 30 s after the first
		if err := allowed(); !errors.Is(err, ErrDown) || !s.Status().Down {
			t.Fatalf("got %v, status %+v, want %s", err, s.Status(), ErrDown)
		}
		<-time.After(30*time.Second - 1)
		if err := allowed(); !errors.Is(err, ErrDown) {
			t.Fatalf("just before the window ends: got %v, want %s", err, ErrDown)
		}
		<-time.After(1)
		if err := allowed(); err != nil || !s.Status().Down {
			t.Fatalf("when the window ends: got %v, down %t, want a try while still down", err, s.Status().Down)
		}
		s.setDown(nil)
		if s.Status().Down {
			t.Fatal("down after a success")
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{Binary: "b", Module: "m", Log: slog.New(slog.DiscardHandler)}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no binary":           func(c *Config) { c.Binary = "" },
		"no module":           func(c *Config) { c.Module = "" },
		"no logger":           func(c *Config) { c.Log = nil },
		"copy without source": func(c *Config) { c.PrivateTokenCopy = &PrivateTokenCopy{Dir: "d"} },
		"copy without dir":    func(c *Config) { c.PrivateTokenCopy = &PrivateTokenCopy{Source: "s"} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if _, err := New(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestLackingLimits: each limit that the system does not offer is one line, however
// often the worker starts.
func TestLackingLimits(t *testing.T) {
	var log bytes.Buffer
	for range 3 {
		logLacking(slog.New(slog.NewTextHandler(&log, nil)), "of a test's", errors.New("not implemented"))
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "of a test's") || !strings.Contains(text, "not implemented") {
		t.Errorf("logged: %s", text)
	}
}

// TestClimb: each class has one try, then a new worker has one, then it is over.
func TestClimb(t *testing.T) {
	for _, tc := range []struct {
		name     string
		failures []Class
		want     string // a letter for each: the rung, in capitals if the call is made again
	}{
		{"stop", []Class{ClassStop}, "s"},
		{"re-find twice", []Class{ClassReFind, ClassReFind, ClassReFind}, "FWw"},
		{"new session twice", []Class{ClassNewSession, ClassNewSession, ClassNewSession}, "NWw"},
		{"all", []Class{ClassReFind, ClassNewSession, ClassRestart, ClassReFind}, "FNWw"},
		{"restart", []Class{ClassRestart, ClassRestart}, "Ww"},
		{"a new worker, then an old handle", []Class{ClassRestart, ClassReFind, ClassStop}, "WFs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c climb
			var got string
			for _, class := range tc.failures {
				rung, again := c.next(class)
				letter := map[Class]string{ClassStop: "s", ClassReFind: "f", ClassNewSession: "n", ClassRestart: "w"}[rung]
				if again {
					letter = strings.ToUpper(letter)
				}
				got += letter
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestStartPause: a module that does not start is tried again at once, once, and
// then after a pause that suits what a try costs. That costs no budget.
func TestStartPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Binary: "b", Module: "m", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		allowed := func() error { return s.allowed(time.Now()) }
		s.startFailed(ErrLost, time.Second)
		if err := allowed(); err != nil || s.Status().Down {
			t.Fatalf("after one failure: %v, status %+v", err, s.Status())
		}
		for range 100 { // many more than the budget
			s.startFailed(ErrLost, time.Second)
			if err := allowed(); !errors.Is(err, ErrDown) || !s.Status().Down {
				t.Fatalf("got %v, want %s", err, ErrDown)
			}
			<-time.After(5*time.Second - 1)
			if err := allowed(); !errors.Is(err, ErrDown) {
				t.Fatalf("just before the pause ends: %v", err)
			}
			<-time.After(1)
			if err := allowed(); err != nil {
				t.Fatalf("when the pause ends: %v", err)
			}
		}
	})
}
