package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/worker"
)

// TestHSM lists and probes a SoftHSM token as an operator would.
func TestHSM(t *testing.T) {
	dir := t.TempDir()
	p11 := filepath.Join(bin, "qcity-p11")
	tokens, conf := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(tokens)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "one", "--pin", "1234567", "--so-pin", "7654321").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pin, profile := filepath.Join(dir, "pin"), filepath.Join(dir, "profile.json")
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	for file, mode := range map[string]os.FileMode{pin: 0o444, right: 0o400, wrong: 0o400} {
		text := "1234567\n"
		if file == wrong {
			text = "7654321\n"
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(args ...string) (string, error) {
		var out bytes.Buffer
		root := newRoot()
		root.SetArgs(append([]string{"hsm"}, append(args, "--worker", p11)...))
		root.SetOut(&out)
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	for _, step := range []struct {
		args    []string
		wantErr string
		want    []string
	}{
		{[]string{"list"}, "", []string{"SECP256K1", "one", "SoftHSM v2", "ok"}},
		{[]string{"list", "--json"}, "", []string{`"label": "one"`, `"pin": "ok"`}},
		{[]string{"probe", "--pin", "file:" + pin}, "chmod 400", nil},
		{[]string{"probe", "--scratch"}, "--pin", nil},
		{[]string{"probe", "--pin", "1234567"}, "no source of a PIN", nil},
		{[]string{"probe", "--token", "two"}, "qcity hsm list", nil},
		{[]string{"list", "--module", "/nowhere.so"}, "install the HSM's library", nil},
		{[]string{"probe", "--profile", profile, "--pin", "file:" + wrong}, "no profile was written", nil},
		{[]string{"probe", "--pin", "file:" + right}, "1 cases failed", nil}, // the token remembers the wrong one until then
		{[]string{"probe", "--profile", profile}, "", []string{"1/", "101  PASS", "SKIPPED", "needs --scratch", " 0 FAIL", "SHA-256", "written to"}},
		{[]string{"probe", "--profile", profile}, "", []string{"all answers are those of"}},
	} {
		out, err := ask(step.args...)
		if step.wantErr == "" && err != nil || step.wantErr != "" && (err == nil || !strings.Contains(err.Error(), step.wantErr)) {
			t.Errorf("%v: got error %v, want %q", step.args, err, step.wantErr)
		}
		for _, w := range step.want {
			if !strings.Contains(out, w) {
				t.Errorf("%v: printed\n%s\nwithout %q", step.args, out, w)
			}
		}
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		t.Fatal(err)
	}
	// The hash is the file's, also where more was asked than is in it.
	if out, err := ask("probe", "--profile", profile, "--pin", "file:"+right); err != nil || !strings.Contains(out, "SHA-256 "+hexSHA256(text)) {
		t.Errorf("%v\n%s\nwithout the hash %s", err, out, hexSHA256(text))
	}
	changed := strings.Replace(string(text), "SoftHSM v2", "SoftHSM v3", 1)
	if err := os.WriteFile(profile, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := ask("probe", "--profile", profile); err == nil || !strings.Contains(out, `drift: model: was "SoftHSM v3", is "SoftHSM v2"`) {
		t.Errorf("a changed token: %v\n%s", err, out)
	}
}
