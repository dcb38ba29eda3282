package conformance_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/faultmodule"
	"qcitycoin.org/qcity/signer/tokentest"
)

// TestDocument: docs/hsm.md says what the table and the profiles say.
func TestDocument(t *testing.T) {
	const file = "../../docs/hsm.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, part := range map[string]string{"cases": conformance.Markdown(), "profiles": conformance.ProfilesMarkdown()} {
		head, rest, ok := strings.Cut(want, "<!-- "+name+" -->\n")
		_, tail, ok2 := strings.Cut(rest, "<!-- end of "+name+" -->")
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the %s", file, name)
		}
		want = head + "<!-- " + name + " -->\n" + part + "\n<!-- end of " + name + " -->" + tail
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the table says: go test -run TestDocument ./signer/conformance -update", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sample() conformance.Profile {
	return conformance.NewProfile(&conformance.Report{
		Token: conformance.Token{Label: "x", Serial: "1", Manufacturer: "m", Model: "n", Firmware: "1.2", Module: "lib", Version: "3.4"},
		Curve: "p256",
		Outcomes: []conformance.Outcome{
			{Number: 101, Name: "a", Result: conformance.Pass, Value: "CKR_OK", Note: "left out"},
			{Number: 303, Name: "b", Result: conformance.NotAnswered, Value: "<&>"},
			{Number: 701, Name: "c", Result: conformance.Skipped},
			{Number: 906, Name: "d", Result: conformance.Pass, Value: "varies"},
		},
		Rates: []conformance.Rate{{Sessions: 1, PerSecond: 100}, {Sessions: 2, PerSecond: 125}, {Sessions: 4, PerSecond: 140}},
	})
}

func TestProfile(t *testing.T) {
	p := sample()
	if len(p.Cases) != 2 || p.Cases[0].Note != "" || p.PoolSize != 2 {
		t.Errorf("profile %+v: want two cases without notes and a pool of 2", p)
	}
	again, err := conformance.ParseProfile(p.Encode())
	if err != nil || again.Hash() != p.Hash() {
		t.Errorf("read back: %v, %v", again, err)
	}
	const golden = "{\n \"format\": 1,\n \"manufacturer\": \"m\",\n \"model\": \"n\",\n \"firmware\": \"1.2\",\n \"module\": \"lib\",\n \"version\": \"3.4\",\n \"curve\": \"p256\",\n \"poolSize\": 2,\n \"cases\": [\n  {\n   \"number\": 101,\n   \"name\": \"a\",\n   \"result\": \"PASS\",\n   \"value\": \"CKR_OK\"\n  },\n  {\n   \"number\": 303,\n   \"name\": \"b\",\n   \"result\": \"NOT ANSWERED\",\n   \"value\": \"<&>\"\n  }\n ]\n}\n"
	if got := string(p.Encode()); got != golden {
		t.Errorf("encoded as %s", got)
	}
	if _, err := conformance.ParseProfile(append(p.Encode(), ' ')); err == nil {
		t.Error("an edited profile was read")
	}
	if d := p.Drift(p); d != nil {
		t.Errorf("drift against itself: %q", d)
	}
	now := sample()
	now.Firmware, now.Cases[1].Result = "1.3", conformance.Pass
	if d := p.Drift(now); len(d) != 2 || !strings.Contains(d[0], "firmware") || !strings.Contains(d[1], "303") {
		t.Errorf("drift %q, want firmware and case 303", d)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(sample().Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := conformance.ParseProfile(b); err == nil && string(p.Encode()) != string(b) {
			t.Errorf("%q is read, but written as %q", b, p.Encode())
		}
	})
}

// TestBadModule: a module that crashes or hangs costs the case at hand, and a refused PIN
// ends all logins.
func TestBadModule(t *testing.T) {
	for _, tc := range []struct {
		name, function string
		action         faultmodule.Action
		failed         int // the case that FAILs
		value          string
		logins         uint64 // at most; 0: any number
	}{
		{"crash", "C_GetSessionInfo", faultmodule.Segfault, 106, "process died", 0},
		{"hang", "C_CloseAllSessions", faultmodule.Hang, 310, "hangs", 0},
		{"crash in a login", "C_Login", faultmodule.Segfault, 221, "process died", 1},
		{"PIN refused", "C_Login", faultmodule.Return(0xa0), 221, "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := tokentest.SoftHSM(t)
			r := on(d)
			c := faultmodule.NewControl(t, d.Module)
			r.Module, r.Env = faultmodule.Build(t), append(d.Env, c.Env()...)
			if tc.name == "hang" {
				r.Limit = 5 * time.Second // a healthy case takes milliseconds
			}
			c.Order(tc.function, 1, tc.action)
			report, err := r.Probe(t.Context(), conformance.Options{Label: d.Label, PIN: []byte(tokentest.UserPIN)})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Outcomes) != len(conformance.Cases()) {
				t.Errorf("%d outcomes", len(report.Outcomes))
			}
			failed := slices.DeleteFunc(report.Outcomes, func(o conformance.Outcome) bool { return o.Result != conformance.Fail })
			if len(failed) != 1 || failed[0].Number != tc.failed || tc.value != "" && failed[0].Value != tc.value {
				t.Errorf("failed: %+v, want case %d %s", failed, tc.failed, tc.value)
			}
			if n := c.Calls("C_Login"); tc.logins > 0 && n > tc.logins {
				t.Errorf("%d logins reached the token, want %d", n, tc.logins)
			}
		})
	}
}
