package worker

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// climb counts the rungs of recovery one call has used up. Every class has a
// budget of one try per call; what is left after that is a new worker, and for
// ClassStop there is none. New workers have a second budget, Config.Budget, over
// all calls.
type climb struct{ spent [ClassRestart + 1]int }

// perCall is the budget of each class within one call.
const perCall = 1

// next returns the rung on which a failure of class c is to be dealt with, and
// whether the call may be made again after that.
func (c *climb) next(class Class) (rung Class, again bool) {
	if class != ClassStop && c.spent[class] >= perCall {
		class = ClassRestart
	}
	if class == ClassStop || c.spent[class] >= perCall {
		return class, false
	}
	c.spent[class]++
	return class, true
}

// class is Classify, with the vendor's codes as configured.
func (s *Supervisor) class(err error) Class {
	var vanished *vanishedError
	if errors.As(err, &vanished) {
		return ClassRestart
	}
	var e *Error
	if errors.As(err, &e) && e.Kind == ErrReturned {
		if class, ok := s.cfg.VendorCodes[e.RV]; ok {
			return class
		}
	}
	return Classify(err)
}

// ParseVendorCodes reads classes of a vendor's codes in text form, such as
// "0x80000005": "stop". The classes are re-find, new-session, restart and stop.
func ParseVendorCodes(text map[string]string) (map[RV]Class, error) {
	classes := map[string]Class{"re-find": ClassReFind, "new-session": ClassNewSession, "restart": ClassRestart, "stop": ClassStop}
	out := make(map[RV]Class)
	for code, name := range text {
		rv, err := strconv.ParseUint(code, 0, 64)
		if err != nil || RV(rv) < RVVendor {
			return nil, fmt.Errorf("%q is no code of a vendor: want 0x80000000 or higher", code)
		}
		class, ok := classes[name]
		if !ok {
			return nil, fmt.Errorf("%q: no class is called %q: use re-find, new-session, restart or stop", code, name)
		}
		out[RV(rv)] = class
	}
	return out, nil
}

func (s *Supervisor) spend(cause error) {
	now := time.Now()
	s.prune(now)
	s.failed = append(s.failed, now)
	if len(s.failed) > s.cfg.Budget.Restarts {
		s.setDown(cause)
	}
}

func (s *Supervisor) prune(now time.Time) {
	for len(s.failed) > 0 && now.Sub(s.failed[0]) >= s.cfg.Budget.Window {
		s.failed = s.failed[1:]
	}
}

// A module that does not start, most often because its device is away, costs
// no budget: nothing was logged in to. It is tried again after a pause that
// is short where a try is cheap, so that a device that returns is used within
// a second, and that keeps the tries to a sixth of the time where it is not.
const (
	shortestPause = 200 * time.Millisecond
	longestPause  = 30 * time.Second
)

func pauseAfter(took time.Duration) time.Duration {
	return min(max(5*took, shortestPause), longestPause)
}

// startFailed books a start that failed after it took this long. The first of a
// row may be followed by another at once, as any call may have one new worker.
func (s *Supervisor) startFailed(cause error, took time.Duration) {
	s.startFails++
	if s.startFails < 2 {
		return
	}
	s.nextStart = time.Now().Add(pauseAfter(took))
	s.setDown(cause)
}

// allowed refuses a start while the budget is used up or a pause lasts. As old
// failures leave the window single starts become possible again; Down stays set
// until one of them leads to a success.
func (s *Supervisor) allowed(now time.Time) error {
	if s.usedUp(now) {
		wait := s.cfg.Budget.Window - now.Sub(s.failed[0])
		return newError(ErrDown, "the HSM is down: %d worker failures within %s, next try in %s or after a reset; last failure: %v",
			len(s.failed), s.cfg.Budget.Window, wait.Round(time.Second), s.isDown())
	}
	if s.startFails >= 2 && now.Before(s.nextStart) {
		return newError(ErrDown, "the HSM is down: its PKCS#11 module does not start, which is tried again by itself; last failure: %v", s.isDown())
	}
	return nil
}

func (s *Supervisor) usedUp(now time.Time) bool {
	s.prune(now)
	return len(s.failed) > s.cfg.Budget.Restarts
}

func (s *Supervisor) isDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *Supervisor) setDown(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cause != nil && s.down == nil {
		s.cfg.Log.Error("HSM down: the PKCS#11 worker keeps failing", "cause", cause)
	}
	if cause == nil && s.down != nil {
		s.cfg.Log.Info("HSM is up again")
	}
	s.down = cause
	s.status.Down = cause != nil
}
