package configs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// unit is a unit file: section → key → values, in order.
type unit map[string]map[string][]string

// parseUnit reads the part of systemd.syntax(7) that our files use; anything else
// is an error.
func parseUnit(text string) (unit, error) {
	u, section := make(unit), ""
	for i, line := range strings.Split(text, "\n") {
		fail := func(why string) error { return fmt.Errorf("line %d: %s: %q", i+1, why, line) }
		switch key, value, ok := strings.Cut(line, "="); {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) != line:
			return nil, fail("space at the edge")
		case strings.HasSuffix(line, "\\"):
			return nil, fail("continued line")
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
			if !slices.Contains([]string{"Unit", "Service", "Install"}, section) || u[section] != nil {
				return nil, fail("unknown section, or twice")
			}
			u[section] = make(map[string][]string)
		case !ok || section == "" || strings.TrimSpace(key) != key || strings.TrimSpace(value) != value:
			return nil, fail("no key=value in a section")
		default:
			u[section][key] = append(u[section][key], value)
		}
	}
	return u, nil
}

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	u, err := parseUnit(string(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return u
}

// what each promise of the unit is made of. A key that is not here is not in the
// unit, so that a misspelt one shows even where systemd itself is not there to
// read it.
var signerUnit = unit{
	"Unit": {
		"Description": {"Qcity signer: validator keys in an HSM"}, "After": {"local-fs.target"},
		"StartLimitIntervalSec": {"60"}, "StartLimitBurst": {"5"},
	},
	"Service": {
		"Type": {"exec"}, "User": {"qcity-signer"}, "Group": {"qcity-signer"},
		"ExecStart": {"/usr/bin/qcity signer run --config /etc/qcity/signer.toml"},
		"Restart":   {"on-failure"}, "RestartSec": {"1"}, "RestartPreventExitStatus": {"78"},
		"KillMode": {"mixed"}, "TimeoutStopSec": {"45"},
		"LoadCredentialEncrypted": {"validator.pin:/etc/qcity/credentials/validator.pin"},
		"StateDirectory":          {"qcity-signer"}, "StateDirectoryMode": {"0700"},
		"RuntimeDirectory": {"qcity-signer"}, "RuntimeDirectoryMode": {"0755"},
		"UMask": {"0077"}, "LimitCORE": {"0"}, "KeyringMode": {"private"},
		"NoNewPrivileges": {"yes"}, "CapabilityBoundingSet": {""}, "AmbientCapabilities": {""},
		"ProtectSystem": {"strict"}, "ProtectHome": {"yes"}, "ProtectClock": {"yes"}, "ProtectControlGroups": {"yes"},
		"ProtectHostname": {"yes"}, "ProtectKernelLogs": {"yes"}, "ProtectKernelModules": {"yes"}, "ProtectKernelTunables": {"yes"},
		"ProtectProc": {"invisible"}, "ProcSubset": {"pid"}, "PrivateTmp": {"yes"},
		"NoExecPaths": {"/var /run /tmp /dev/shm"}, "LockPersonality": {"yes"}, "MemoryDenyWriteExecute": {"yes"},
		"RemoveIPC": {"yes"}, "RestrictNamespaces": {"yes"}, "RestrictRealtime": {"yes"}, "RestrictSUIDSGID": {"yes"},
		"SystemCallArchitectures": {"native"}, "SystemCallFilter": {"@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp", "~@privileged"},
		"SystemCallErrorNumber": {"EPERM"}, "TasksMax": {"256"},
		"PrivateDevices": {"yes"}, "DevicePolicy": {"closed"},
		"PrivateNetwork": {"yes"}, "IPAddressDeny": {"any"}, "RestrictAddressFamilies": {"AF_UNIX"}, "SocketBindDeny": {"any"},
	},
	"Install": {"WantedBy": {"multi-user.target"}},
}

var dialDropIn = unit{
	"Unit": {"Wants": {"network-online.target"}, "After": {"network-online.target"}},
	"Service": {
		"LoadCredentialEncrypted": {"signer.identity:/etc/qcity/credentials/signer.identity"},
		"RuntimeDirectoryMode":    {"0700"},
		"PrivateNetwork":          {"no"}, "IPAddressAllow": {"192.0.2.10"},
		"RestrictAddressFamilies": {"AF_INET AF_INET6"},
	},
}

// TestSignerUnit holds the unit and its drop-in against what they promise.
func TestSignerUnit(t *testing.T) {
	for name, want := range map[string]unit{"qcity-signer.service": signerUnit, "qcity-signer-dial.conf": dialDropIn} {
		got := readUnit(t, name)
		for section, keys := range want {
			for key, values := range keys {
				if !slices.Equal(got[section][key], values) {
					t.Errorf("%s: [%s] %s is %q, want %q", name, section, key, got[section][key], values)
				}
			}
		}
		for section, keys := range got {
			for key := range keys {
				if want[section][key] == nil {
					t.Errorf("%s: [%s] %s is not known here: correct its spelling, or add it to this test", name, section, key)
				}
			}
		}
	}
	// The drop-in opens the network to the nodes and takes no other protection away.
	for key := range dialDropIn["Service"] {
		if !slices.Contains([]string{"LoadCredentialEncrypted", "RuntimeDirectoryMode", "PrivateNetwork", "IPAddressAllow", "RestrictAddressFamilies"}, key) {
			t.Errorf("the drop-in changes %s", key)
		}
	}
}

// TestBoxUnit: what the box needs of its unit; systemd-analyze checks the rest.
func TestBoxUnit(t *testing.T) {
	service := readUnit(t, "qcity.service")["Service"]
	files, err := strconv.Atoi(service["LimitNOFILE"][0])
	// Connections are in two programs for a moment when one follows another.
	if err != nil || files < 2*Default().Stratum.MaxSessions+1000 {
		t.Errorf("LimitNOFILE %v is too little for %d connections", service["LimitNOFILE"], Default().Stratum.MaxSessions)
	}
	if !slices.Equal(service["ExecReload"], []string{"/usr/bin/kill -USR2 $MAINPID"}) || !slices.Equal(service["RestartPreventExitStatus"], []string{"78"}) {
		t.Errorf("reload %q, no restart after %q", service["ExecReload"], service["RestartPreventExitStatus"])
	}
}

func TestParseUnit(t *testing.T) {
	for _, text := range []string{"Key=value", "[Service]\nKey = value", "[Servise]", "[Service]\nno key", "[Unit]\n[Unit]", "[Service]\nKey=a \\\n b", " [Unit]"} {
		if u, err := parseUnit(text); err == nil {
			t.Errorf("%q was read as %v", text, u)
		}
	}
}

// TestUnitsVerify has systemd read the units, the signer's with its drop-in, and
// score them.
func TestUnitsVerify(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here (Debian package systemd); TestSignerUnit has checked the signer's")
	}
	// A root of our own, in which the program is there.
	root := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const units = "usr/lib/systemd/system/"
	put("usr/bin/qcity", "", 0o755)
	put("usr/bin/kill", "", 0o755)
	for _, name := range []string{"qcity.service", "qcity-signer.service"} {
		put(units+name, read(name), 0o644)
	}
	put("etc/systemd/system/qcity-signer.service.d/dial.conf", read("qcity-signer-dial.conf"), 0o644)
	for name, more := range map[string]string{
		"sysinit.target": "", "basic.target": "", "shutdown.target": "", "multi-user.target": "", "local-fs.target": "",
		"network-online.target":          "",
		"tmp.mount":                      "[Mount]\nWhat=tmpfs\nWhere=/tmp\nType=tmpfs\n",
		"systemd-tmpfiles-setup.service": "[Service]\nType=oneshot\nExecStart=/usr/bin/qcity\n",
	} {
		put(units+name, "[Unit]\nDescription=stands in\nDefaultDependencies=no\n"+more, 0o644)
	}
	for name, exposure := range map[string]string{"qcity.service": "30", "qcity-signer.service": "20"} {
		out, err := exec.CommandContext(t.Context(), tool, "verify", "--root="+root, "--man=no", "--generators=no", name).CombinedOutput()
		if err != nil || strings.Contains(string(out), "qcity") {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		// The exposure, 0 (best) to 100.
		out, err = exec.CommandContext(t.Context(), tool, "security", "--offline=yes", "--root="+root, "--threshold="+exposure, "--no-pager", name).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
		t.Logf("%s", out[max(0, len(out)-200):])
	}
}
