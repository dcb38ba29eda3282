package ceremony_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/ceremony"
)

// child carries a ceremony out and kills itself where it was told to.
func child(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "script.toml"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	workerBinary = os.Getenv(envBin)
	s := stage{dir: filepath.Join(dir, "ceremony"), tokens: filepath.Join(dir, "tokens"), text: string(text)}
	if s.script, err = parse("script.toml", s.text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	c := ceremony.New(s.config(ceremony.Run, asShown))
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }
	c.SetHook(func(point, step string) {
		switch os.Getenv(envKill) {
		case point + " " + step:
			die()
		case "during " + step:
			if point == "before" {
				go die() // races with the call to the token
			}
		}
	})
	if err := c.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestKilledAtEachStep ends one ceremony with SIGKILL at every point of every step
// and goes on each time: the transcript is whole, and there is one key.
func TestKilledAtEachStep(t *testing.T) {
	s := newStage(t, oneValidator(t))
	root := filepath.Dir(s.dir)
	if err := os.WriteFile(filepath.Join(root, "script.toml"), []byte(s.text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	start := func(kill string) error {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), envDir+"="+root, envKill+"="+kill, envBin+"="+workerBinary)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if err != nil && !killed || killed && kill == "" {
			return fmt.Errorf("%w: %s", err, out)
		}
		if kill != "" && !killed && !strings.HasPrefix(kill, "during") {
			return fmt.Errorf("it was not killed: %s", out)
		}
		return nil
	}
	kills := 0
	for _, step := range ceremony.Steps(s.script) {
		points := []string{"before", "after", "answered", "done"}
		if ceremony.HasStarted(step) {
			points = []string{"before", "during", "after", "answered", "done"}
		}
		for _, p := range points {
			if err := start(p + " " + step.ID); err != nil {
				t.Fatalf("%s %s: %v", p, step.ID, err)
			}
			kills++
		}
	}
	if err := start(""); err != nil {
		t.Fatal(err)
	}
	r := s.verify(t) // one key, in one token, or the steps after it would have failed
	if len(r.Keys) != 1 || len(r.Remarks) < kills-5 {
		t.Errorf("after %d kills: %+v", kills, r)
	}
	folders, err := os.ReadDir(s.tokens)
	if err != nil || len(folders) != 1 {
		t.Errorf("%d tokens were made, want 1 (%v)", len(folders), err)
	}
}

// TestTornLine: a line that was being written when the power failed was never
// answered for, and is cut off; anything else that is wrong stops the ceremony.
func TestTornLine(t *testing.T) {
	s := newStage(t, oneValidator(t))
	answers := ceremony.Answers{"*": ceremony.AsShown, ceremony.Steps(s.script)[2].ID: "no"}
	if err := ceremony.New(s.config(ceremony.Run, answers)).Run(t.Context()); !errors.Is(err, ceremony.ErrRefused) {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, ceremony.TranscriptFile)
	whole := s.transcriptText(t)
	if err := os.WriteFile(path, append(whole[:len(whole):len(whole)], `{"seq":5,"ti`...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run(t, ceremony.Run)
	s.verify(t)
	spoilt := s.transcriptText(t)
	spoilt[len(spoilt)/2] ^= 1
	if err := os.WriteFile(path, spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ceremony.New(s.config(ceremony.Run, asShown)).Run(t.Context()); !errors.Is(err, ceremony.ErrTranscript) {
		t.Errorf("a damaged transcript: %v", err)
	}
}
