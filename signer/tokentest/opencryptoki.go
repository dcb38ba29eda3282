package tokentest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// cryptoki keeps the daemon of openCryptoki, its folders, its shared memory and
// its configuration away from those of the machine, and ends with its standard
// input. Slot 3 is the soft token.
const cryptoki = `set -e
folders="/var/lib/opencryptoki /var/lock/opencryptoki"
for d in $folders; do
	mkdir -p "$1$d"
	cp -a "$d/." "$1$d"
done
mount -t tmpfs tmpfs /run # /var/lock is in it
mount -t tmpfs tmpfs /dev/shm
mkdir -p /run/lock
for d in $folders; do
	mkdir -p "$d"
	mount --bind "$1$d" "$d"
done
mkdir -p /run/opencryptoki
printf 'version opencryptoki-3.1\nslot 3\n{\nstdll = libpkcs11_sw.so\n}\n' >"$1/conf"
mount --bind "$1/conf" /etc/opencryptoki/opencryptoki.conf
pkcsslotd >&2
printf 'probe\n' | pkcsconf -c 3 -I -S 87654321 >&2
pkcsconf -c 3 -P -S 87654321 -n 76543210 >&2
pkcsconf -c 3 -u -S 76543210 -n 12345678 >&2
echo ready
cat >/dev/null
kill "$(cat /run/pkcsslotd.pid)"
`

// OpenCryptoki is the soft token of openCryptoki with a daemon of its own. The
// daemon wants to be root and a group of its own; without root the test is skipped.
// As Device.Enter says, the worker must be started where that daemon is.
func OpenCryptoki(t testing.TB) *Device {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("openCryptoki's daemon starts as root only, with the group pkcs11 of its package: run this test as root")
	}
	dir := t.TempDir()
	var said strings.Builder
	c := exec.Command("unshare", "--mount", "--ipc", "sh", "-c", cryptoki, "sh", dir)
	c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	c.Stderr = &said
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("ready"))
	_, err = out.Read(ready)
	t.Cleanup(func() {
		in.Close()
		_ = c.Wait()
	})
	if err != nil || string(ready) != "ready" {
		in.Close()
		t.Fatalf("openCryptoki: %v\n%s(scripts/deps test installs what the tests need)", c.Wait(), said.String())
	}
	return &Device{
		Module: library(t, "/usr/lib/*/opencryptoki/libopencryptoki.so.0"), Label: "probe",
		Enter: []string{"nsenter", "--target", strconv.Itoa(c.Process.Pid), "--mount", "--ipc", "--wd=/"},
	}
}

// Binary is the program at path as it must be started to reach the device.
func (d *Device) Binary(t testing.TB, path string) string {
	t.Helper()
	if d.Enter == nil {
		return path
	}
	script := filepath.Join(t.TempDir(), filepath.Base(path))
	text := fmt.Sprintf("#!/bin/sh\nexec %s %s \"$@\"\n", strings.Join(d.Enter, " "), path)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}
