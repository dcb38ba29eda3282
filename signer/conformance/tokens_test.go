package conformance_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/tokentest"
)

var update = flag.Bool("update", false, "write the profiles of the tokens, and the table in docs/hsm.md")

// binary is qcity-p11, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "qcity-conformance-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "qcity-p11")
	if out, err := exec.Command("go", "build", "-o", binary, "qcitycoin.org/qcity/cmd/qcity-p11").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build qcity-p11: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// on is a Runner for the device.
func on(d *tokentest.Device) *conformance.Runner {
	return &conformance.Runner{Binary: binary, Module: d.Module, InitArgs: d.InitArgs, Env: d.Env}
}

// faults are what is known to be wrong with tokens, and stays recorded as FAIL:
// NSS makes an extractable copy of a key that is not, and tpm2-pkcs11 lets both
// attributes be rewritten (the TPM keeps the key all the same). openCryptoki's soft
// token has no mechanism for elliptic curves.
var faults = map[string][]int{"nss": {521}, "tpm2": {519, 520}, "opencryptoki": {501, 502, 503, 803}}

// TestTokens runs the whole suite on every token: no other case may fail, and each
// answer is the one in the token's profile. The tokens are made for the test and
// get one wrong PIN, followed by the right one.
func TestTokens(t *testing.T) {
	for name, setUp := range map[string]func(testing.TB) *tokentest.Device{
		"softhsm": tokentest.SoftHSM, "nss": tokentest.NSS, "p11-kit": tokentest.P11Kit, "tpm2": tokentest.TPM,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setUp(t)
			r := on(d)
			report, err := r.Probe(t.Context(), conformance.Options{Label: d.Label, PIN: []byte(tokentest.UserPIN), Scratch: true, WrongPIN: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Outcomes) != len(conformance.Cases()) {
				t.Errorf("%d outcomes for %d cases", len(report.Outcomes), len(conformance.Cases()))
			}
			for _, o := range report.Outcomes {
				if o.Result == conformance.Fail && slices.Contains(faults[name], o.Number) {
					continue
				}
				if o.Result == conformance.Fail || o.Result == conformance.Skipped {
					t.Errorf("%d %s: %s %s (%s)", o.Number, o.Name, o.Result, o.Value, o.Note)
				}
			}
			t.Logf("%v, %s, %v", report.Count(), report.Curve, report.Rates)
			compare(t, name, conformance.NewProfile(report))
			after, err := r.List(t.Context())
			after = slices.DeleteFunc(after, func(t conformance.Token) bool { return t.Label != d.Label })
			if err != nil || len(after) != 1 || after[0].PIN != "ok" {
				t.Errorf("afterwards: %+v, %v; want one token with its PIN in order", after, err)
			}
		})
	}
}

// TestOpenCryptoki runs what can be run on the soft token of Debian 12's
// openCryptoki, which makes no EC keys: modules, slots, sessions and logins.
func TestOpenCryptoki(t *testing.T) {
	version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "opencryptoki").Output()
	if err != nil {
		t.Fatalf("which opencryptoki is there? %v: type scripts/deps test", err)
	}
	t.Run("without keys", func(t *testing.T) {
		d := tokentest.OpenCryptoki(t)
		r := on(d)
		r.Binary = d.Binary(t, binary)
		report, err := r.Probe(t.Context(), conformance.Options{Label: d.Label, PIN: []byte(tokentest.UserPIN), WrongPIN: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(report.Count())
		for _, o := range report.Outcomes {
			if o.Result == conformance.Fail && !slices.Contains(faults["opencryptoki"], o.Number) {
				t.Errorf("%d %s: %s %s (%s)", o.Number, o.Name, o.Result, o.Value, o.Note)
			}
		}
		compare(t, "opencryptoki", conformance.NewProfile(report))
	})
	t.Run("with keys", func(t *testing.T) {
		t.Skipf("opencryptoki %s: the soft token of Debian 12's 3.8.1 has no elliptic curves", version)
	})
}

// compare holds a profile against the one that is kept. The rates are not
// compared: they belong to the machine.
func compare(t *testing.T, name string, now conformance.Profile) {
	t.Helper()
	now.PoolSize = 0
	if *update {
		if err := os.WriteFile(filepath.Join("profiles", name+".json"), now.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, ok := conformance.Profiles()[name]
	if !ok {
		t.Fatalf("there is no profile %s: write it with go test -run TestTokens ./signer/conformance -update", name)
	}
	if kept.Version != now.Version || kept.Firmware != now.Firmware {
		t.Logf("another version than in the profile: %s %s, profile %s %s", now.Version, now.Firmware, kept.Version, kept.Firmware)
		return
	}
	for _, line := range kept.Drift(now) {
		t.Error(line)
	}
}
