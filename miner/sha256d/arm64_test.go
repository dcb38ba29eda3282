package sha256d

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestARM64 builds this package's tests for arm64 and runs them in an emulator.
// That shows that the arm64 kernels are right, not how fast they are.
func TestARM64(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		t.Skip("all tests run on arm64 here")
	}
	if testing.Short() {
		t.Skip("an emulator takes most of a minute")
	}
	emulator := found("qemu-aarch64", "qemu-aarch64-static")
	if emulator == "" {
		t.Skip("no qemu-aarch64 to run arm64 code: scripts/deps test installs qemu-user")
	}
	goCommand := found("go")
	if goCommand == "" {
		t.Skip("no go command to build arm64 code: put Go's bin directory on the PATH")
	}
	binary := filepath.Join(t.TempDir(), "sha256d.test")
	build := exec.CommandContext(t.Context(), goCommand, "test", "-c", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	run := exec.CommandContext(t.Context(), emulator, "-cpu", "max", binary, "-test.short", "-test.v")
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", run, err, out)
	}
	for _, kernel := range []string{"neon", "neon-versions", "sha2", "sha2-versions"} {
		for _, test := range []string{"TestSelfTestPasses/", "TestMatchesReference/"} {
			if !strings.Contains(string(out), "--- PASS: "+test+kernel+" ") {
				t.Errorf("%s%s did not run:\n%s", test, kernel, out)
			}
		}
	}
}

// found returns the path of the first of some commands that is there.
func found(commands ...string) string {
	for _, c := range commands {
		if path, err := exec.LookPath(c); err == nil {
			return path
		}
	}
	return ""
}
