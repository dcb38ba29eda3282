package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/signer/audit"
)

// full is a disk that has no room from the call number at on: for that one call,
// or until there is room again; before the call did anything, or after it did all.
type full struct {
	at, n   int
	lasting bool
	after   bool
	short   int
	hit     []string // what failed, file and call
}

func (f *full) fault(op durabletest.Op, name string) *durabletest.Fault {
	switch op {
	case durabletest.Remove, durabletest.Open, durabletest.Truncate: // they need no room
		return nil
	}
	f.n++
	if f.n < f.at || f.n > f.at && !f.lasting {
		return nil
	}
	f.hit = append(f.hit, name+" "+string(op))
	return &durabletest.Fault{Err: syscall.ENOSPC, After: f.after, Short: f.short}
}

func fullDisks(at int) []*full {
	return []*full{{at: at}, {at: at, short: 40}, {at: at, after: true}, {at: at, lasting: true, short: 40}}
}

// saysWhatToDo: the words of whoever reads the log of a signer without room.
func saysWhatToDo(err error) bool {
	return strings.Contains(err.Error(), "free some space") || strings.Contains(err.Error(), "start the signer again")
}

// TestFullDisk fills the disk at every call of a signer's life, for journal, mark,
// audit log and halt. Nothing comes out that is not sealed and booked; who asked is
// told what to do; and with room again the same request is answered, by the same
// process unless an fsync failed, after which nobody knows what the file holds.
func TestFullDisk(t *testing.T) {
	went, ended := make(map[string]int), make(map[string]int)
	stride := 1
	if raced {
		stride = 7
	}
	for at := 1; ; at += stride {
		hit := false
		for _, f := range fullDisks(at) {
			c := newCampaigner(t, 1)
			c.token.before = nil
			c.options.FileSize = 900 // the log goes on in a new file
			c.disk.Fault = f.fault
			if err := c.fullLife(f, went, ended); err != nil {
				t.Fatalf("call %d, %+v: %v", at, f, err)
			}
			if err := c.check(t.Context()); err != nil {
				t.Fatalf("call %d, %+v: %v", at, f, err)
			}
			hit = hit || len(f.hit) > 0
			c.stop()
		}
		if !hit {
			break
		}
	}
	for _, what := range slices.Sorted(maps.Keys(ended)) {
		if op := durabletest.Op(what[strings.LastIndex(what, " ")+1:]); op != durabletest.Sync {
			t.Errorf("%d signers ended at %s, after which it is known what the file holds", ended[what], what)
		}
	}
	t.Logf("went on after %v; had to be started again after %v", went, ended)
	for _, want := range []string{"j write", "j sync", "a write", "a sync", "j.mark.tmp write", "a.2 create", "h.tmp write", "h.tmp sync", "h rename"} {
		if went[want]+ended[want] == 0 && !raced {
			t.Errorf("the disk was never full at %s", want)
		}
	}
}

// fullLife starts a signer, has it do all it does, and finds room after each
// failure.
func (c *campaigner) fullLife(f *full, went, ended map[string]int) error {
	room := func() { c.disk.Fault = nil }
	if err := c.start(); err != nil {
		if !saysWhatToDo(err) || IsTerminal(err) {
			return fmt.Errorf("starting: %w", err)
		}
		room()
		c.disk = c.disk.Kill() // its locks
		if err := c.start(); err != nil {
			return fmt.Errorf("starting with room: %w", err)
		}
		went[f.hit[0]]++
	}
	if err := c.service.Seen(context.Background(), SeenRequest{}); err != nil {
		return err
	}
	e := c.voting()
	steps := []func() *asked{
		func() *asked { return c.askBlock(c.block(testSlot, 0, 1)) },
		func() *asked { return c.askVote(e.ballot(e.at(0, 0), testSlot, 1, 1)) },
		func() *asked { return c.askSet(c.successor(1, 2, 0)) },
		func() *asked { return c.list[0] }, // a repeat
		func() *asked { return c.askBlock(c.block(2*testSlot, 1, 1)) },
	}
	for i, step := range steps {
		before := len(f.hit)
		a := c.expect(step())
		r, err := a.ask(c.service)
		if err == nil {
			if err := c.released(a, r); err != nil {
				return err
			}
			if len(f.hit) > before && !c.ended() {
				went[f.hit[before]]++
			}
		} else if !errors.Is(err, ErrInternal) || !saysWhatToDo(err) {
			return fmt.Errorf("step %d: %w", i, err)
		} else if !c.ended() {
			went[f.hit[before]]++
		}
		if len(f.hit) == before {
			continue
		}
		room()
		if c.ended() {
			ended[f.hit[before]]++
			c.stop()
			if err := c.start(); err != nil {
				return fmt.Errorf("step %d: starting again: %w", i, err)
			}
			if err := c.service.Seen(context.Background(), c.seen(c.keys)); err != nil {
				return err
			}
		}
		if r, err = a.ask(c.service); err != nil {
			return fmt.Errorf("step %d, with room: %w", i, err)
		}
		if err := c.released(a, r); err != nil {
			return err
		}
	}
	return c.fullHalt(f, went)
}

// fullHalt: a halt holds at once, room or not, and is written as soon as there is.
func (c *campaigner) fullHalt(f *full, went map[string]int) error {
	before := len(f.hit)
	err := c.service.Halt(context.Background(), "kim", "inspection")
	if _, refused := c.list[0].ask(c.service); !errors.Is(refused, RuleHalted) {
		return fmt.Errorf("halted, and: %w", refused)
	}
	if err != nil {
		if !saysWhatToDo(err) {
			return err
		}
		went[f.hit[before]]++
		c.disk.Fault = nil
		if err := c.service.Halt(context.Background(), "kim", "inspection"); err != nil {
			return fmt.Errorf("with room: %w", err)
		}
	}
	c.disk.Fault = nil
	c.disk = c.disk.Crash(c.rng)
	if err := c.start(); err != nil {
		return err
	}
	if c.service.brake.state() == nil {
		return errors.New("an acknowledged halt is gone")
	}
	before = len(f.hit)
	c.disk.Fault = f.fault
	for _, name := range []string{"kim", "lee"} {
		if _, err = c.service.Resume(context.Background(), name); err != nil {
			break
		}
	}
	c.disk.Fault = nil
	if err != nil {
		if _, refused := c.list[0].ask(c.service); !errors.Is(refused, RuleHalted) || !saysWhatToDo(err) {
			return fmt.Errorf("not resumed, and: %w, %w", refused, err)
		}
		went[f.hit[before]]++
		if _, err = c.service.Resume(context.Background(), "lee"); err != nil {
			return err
		}
	}
	// Only the entry in the audit log can have failed after that.
	if c.ended() {
		c.stop()
		if err := c.start(); err != nil {
			return err
		}
	}
	return c.service.Seen(context.Background(), c.seen(c.keys))
}

// TestFullDiskAtCreation: what found no room is made once there is.
func TestFullDiskAtCreation(t *testing.T) {
	keys := testKeys()
	for at := 1; ; at++ {
		hit := false
		for _, f := range fullDisks(at) {
			disk := durabletest.New()
			o := audit.Options{FS: disk}
			create := func() (journal, log error) {
				return createJournal(on(disk), diskJournal, testNet, publics(keys), 0), audit.Create(diskAudit, testNet, o)
			}
			disk.Fault = f.fault
			for _, err := range errs(create()) {
				if err != nil && !saysWhatToDo(err) {
					t.Fatalf("call %d: %v", at, err)
				}
			}
			disk.Fault = nil
			for _, err := range errs(create()) {
				if err != nil && !errors.Is(err, fs.ErrExist) {
					t.Fatalf("call %d, with room: %v", at, err)
				}
			}
			if _, err := openJournal(on(disk), diskJournal, testNet, publics(keys)); err != nil {
				t.Fatalf("call %d: %v", at, err)
			}
			if _, err := audit.Open(diskAudit, testNet, o); err != nil {
				t.Fatalf("call %d: %v", at, err)
			}
			hit = hit || len(f.hit) > 0
		}
		if !hit {
			if at < 8 {
				t.Fatalf("only %d calls", at)
			}
			return
		}
	}
}

func errs(list ...error) []error { return list }

// TestFullDiskForPINs: a PIN that cannot be written down first is not shown, and
// is shown, once, when there is room; the signer lives all the while.
func TestFullDiskForPINs(t *testing.T) {
	for at := 1; ; at++ {
		hit := false
		for _, f := range fullDisks(at) {
			hsm, tk := fakeTokens(t, nil)
			disk := durabletest.New()
			tk.ledger.path = pinsFile
			tk.ledger.read = func(path string) ([]byte, error) { return durable.ReadFileOn(disk, path) }
			tk.ledger.write = func(path string, data []byte, perm fs.FileMode) error {
				return durable.WriteFileOn(disk, path, data, perm)
			}
			disk.Fault = f.fault
			err := tk.prepare(t.Context())
			if reason := errors.Join(err, tk.Ready(hsm.key.public)); reason != nil && (!saysWhatToDo(reason) || IsTerminal(reason)) {
				t.Fatalf("call %d: %v", at, reason)
			}
			if hsm.logins > 0 && !strings.Contains(string(disk.Content(pinsFile)), `"t"`) {
				t.Fatalf("call %d: a PIN was shown, the file has %s", at, disk.Content(pinsFile))
			}
			disk.Fault = nil
			if err := tk.prepare(t.Context()); err != nil || tk.Ready(hsm.key.public) != nil {
				t.Fatalf("call %d, with room: %v, %v", at, err, tk.Ready(hsm.key.public))
			}
			// The token may have been shown the PIN twice: it had accepted it.
			if hsm.logins > 2 || !strings.Contains(string(disk.Content(pinsFile)), string(loginAccepted)) {
				t.Fatalf("call %d: %d logins, the file has %s", at, hsm.logins, disk.Content(pinsFile))
			}
			hit = hit || len(f.hit) > 0
		}
		if !hit {
			if at < 4 {
				t.Fatalf("only %d calls", at)
			}
			return
		}
	}
}
