package main

import (
	"encoding/json"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/bench"
	"qcitycoin.org/qcity/miner/probe"
	"qcitycoin.org/qcity/miner/sha256d"
)

// TestNoFeatures: a CPU without any of the features hashes all the same, with
// the kernels that need none.
func TestNoFeatures(t *testing.T) {
	t.Setenv(hw.FeatureEnv, "none")
	stdout, stderr, code := qcity(t, append([]string{"bench", "--json"}, hasty()...)...)
	must0(t, stdout, stderr, code)
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	r, err := bench.Read([]byte(stdout))
	if err != nil {
		t.Fatal(err)
	}
	var measured []string
	for _, k := range r.Kernels {
		if k.Samples > 0 {
			measured = append(measured, k.Name)
		} else if !strings.Contains(k.Reason, "which this CPU does not offer") {
			t.Errorf("%s: %s", k.Name, k.Reason)
		}
	}
	if want := []string{"generic", "stdlib", "sha256-simd"}; !slices.Equal(measured, want) || !slices.Contains(want, r.Best) {
		t.Errorf("measured %q, best %s", measured, r.Best)
	}
	if !strings.Contains(strings.Join(r.Notes, "\n"), hw.FeatureEnv+"=none") {
		t.Errorf("no note says it: %q", r.Notes)
	}
	stdout, stderr, code = qcity(t, "hw", "--json")
	var inventory struct {
		CPU struct {
			Features        []hw.Feature
			FeatureOverride string
		}
	}
	if err := json.Unmarshal([]byte(must0(t, stdout, stderr, code)), &inventory); err != nil || inventory.CPU.Features == nil || len(inventory.CPU.Features) > 0 || inventory.CPU.FeatureOverride != "none" {
		t.Errorf("%v in %s", err, stdout)
	}
	stdout, stderr, code = qcity(t, "hw")
	if !strings.Contains(must0(t, stdout, stderr, code), "changed by "+hw.FeatureEnv+"=none") {
		t.Errorf("hw does not say it:\n%s", stdout)
	}
}

// TestBadFeatureOverride: every command that looks at features says so at once,
// and no other one does.
func TestBadFeatureOverride(t *testing.T) {
	t.Setenv(hw.FeatureEnv, "-avx1024")
	for _, args := range [][]string{{"hw"}, {"bench"}, {"run", "--config", "none.toml"}, {"demo", "--data", filepath.Join(t.TempDir(), "new")}} {
		stdout, stderr, code := qcity(t, args...)
		if code != exitError || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, `"-avx1024" is no change: give none alone, or + or - before each of ssse3, `) {
			t.Errorf("%q: exit code %d, stdout %s, stderr %s", args, code, stdout, stderr)
		}
	}
	succeeds(t, "bench", "compare", benchData+"before.json", benchData+"after.json")
}

func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := qcity(t, args...)
	return must0(t, stdout, stderr, code)
}

// TestSelfTestCommand is nothing for people, and helps them to the override.
func TestSelfTestCommand(t *testing.T) {
	if help := succeeds(t, "--help"); strings.Contains(help, selfTestCommand) {
		t.Errorf("the help shows it:\n%s", help)
	}
	if help := succeeds(t, "hw", "--help"); !strings.Contains(help, hw.FeatureEnv) {
		t.Errorf("the help of hw does not name %s:\n%s", hw.FeatureEnv, help)
	}
}

// TestUnknownInstruction runs our kernels on an emulated CPU that has AVX2, but
// neither AVX-512 nor the SHA instructions, as if it had claimed them.
func TestUnknownInstruction(t *testing.T) {
	emulator, err := exec.LookPath("qemu-x86_64")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skip("needs qemu-x86_64, of the package qemu-user, on an x86-64")
	}
	var logs strings.Builder
	c := probe.Children{Log: slog.New(slog.NewTextHandler(&logs, nil)), Command: func(names []string) (*exec.Cmd, error) {
		args := append([]string{"-cpu", "Haswell", filepath.Join(bin, "qcity"), selfTestCommand}, names...)
		return exec.Command(emulator, args...), nil
	}}
	kernels, err := chooseKernels(sha256d.Kernels(), []string{"sha-ni", "avx2", "avx512", "stdlib", "hybrid-avx2"})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range c.Probe(t.Context(), kernels) {
		want := "kernel " + kernels[i].Name + " failed its self test: the CPU does not know an instruction that it uses, although it claims "
		if bad := len(kernels[i].Needs) > 1; bad != (err != nil) || bad && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", kernels[i].Name, err)
		}
	}
	if logs.Len() > 0 {
		t.Errorf("logged %s", logs.String())
	}
}
