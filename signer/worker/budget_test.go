package worker

import (
	"errors"
	"log/slog"
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
