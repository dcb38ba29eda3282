package signer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/node/types"
)

// TestModuleCannotReadSecrets: the module runs as the daemon's user, and still
// reads neither the journal nor the PIN files beside it, nor writes elsewhere.
func TestModuleCannotReadSecrets(t *testing.T) {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Skip("this kernel has no Landlock (Linux 5.13): ", errno)
	}
	v := newVault(t)
	v.generate(t, types.Secp256k1)
	own, shim := filepath.Join(v.dir, "signer"), filepath.Join(v.dir, "shim")
	pin := filepath.Join(own, "pin")
	if err := errors.Join(os.Mkdir(own, 0o700), os.Mkdir(shim, 0o700), os.Rename(v.dir+"/pin", pin)); err != nil {
		t.Fatal(err)
	}
	tried := filepath.Join(shim, "tried")
	v.config.Journal, v.config.Keys[0].PIN = filepath.Join(own, "journal"), FilePIN(pin)
	v.config.ModuleWrites = []string{v.dir + "/tokens", shim}
	v.config.ModuleEnv = append(v.config.ModuleEnv, "SHIM_FAULT="+shim+"/fault", "SHIM_TRIED="+tried, "SHIM_LOGINS="+shim+"/logins")
	v.found(t)
	d := need[*Daemon](t)(Open(patience(t), v.config, v.network, quiet()))
	defer d.close()
	for _, c := range []struct {
		what string
		want string
	}{
		{"read:" + pin, "13"}, // EACCES
		{"read:" + v.config.Journal, "13"},
		{"write:" + v.config.Journal, "13"},
		{"write:" + v.dir + "/new", "13"},
		{"read:" + v.conf, "0"},
		{"write:" + v.dir + "/tokens/new", "0"},
		{"inet:", "1"}, // EPERM
	} {
		if err := os.WriteFile(shim+"/fault", []byte("C_GetTokenInfo try "+c.what), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.worker.ListTokens(patience(t)); err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(string(need[[]byte](t)(os.ReadFile(tried))))
		if n := len(got); n < 2 || got[n-2] != c.what || got[n-1] != c.want {
			t.Errorf("%s: got %v, want %s", c.what, got, c.want)
		}
	}
	if _, err := d.tokens.Sign(patience(t), v.config.Keys[0].PublicKey, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
}
