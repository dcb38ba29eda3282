package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/signer/tokentest"
)

// TestKeyOnDevices makes a key with the command on tokens that are not SoftHSM's,
// and finds it again as it was recorded.
func TestKeyOnDevices(t *testing.T) {
	for name, setUp := range map[string]func(testing.TB) *tokentest.Device{"nss": tokentest.NSS, "tpm2": tokentest.TPM, "p11-kit": tokentest.P11Kit} {
		t.Run(name, func(t *testing.T) {
			d := setUp(t)
			dir := t.TempDir()
			pin, record := filepath.Join(dir, "pin"), filepath.Join(dir, "record.json")
			if err := os.WriteFile(pin, []byte(tokentest.UserPIN+"\n"), 0o400); err != nil {
				t.Fatal(err)
			}
			on := []string{"--worker=" + filepath.Join(bin, "qcity-p11"), "--module", d.Module, "--init-args", d.InitArgs, "--pin", "file:" + pin}
			for _, e := range d.Env {
				variable, value, _ := strings.Cut(e, "=")
				t.Setenv(variable, value)
				on = append(on, "--env", variable)
			}
			generate := append([]string{"key", "generate", "--token", d.Label, "--algorithm", "p256", "--record", record}, on...)
			if name == "nss" { // it says of every key that it was made elsewhere
				if _, err := command(t, append(generate, "--label", "first", "--id", "06")...); err == nil || !strings.Contains(err.Error(), "CKA_LOCAL") {
					t.Errorf("not told: %v", err)
				}
				generate = append(generate, "--allow-not-local")
			}
			out := mustCommand(t, append(generate, "--label", "made", "--id", "07")...)
			if !strings.Contains(out, "public key   p256:") || !strings.Contains(out, "label made, id 07") {
				t.Errorf("generate:\n%s", out)
			}
			if out := mustCommand(t, append([]string{"key", "check", "--record", record}, on...)...); !strings.Contains(out, "exactly as recorded") {
				t.Errorf("check: %s", out)
			}
			if out, err := command(t, append([]string{"key", "list", "--token", d.Label, "--pin", tokentest.UserPIN}, on[:len(on)-2*len(d.Env)-2]...)...); err == nil || strings.Contains(out+err.Error(), tokentest.UserPIN) {
				t.Errorf("a PIN on the command line: %s, %v", out, err)
			}
		})
	}
}
