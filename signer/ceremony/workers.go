package ceremony

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"qcitycoin.org/qcity/internal/durable"
)

// A worker outlives a ceremony that is killed, until the call it is in has ended:
// cutting it short could damage the token. Its process id lies in the folder, so
// that the next run waits for it and does not look at a token that is changing.

const pidSuffix = ".worker"

func noteWorker(dir, module string, pid int) error {
	return durable.WriteFile(filepath.Join(dir, module+pidSuffix), []byte(strconv.Itoa(pid)+"\n"), 0o600)
}

func waitForWorkers(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"+pidSuffix))
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("%s holds no process id: remove it once no qcity-p11 runs any more", f)
		}
		if err := waitForWorker(ctx, pid); err != nil {
			return err
		}
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

func waitForWorker(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lingerLimit, errors.New("it does not end"))
	defer cancel()
	for isWorker(pid) {
		select {
		case <-ctx.Done():
			return failure(ErrTokenState, "the PKCS#11 worker of the interrupted run is still at work (process %d, %v): end it, then run the ceremony again", pid, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// isWorker looks at the process's name, as its number may be another's by now.
func isWorker(pid int) bool {
	name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil || !strings.HasPrefix(string(name), "qcity-p11") {
		return false
	}
	// A process that has ended and that nobody has waited for is called so still.
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, ok := strings.Cut(string(stat), ") ")
	return err == nil && ok && !strings.HasPrefix(rest, "Z")
}

// Environment returns variables of this process for a worker, as NAME=value. A
// worker must not depend on the rest of what a terminal happens to have set.
func Environment(names []string) []string {
	var out []string
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok {
			out = append(out, name+"="+value)
		}
	}
	return out
}
