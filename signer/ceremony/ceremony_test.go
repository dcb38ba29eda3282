package ceremony_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/signer/ceremony"
)

// TestRehearsalEqualsRun carries the documented script out twice, and the two
// transcripts differ in key material only.
func TestRehearsalEqualsRun(t *testing.T) {
	rehearsal, run := newStage(t, exampleText(t)), newStage(t, exampleText(t))
	rehearsal.run(t, ceremony.Rehearsal)
	run.run(t, ceremony.Run)
	a, b := rehearsal.transcript(t), run.transcript(t)
	if diff := cmp.Diff(ceremony.Normalise(a), ceremony.Normalise(b)); diff != "" {
		t.Errorf("rehearsal and run differ: %s", diff)
	}
	ra, rb := rehearsal.verify(t), run.verify(t)
	if ra.Kind != ceremony.Rehearsal || rb.Kind != ceremony.Run || len(rb.Keys) != 5 || len(rb.Remarks) != 0 || !rb.Scripted {
		t.Errorf("reports %+v and %+v", ra, rb)
	}
	if slices.Equal(ra.Keys, rb.Keys) || ra.Network == rb.Network {
		t.Error("rehearsal and run made the same keys")
	}
	if ceremony.Normalise(a)[0].Facts["script"] != sum(exampleText(t)) {
		t.Error("normalising hides the script")
	}
	text := string(run.transcriptText(t))
	if strings.Contains(text, "pin-alidator") {
		t.Error("a PIN is in the transcript")
	}
	for _, w := range []string{"generated here: yes, sensitive: always, extractable: never", ceremony.NoAttestation} {
		if !strings.Contains(text, w) {
			t.Errorf("the transcript does not say %q", w)
		}
	}
	// It is over: another run does nothing, and nobody is asked.
	cfg := run.config(ceremony.Run, nil)
	cfg.Ask = func(context.Context, ceremony.Question) (string, error) { panic("asked") }
	if err := ceremony.New(cfg).Run(t.Context()); err != nil || string(run.transcriptText(t)) != text {
		t.Errorf("after the end: %v", err)
	}
	checkTampering(t, run)
	checkFiles(t, run)
}

// checkTampering changes each line of a transcript in turn, in several ways, and
// the line is named.
func checkTampering(t *testing.T, s stage) {
	t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(string(s.transcriptText(t)), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	entries := s.transcript(t)
	verify := func(lines []string) error {
		got, err := ceremony.ReadTranscript([]byte(strings.Join(lines, "")))
		if err != nil {
			return err
		}
		_, err = ceremony.Verify(s.script, sum(s.text), got, nil)
		return err
	}
	if err := verify(lines); err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		change := func(name string, line int, f func([]string) []string) {
			t.Helper()
			err := verify(f(slices.Clone(lines)))
			var at *ceremony.LineError
			if !errors.As(err, &at) || at.Line != line || !errors.Is(err, ceremony.ErrTranscript) {
				t.Errorf("%s line %d: %v, want an error about line %d", name, i+1, err, line)
			}
		}
		for _, at := range []int{0, len(lines[i]) / 3, len(lines[i]) - 2} {
			change("flip in", i+1, func(l []string) []string {
				b := []byte(l[i])
				b[at] ^= 1
				l[i] = string(b)
				return l
			})
		}
		change("drop", min(i+1, len(lines)), func(l []string) []string { return slices.Delete(l, i, i+1) })
		change("repeat", i+2, func(l []string) []string { return slices.Insert(l, i+1, l[i]) })
		change("cut off after", i+1, func(l []string) []string {
			l[i] = strings.TrimSuffix(l[i], "\n")
			return l[:i+1]
		})
		// With a fresh hash the chain breaks one line further on, or, in the last
		// line, what it says is refused.
		e := entries[i]
		e.Answer += "x"
		if i == len(lines)-1 {
			change("forge", i+1, func(l []string) []string {
				l[i] = string(ceremony.EncodeEntry(ceremony.Reseal(e))) + "\n"
				return l
			})
			continue
		}
		change("forge", i+2, func(l []string) []string {
			l[i] = string(ceremony.EncodeEntry(ceremony.Reseal(e))) + "\n"
			return l
		})
	}
	checkForgeries(t, s)
}

// checkForgeries changes single facts and makes the chain and the end whole again:
// what each step says is checked, not only its hash.
func checkForgeries(t *testing.T, s stage) {
	t.Helper()
	original := s.transcript(t)
	verify := func(entries []ceremony.Entry) error {
		_, err := ceremony.Verify(s.script, sum(s.text), entries, nil)
		return err
	}
	forge := func(at int, name string, change func(string) string) []ceremony.Entry {
		return rechain(original, at, func(e *ceremony.Entry) {
			facts := maps.Clone(e.Facts)
			facts[name] = change(facts[name])
			e.Facts = facts
		})
	}
	proofs := map[string]string{}
	for i, e := range original {
		for name := range e.Facts {
			other := forge(i, name, func(v string) string { return "0" + strings.ReplaceAll(v[1:], "true", "false") + "0" })
			if i < len(original)-1 && verify(other) == nil {
				t.Errorf("line %d, another %s: the end does not tell", i+1, name)
			}
			// What nothing can be compared with: devices and their words about
			// themselves. The proof has what is shown of it, and VerifyFiles compares
			// the hashes of files.
			free := []string{"binary", "device"}
			isFree := slices.Contains(free, name) || strings.Contains(e.Step, "-tokens") || name == "network" && !strings.Contains(e.Step, "-network")
			if name == "before" {
				continue // repaired
			}
			if err := verify(repairEnd(other)); (err == nil) != isFree {
				t.Errorf("line %d, another %s, and the end as it should be: %v", i+1, name, err)
			}
		}
		if p, ok := e.Facts["proof"]; ok {
			flip := map[rune]rune{'0': '1'}
			spoilt := repairEnd(forge(i, "proof", func(v string) string {
				at := len(v) - len(`"}`) - 1
				digit, ok := flip[rune(v[at])]
				if !ok {
					digit = '0'
				}
				return v[:at] + string(digit) + v[at+1:]
			}))
			if err := verify(spoilt); !errors.Is(err, ceremony.ErrTranscript) || !strings.Contains(err.Error(), "possession") {
				t.Errorf("line %d, another signature: %v", i+1, err)
			}
			for step, another := range proofs {
				if verify(repairEnd(forge(i, "proof", func(string) string { return another }))) == nil {
					t.Errorf("line %d: the proof of %s passes", i+1, step)
				}
			}
			proofs[e.Step] = p
		}
	}
	if _, err := ceremony.Verify(s.script, sum("another"), original, nil); err == nil {
		t.Error("verified against another script")
	}
}

// repairEnd lets the last entry confirm the hash before it, as only somebody who
// was not in the room can.
func repairEnd(entries []ceremony.Entry) []ceremony.Entry {
	return rechain(entries, len(entries)-1, func(e *ceremony.Entry) {
		facts := maps.Clone(e.Facts)
		facts["before"] = entries[len(entries)-2].Hash
		e.Facts, e.Asked = facts, ceremony.HashWords(facts["before"])
		e.Answer = e.Asked
	})
}

// rechain changes one entry and makes the hashes fit.
func rechain(entries []ceremony.Entry, at int, change func(*ceremony.Entry)) []ceremony.Entry {
	out := slices.Clone(entries)
	change(&out[at])
	for i := at; i < len(out); i++ {
		if i > 0 {
			out[i].Prev = out[i-1].Hash
		}
		out[i] = ceremony.Reseal(out[i])
	}
	return out
}

// checkFiles looks at what the ceremony leaves.
func checkFiles(t *testing.T, s stage) {
	t.Helper()
	for path, mode := range map[string]os.FileMode{
		"network.toml": 0o644, "records/validator-4.json": 0o644, "proofs/validator-4.json": 0o644,
		"shares/custodian-1.share": 0o400, "shares/custodian-3.share": 0o400, "backup/validator-0.backup": 0o600,
	} {
		info, err := os.Stat(filepath.Join(s.dir, path))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), mode)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "restore-*")); err != nil || len(left) > 0 {
		t.Errorf("a restore test left %v (%v)", left, err)
	}
}

// TestWrongAnswerStops: each step in turn is not confirmed, which is recorded and
// ends the run; the next run asks again. What was typed may be a PIN, in the wrong
// place, and the transcript is for everybody.
func TestWrongAnswerStops(t *testing.T) {
	const typed = "pin-alidator-0-false"
	s := newStage(t, oneValidator(t))
	for _, step := range ceremony.Steps(s.script) {
		answers := ceremony.Answers{"*": ceremony.AsShown, step.ID: typed}
		err := ceremony.New(s.config(ceremony.Run, answers)).Run(t.Context())
		if !errors.Is(err, ceremony.ErrRefused) || strings.Contains(err.Error(), typed) {
			t.Fatalf("%s: %v", step.ID, err)
		}
		if strings.Contains(string(s.transcriptText(t)), typed) {
			t.Fatalf("%s: what was typed is in the transcript", step.ID)
		}
		last := s.transcript(t)
		if e := last[len(last)-1]; e.Kind != ceremony.KindRefused || e.Step != step.ID || e.Asked == "" {
			t.Fatalf("the transcript ends with %+v", e)
		}
	}
	s.run(t, ceremony.Run)
	if r := s.verify(t); len(r.Remarks) != 2*len(ceremony.Steps(s.script)) || len(r.Keys) != 1 {
		t.Errorf("report %+v", r)
	}
}

// TestOtherCeremony: a folder belongs to one script, program and kind.
func TestOtherCeremony(t *testing.T) {
	s := newStage(t, oneValidator(t))
	answers := ceremony.Answers{"*": ceremony.AsShown, ceremony.Steps(s.script)[1].ID: "no"}
	if err := ceremony.New(s.config(ceremony.Run, answers)).Run(t.Context()); !errors.Is(err, ceremony.ErrRefused) {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ceremony.Config){
		"script":  func(c *ceremony.Config) { c.ScriptSHA256 = sum("another") },
		"program": func(c *ceremony.Config) { c.BinarySHA256 = sum("another") },
		"kind":    func(c *ceremony.Config) { c.Kind = ceremony.Rehearsal },
	} {
		cfg := s.config(ceremony.Run, asShown)
		change(&cfg)
		if err := ceremony.New(cfg).Run(t.Context()); !errors.Is(err, ceremony.ErrOther) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}
