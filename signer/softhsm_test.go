package signer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/worker"
)

// buildDir is where the worker is built; TestMain sets and removes it.
var buildDir string

var workerBinary = sync.OnceValues(func() (string, error) {
	return build("qcity-p11", "go", "build", "-o", "OUT", "qcitycoin.org/qcity/cmd/qcity-p11")
})

// shimModule passes calls on to SoftHSM and counts the logins.
var shimModule = sync.OnceValues(func() (string, error) {
	return build("shim.so", "gcc", "-shared", "-fPIC", "-o", "OUT", "pkcs11/testdata/shim.c", "-ldl")
})

func build(name string, args ...string) (string, error) {
	out := filepath.Join(buildDir, name)
	for i, a := range args {
		if a == "OUT" {
			args[i] = out
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, msg)
	}
	return out, nil
}

func need[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func TestSoftHSM(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1, types.P256)
	v.found(t)
	b := &bench{network: v.network}
	c, stop := v.start(t)
	first := make(map[*consensus.Proposal]Response)
	for i := range 6 {
		p := v.proposal(uint32(i+1)*testSlot, uint8(i%2), 1)
		r, err := c.SignSlot(patience(t), NewRequest(p))
		if err != nil {
			t.Fatal(err)
		}
		b.checkSignature(t, p, r)
		first[p] = r
	}
	_, err := c.SignSlot(patience(t), NewRequest(v.proposal(testSlot, 0, 2)))
	wantRule(t, err, RuleDoubleSign)
	st, err := c.Status(patience(t))
	if err != nil || len(st.Keys) != 2 || !st.Keys[0].Ready || !st.Keys[1].Ready || st.Signed != 6 {
		t.Fatalf("status %+v, %v", st, err)
	}
	stop()

	c, stop = v.start(t)
	defer stop()
	for p, want := range first {
		r, err := c.SignSlot(patience(t), NewRequest(p))
		if err != nil || !r.Repeated || !bytes.Equal(r.Signature, want.Signature) {
			t.Fatalf("after a restart: %+v, %v", r, err)
		}
	}
}

// TestSoftHSMWrongPIN starts a signer twice with a wrong PIN: the token sees it
// once. Corrected, it starts, and nothing is held against it any more.
func TestSoftHSMWrongPIN(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1)
	v.found(t)
	open := func(pin string) error {
		v.pin(t, pin)
		d, err := Open(patience(t), v.config, v.network, quiet())
		if err == nil {
			err = d.close()
		}
		return err
	}
	err := open("wrong-one")
	if !IsTerminal(err) || !errors.Is(err, worker.ErrPINIncorrect) || !strings.Contains(err.Error(), v.dir+"/pin") || v.logins(t) != 1 {
		t.Fatalf("first start: %d logins, %v", v.logins(t), err)
	}
	err = open("wrong-one")
	if !IsTerminal(err) || !strings.Contains(err.Error(), v.dir+"/pin") || v.logins(t) != 1 {
		t.Fatalf("second start: %d logins, %v", v.logins(t), err)
	}
	if err := open("wrong-two"); !IsTerminal(err) || v.logins(t) != 2 {
		t.Fatalf("another wrong PIN: %d logins, %v", v.logins(t), err)
	}
	if err := open(vaultPIN); err != nil || v.logins(t) != 3 {
		t.Fatalf("right PIN: %d logins, %v", v.logins(t), err)
	}
	l := newPINLedger(v.dir + "/" + pinsFile)
	if err := l.load(); err != nil || len(l.pins.Refused) != 0 || len(l.pins.Logins) != 1 || l.pins.Logins[0].State != loginAccepted {
		t.Fatalf("still held against the token: %+v, %v", l.pins, err)
	}
}

// TestSoftHSMLoginCutOff ends the worker in the middle of a login. With a PIN
// that the token never accepted a person must touch the file; with one it did
// accept the signer starts all the same.
func TestSoftHSMLoginCutOff(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1)
	v.found(t)
	open := func() error {
		d, err := Open(patience(t), v.config, v.network, quiet())
		if err == nil {
			err = d.close()
		}
		return err
	}
	v.order(t, "C_Login crash -")
	for _, start := range []string{"cut off", "next start"} {
		if err := open(); !IsTerminal(err) || !strings.Contains(err.Error(), "touch "+v.dir+"/pin") || v.logins(t) != 1 {
			t.Fatalf("%s: %d logins, %v", start, v.logins(t), err)
		}
	}
	touch(t, v.dir+"/pin")
	if err := open(); err != nil || v.logins(t) != 2 {
		t.Fatalf("touched: %d logins, %v", v.logins(t), err)
	}
	v.order(t, "C_Login crash -")
	if err := open(); err != nil || v.logins(t) != 4 {
		t.Fatalf("cut off with an accepted PIN: %d logins, %v", v.logins(t), err)
	}
}

// TestSoftHSMPINChangedMeanwhile: the worker logs in again by itself and is
// refused. That one login is all the token sees, also after a restart.
func TestSoftHSMPINChangedMeanwhile(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1)
	v.found(t)
	d := need[*Daemon](t)(Open(patience(t), v.config, v.network, quiet()))
	v.order(t, "C_Login always A0") // CKR_PIN_INCORRECT
	if err := syscall.Kill(d.worker.Status().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	key := v.config.Keys[0].PublicKey
	if _, err := d.tokens.Sign(patience(t), key, [32]byte{1}); !errors.Is(err, worker.ErrPINIncorrect) || !IsTerminal(d.tokens.Ready(key)) {
		t.Fatalf("%v, %v", err, d.tokens.Ready(key))
	}
	if err := d.close(); err != nil || v.logins(t) != 2 {
		t.Fatalf("%d logins, %v", v.logins(t), err)
	}
	if _, err := Open(patience(t), v.config, v.network, quiet()); !IsTerminal(err) || !strings.Contains(err.Error(), "was refused") || v.logins(t) != 2 {
		t.Fatalf("next start: %d logins, %v", v.logins(t), err)
	}
}

// TestSoftHSMMissingToken: only the key of the token that is away cannot sign.
func TestSoftHSMMissingToken(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1, types.P256)
	v.config.Keys[0].TokenSerial = "0000000000000000"
	v.found(t)
	c, stop := v.start(t)
	defer stop()
	st, err := c.Status(patience(t))
	if err != nil || st.Keys[0].Ready || !strings.Contains(st.Keys[0].Error, "token-0") || !st.Keys[1].Ready {
		t.Fatalf("status %+v, %v", st, err)
	}
	if _, err := c.SignSlot(patience(t), NewRequest(v.proposal(testSlot, 0, 1))); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if _, err := c.SignSlot(patience(t), NewRequest(v.proposal(testSlot, 1, 1))); err != nil {
		t.Fatal(err)
	}
}

func TestSoftHSMMissingKey(t *testing.T) {
	for name, spoil := range map[string]func(*KeyConfig){
		"no such key":   func(k *KeyConfig) { k.PublicKey = newSoftKey(types.P256, 200).public },
		"another label": func(k *KeyConfig) { k.KeyLabel = "key-of-someone-else" },
	} {
		v := newVault(t)
		v.generate(t, types.Secp256k1)
		spoil(&v.config.Keys[0])
		v.found(t)
		_, err := Open(patience(t), v.config, v.network, quiet())
		if !IsTerminal(err) || !strings.Contains(err.Error(), v.config.Keys[0].PublicKey.String()) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestSoftHSMImportedKey: a key that was outside the token once is refused,
// unless it is allowed.
func TestSoftHSMImportedKey(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.Secp256k1)
	secret := need[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := need[[]byte](t)(x509.MarshalPKCS8PrivateKey(secret))
	file := v.dir + "/key.pem"
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("softhsm2-util", "--import", file, "--token", "token-0", "--label", "imported", "--id", "02", "--pin", vaultPIN)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+v.conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util (install the package softhsm2): %v\n%s", err, out)
	}
	point := elliptic.MarshalCompressed(elliptic.P256(), secret.X, secret.Y)
	k := &v.config.Keys[0]
	k.PublicKey, k.KeyLabel = need[types.PublicKey](t)(types.NewPublicKey(types.P256, point)), "imported"
	v.found(t)
	_, err := Open(patience(t), v.config, v.network, quiet())
	if !IsTerminal(err) || !errors.Is(err, worker.ErrKeyUnprotected) || !strings.Contains(err.Error(), "allow_extractable") {
		t.Fatalf("refused: %v", err)
	}
	k.AllowExtractable = true
	c, stop := v.start(t)
	defer stop()
	p := v.proposal(testSlot, 0, 1)
	r, err := c.SignSlot(patience(t), NewRequest(p))
	if err != nil {
		t.Fatal(err)
	}
	(&bench{network: v.network}).checkSignature(t, p, r)
}

// TestSoftHSMOnACopy: the devnet's way leaves the original token alone.
func TestSoftHSMOnACopy(t *testing.T) {
	v := newVault(t)
	v.generate(t, types.P256)
	v.config.SoftHSMCopy = v.dir + "/tokens"
	v.found(t)
	c, stop := v.start(t)
	if _, err := c.SignSlot(patience(t), NewRequest(v.proposal(testSlot, 0, 1))); err != nil {
		t.Fatal(err)
	}
	stop()
	left, err := filepath.Glob(v.dir + "/token-copies/*")
	if err != nil || len(left) != 0 {
		t.Fatalf("copies of keys left behind: %v, %v", left, err)
	}
}

// BenchmarkSignSlot measures the whole path of a new block, with the fsyncs of
// claim, seal and audit entry: BenchmarkBareSign in package pkcs11 is the part of
// it that the token takes. Each block carries the newest end of the audit log, as a
// node's does; asking for that is not counted.
func BenchmarkSignSlot(b *testing.B) {
	b.Run("software", func(b *testing.B) {
		x := newBench(b)
		x.now = time.Now()
		x.token.keys = map[types.PublicKey]softKey{x.keys[0].public: x.keys[0]}
		measure(b, x.network, func() audit.Head { return testHead }, x.sign)
	})
	for _, a := range []types.KeyAlgorithm{types.Secp256k1, types.P256} {
		b.Run("SoftHSM and socket "+a.String(), func(b *testing.B) {
			v := newVault(b)
			v.generate(b, a)
			v.found(b)
			c, stop := v.start(b)
			defer stop()
			end := func() audit.Head {
				st := need[Status](b)(c.Status(context.Background()))
				return audit.Head{Seq: st.Audit.Seq, Hash: st.Audit.Head}
			}
			measure(b, v.network, end, func(p *consensus.Proposal) (Response, error) {
				return c.SignSlot(context.Background(), NewRequest(p))
			})
		})
	}
}

func measure(b *testing.B, n *consensus.Network, end func() audit.Head, sign func(*consensus.Proposal) (Response, error)) {
	b.Helper()
	var took []time.Duration
	height := uint32(0)
	for b.Loop() {
		height += testSlot
		p := remade(proposal(n, height, 0, uint32(time.Now().Unix())-100, 1), func(p *consensus.Proposal) { p.CoinOnline.Outputs[2] = anchorOutput(end()) })
		start := time.Now()
		if _, err := sign(p); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	reportPercentiles(b, took)
}

func reportPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
