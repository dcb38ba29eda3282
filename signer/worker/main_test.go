package worker_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// The test binary plays three parts: the tests, a worker that breaks the
// protocol (fake_test.go), and a daemon that can be killed (daemonMain).
const (
	envFake   = "QCITY_TEST_FAKE_WORKER"
	envDaemon = "QCITY_TEST_DAEMON"
)

var buildDir string // set once by TestMain

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envFake) != "":
		os.Exit(fakeMain(os.Getenv(envFake)))
	case os.Getenv(envDaemon) != "":
		os.Exit(daemonMain())
	}
	dir, err := os.MkdirTemp("", "qcity-worker-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// workerBinary is the real worker, built once.
var workerBinary = sync.OnceValues(func() (string, error) {
	return build("qcity-p11", "go", "build", "-o", "", "qcitycoin.org/qcity/cmd/qcity-p11")
})

// shimModule is the fault-injecting PKCS#11 module, built once.
var shimModule = sync.OnceValues(func() (string, error) {
	return build("shim.so", "gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", "", "../pkcs11/testdata/shim.c", "-ldl")
})

// build runs a command with its empty argument replaced by the output path.
func build(name string, args ...string) (string, error) {
	out := filepath.Join(buildDir, name)
	for i, a := range args {
		if a == "" {
			args[i] = out
		}
	}
	if msg, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, msg)
	}
	return out, nil
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func softHSM(t testing.TB) string { return must[string](t)(worker.SoftHSMModule()) }

const userPIN, soPIN = "user-pin-4711", "so-pin-0815"

// generous is a deadline that only something that hangs for ever misses.
const generous = 2 * time.Minute

func logger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// bench is a SoftHSM of its own with a configuration for a Supervisor on it.
type bench struct {
	cfg    worker.Config
	tokens string // token directory
	fault  string // order to the shim; see shim.c
	logins string // one byte per C_Login
	tried  string // what the shim tried, and with what result
}

func newBench(t testing.TB) *bench {
	dir := t.TempDir()
	b := &bench{tokens: filepath.Join(dir, "tokens"), fault: filepath.Join(dir, "fault"), logins: filepath.Join(dir, "logins"), tried: filepath.Join(dir, "tried")}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(b.tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(b.tokens)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.cfg = worker.Config{
		Binary: must[string](t)(workerBinary()),
		Module: softHSM(t),
		Env:    []string{"SOFTHSM2_CONF=" + conf, "SHIM_MODULE=" + softHSM(t), "SHIM_FAULT=" + b.fault, "SHIM_LOGINS=" + b.logins, "SHIM_TRIED=" + b.tried},
		Log:    logger(t),
		// No test may fail because the machine is slow.
		Timeouts: worker.Timeouts{Start: generous, Call: generous, Login: generous, SetUp: generous, Pad: generous},
	}
	return b
}

// withShim puts the shim between the worker and SoftHSM.
func (b *bench) withShim(t testing.TB) *bench {
	b.cfg.Module = must[string](t)(shimModule())
	return b
}

func (b *bench) order(t testing.TB, fault string) {
	t.Helper()
	if err := os.WriteFile(b.fault+".new", []byte(fault+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.fault+".new", b.fault); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) loginCount(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile(b.logins)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(data)
}

func (b *bench) start(t testing.TB) *worker.Supervisor { return start(t, b.cfg) }

func start(t testing.TB, cfg worker.Config) *worker.Supervisor {
	t.Helper()
	s := must[*worker.Supervisor](t)(worker.New(cfg))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// makeKey makes a token with one key through s, and leaves it logged in.
func makeKey(t testing.TB, s *worker.Supervisor, label string, alg worker.Algorithm) worker.KeyRef {
	t.Helper()
	ctx := context.Background()
	token := must[worker.TokenInfo](t)(s.InitToken(ctx, label, []byte(soPIN), []byte(userPIN)))
	if err := s.Login(ctx, token.TokenRef, []byte(userPIN)); err != nil {
		t.Fatal(err)
	}
	key := must[worker.Key](t)(s.GenerateKey(ctx, token.TokenRef, alg, label+" key", []byte{1}))
	return worker.KeyRef{Token: token.TokenRef, Algorithm: key.Algorithm, PublicKey: key.PublicKey}
}

// ready is a Supervisor, through the shim, logged in to one token with one key.
func ready(t testing.TB, change func(*worker.Config)) (*bench, *worker.Supervisor, worker.KeyRef) {
	t.Helper()
	b := newBench(t).withShim(t)
	if change != nil {
		change(&b.cfg)
	}
	s := b.start(t)
	return b, s, makeKey(t, s, "validator", worker.Secp256k1)
}

func digest(parts ...any) [32]byte { return sha256.Sum256(fmt.Append(nil, parts...)) }

// checkSignature verifies what Sign returned, and that its s is low.
func checkSignature(t testing.TB, key worker.KeyRef, d [32]byte, sig worker.Signature) {
	t.Helper()
	again, err := worker.CheckSignature(key.Algorithm, key.PublicKey, d, sig[:])
	if err != nil {
		t.Error(err)
	} else if again != sig {
		t.Errorf("signature %x has a high s", sig)
	}
}
