// Package faultmodule is a PKCS#11 module for tests that misbehaves on order. It
// stands between the worker and a real module and can do what devices and their
// libraries do on bad days: return any code, hang, crash, be slow, spoil a
// signature, mix up handles, or fail after having done the work. It can do harm
// only; no order makes a failing call succeed.
package faultmodule

import (
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/worker"
)

//go:embed module/fault.c module/fault.h
var source embed.FS

// Build compiles the module with cc into tb's directory and returns its path.
func Build(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, name := range []string{"fault.c", "fault.h"} {
		text, err := source.ReadFile("module/" + name)
		if err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	out := filepath.Join(dir, "fault.so")
	cc := exec.Command("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", out, filepath.Join(dir, "fault.c"), "-ldl")
	if msg, err := cc.CombinedOutput(); err != nil {
		tb.Fatalf("building the fault module: %v\n%s", err, msg)
	}
	return out
}

// Action is what the module does wrong.
type Action struct{ name, arg string }

// The actions. Those on a signature are for C_Sign only.
var (
	// Hang never returns.
	Hang = Action{"hang", "-"}
	// Segfault and Abort end the process.
	Segfault = Action{"crash", "segv"}
	Abort    = Action{"crash", "abort"}
	// Zero makes the signature all zeros, Swap exchanges r and s.
	Zero = Action{"zero", "-"}
	Swap = Action{"swap", "-"}
	// Stale makes C_OpenSession and C_FindObjects hand out the first handle they
	// ever gave in this process, and C_SignInit sign with the first key it saw.
	Stale = Action{"stale", "-"}
)

// Return returns a code without doing the work.
func Return(rv worker.RV) Action { return Action{"rv", fmt.Sprintf("%x", uint64(rv))} }

// FailAfter does the work and then returns a code.
func FailAfter(rv worker.RV) Action { return Action{"after", fmt.Sprintf("%x", uint64(rv))} }

// Delay waits so many milliseconds and then does the work.
func Delay(ms int) Action { return Action{"delay", fmt.Sprint(ms)} }

// Flip changes one bit of the signature, counted from its first.
func Flip(bit int) Action { return Action{"flip", fmt.Sprint(bit)} }

// Truncate cuts the signature to so many bytes.
func Truncate(n int) Action { return Action{"truncate", fmt.Sprint(n)} }

// Control gives orders to every process that has its environment.
type Control struct {
	tb     testing.TB
	path   string
	module string
}

// NewControl returns a Control without orders for the real module at path.
func NewControl(tb testing.TB, module string) *Control {
	tb.Helper()
	return &Control{tb: tb, path: filepath.Join(tb.TempDir(), "orders"), module: module}
}

// Env is what a process that loads the module needs in its environment.
func (c *Control) Env() []string {
	return []string{"QCITY_FAULT_MODULE=" + c.module, "QCITY_FAULT_CONTROL=" + c.path}
}

// Order makes the n-th call of function from now on, 1 being the next one, go
// wrong, and replaces all earlier orders.
func (c *Control) Order(function string, n int, a Action) {
	c.tb.Helper()
	at := c.Calls(function) + uint64(n)
	c.write(fmt.Sprintf("%s %d %d %s %s\n", function, at, at, a.name, a.arg))
}

// Always makes every call of function go wrong until the next order.
func (c *Control) Always(function string, a Action) {
	c.tb.Helper()
	c.write(fmt.Sprintf("%s 1 %d %s %s\n", function, uint64(math.MaxInt64), a.name, a.arg))
}

// Clear takes all orders back.
func (c *Control) Clear() {
	c.tb.Helper()
	c.write("")
}

func (c *Control) write(orders string) {
	c.tb.Helper()
	for _, line := range strings.Split(strings.TrimSpace(orders), "\n") {
		if name, _, _ := strings.Cut(line, " "); line != "" && !slices.Contains(Functions, name) {
			c.tb.Fatalf("there is no PKCS#11 function %q", name)
		}
	}
	if err := os.WriteFile(c.path+".new", []byte(orders), 0o600); err != nil {
		c.tb.Fatal(err)
	}
	// Renaming changes the orders in one step.
	if err := os.Rename(c.path+".new", c.path); err != nil {
		c.tb.Fatal(err)
	}
}

// Calls is how often function was called so far, by all processes.
func (c *Control) Calls(function string) uint64 { return c.count(function, 0) }

// Faults is how many of these calls went wrong by order.
func (c *Control) Faults(function string) uint64 { return c.count(function, 8) }

func (c *Control) count(function string, offset int) uint64 {
	c.tb.Helper()
	i := slices.Index(Functions, function)
	if i < 0 {
		c.tb.Fatalf("there is no PKCS#11 function %q", function)
	}
	state, err := os.ReadFile(c.path + ".state")
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(state) == 0 {
		return 0
	}
	if err != nil {
		c.tb.Fatal(err)
	}
	return binary.NativeEndian.Uint64(state[16*i+offset:])
}

// Functions are the functions of PKCS#11 v2.40 in the order of its
// CK_FUNCTION_LIST.
var Functions = functions()

// functions reads the names out of the header, so that there is one list.
func functions() []string {
	text, err := source.ReadFile("module/fault.h")
	if err != nil {
		panic(err) // embedded above
	}
	var names []string
	for _, part := range strings.Split(string(text), "X(")[1:] {
		number, rest, _ := strings.Cut(part, ", ")
		name, _, ok := strings.Cut(rest, ")")
		if ok && number == fmt.Sprint(len(names)) {
			names = append(names, name)
		}
	}
	return names
}
