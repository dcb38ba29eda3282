package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// command runs qcity in this process and returns its standard output.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(t.Output())
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func mustCommand(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t, args...)
	if err != nil {
		t.Fatalf("qcity %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TestOfficersList is docs/ceremony.md's list of commands, in order, from bare
// tokens to a network file, and each key command on what came of it.
func TestOfficersList(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	text, err := os.ReadFile("../../configs/ceremony.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"ceremony.toml": string(text), "answers": "* = @\n", "tokens/none": "", "pins/none": ""} {
		if err := os.MkdirAll(filepath.Dir(in(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range []string{"0", "1", "2", "3", "4"} {
		for _, ending := range []string{".pin", ".so-pin"} {
			if err := os.WriteFile(in("pins/validator-"+v+ending), []byte("1234567"+v+"\n"), 0o400); err != nil {
				t.Fatal(err)
			}
		}
	}
	p11 := "--worker=" + filepath.Join(bin, "qcity-p11")
	on := []string{p11, "--softhsm-tokens", in("tokens")}

	plan := mustCommand(t, "ceremony", "plan", in("ceremony.toml"))
	if !strings.Contains(plan, "36-end") || !strings.Contains(plan, "2 of 3") {
		t.Errorf("plan:\n%s", plan)
	}
	if out := mustCommand(t, "ceremony", "rehearse", in("ceremony.toml"), p11); !strings.Contains(out, "rehearsal verified") {
		t.Errorf("rehearsal: %s", out)
	}
	run := append([]string{"ceremony", "run", in("ceremony.toml"), "--dir", in("out"), "--pin", "file:" + in("pins/{token}.pin"), "--so-pin", "file:" + in("pins/{token}.so-pin")}, on...)
	var person needsPerson
	if err := os.WriteFile(in("wrong"), []byte("* = @\n10-generate-validator-2 = wrong words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t, append(run, "--answers", in("wrong"))...); !errors.As(err, &person) || !errors.Is(err, ceremony.ErrRefused) {
		t.Errorf("a wrong answer: %v", err)
	}
	mustCommand(t, append(run, "--answers", in("answers"))...)
	verified := mustCommand(t, "ceremony", "verify", in("ceremony.toml"), "--dir", in("out"))
	if !strings.Contains(verified, "run verified") || !strings.Contains(verified, "refused at step 10-") {
		t.Errorf("verified: %s", verified)
	}
	var report ceremony.Report
	if err := json.Unmarshal([]byte(mustCommand(t, "ceremony", "verify", in("ceremony.toml"), "--dir", in("out"), "--json")), &report); err != nil {
		t.Fatal(err)
	}
	mustCommand(t, "ceremony", "verify", in("ceremony.toml"), "--dir", in("out"), "--words", strings.ToUpper(report.Words))
	if _, err := command(t, "ceremony", "verify", in("ceremony.toml"), "--dir", in("out"), "--words", "another six words"); !errors.As(err, &person) {
		t.Errorf("other words: %v", err)
	}
	if _, err := command(t, "ceremony", "verify", in("ceremony.toml"), "--dir", in("out"), "--words", ""); !errors.As(err, &person) {
		t.Errorf("words from an empty variable: %v", err)
	}
	net, err := configs.LoadNetwork(in("out/network.toml"))
	if err != nil || net.ID != report.Network {
		t.Fatalf("network %v, %v", net, err)
	}

	key := append([]string{"--token", "validator-1", "--pin", "file:" + in("pins/validator-1.pin")}, on...)
	if out := mustCommand(t, append([]string{"key", "list"}, key...)...); !strings.Contains(out, net.Validators[1].String()) {
		t.Errorf("list: %s", out)
	}
	wrong := append([]string{"key", "list", "--token", "validator-1", "--pin", "file:" + in("pins/validator-2.pin")}, on...)
	if _, err := command(t, wrong...); !errors.As(err, &person) || !errors.Is(err, worker.ErrPINIncorrect) {
		t.Errorf("a wrong PIN: %v", err)
	}
	again := append(slices.Clone(run), "--answers", in("answers"))
	again[slices.Index(again, in("out"))] = in("twice")
	if _, err := command(t, again...); !errors.As(err, &person) || !errors.Is(err, ceremony.ErrTokenState) {
		t.Errorf("on tokens that are not blank: %v", err)
	}
	mustCommand(t, append([]string{"key", "check", "--record", in("out/records/validator-1.json"), "--pin", "file:" + in("pins/validator-1.pin")}, on...)...)
	proof := append([]string{"key", "prove", "--label", "validator-1", "--network", in("out/network.toml"), "--challenge", "asked by a test", "--out", in("proof.json")}, key...)
	mustCommand(t, proof...)
	if out := mustCommand(t, "key", "prove", "--network", in("out/network.toml"), "--verify", in("proof.json")); !strings.Contains(out, "asked by a test") {
		t.Errorf("proof: %s", out)
	}
	if _, err := command(t, "key", "prove", "--network", "regtest", "--verify", in("proof.json")); !errors.As(err, &person) {
		t.Errorf("a proof for another network: %v", err)
	}
	mustCommand(t, append([]string{
		"key", "backup", "--token", "validator-1", "--out", in("again"),
		"--custodian", "a", "--custodian", "b", "--threshold", "2",
	}, on...)...)
	restored := mustCommand(t, "key", "restore-test", p11, "--from", in("again/validator-1.backup"),
		"--share", in("again/validator-1.custodian-1.share"), "--share", in("again/validator-1.custodian-2.share"),
		"--key", net.Validators[1].String(), "--network", in("out/network.toml"), "--pin", "file:"+in("pins/validator-1.pin"))
	if !strings.Contains(restored, "the same key signs there") {
		t.Errorf("restored: %s", restored)
	}
	var made keyView
	fresh := append([]string{
		"key", "generate", "--init", "--token", "spare", "--label", "spare", "--id", "0a", "--network", in("out/network.toml"),
		"--pin", "file:" + in("pins/validator-0.pin"), "--so-pin", "file:" + in("pins/validator-0.so-pin"), "--json",
	}, on...)
	if err := json.Unmarshal([]byte(mustCommand(t, fresh...)), &made); err != nil || made.Address == "" || len(strings.Fields(made.Words)) != 6 {
		t.Errorf("made %+v, %v", made, err)
	}
}

// TestPipedAnswersAreScripted: what comes through a pipe nobody has typed.
func TestPipedAnswersAreScripted(t *testing.T) {
	r, err := loadCeremony("../../configs/ceremony.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	o := ceremonyFlags{ask: true, worker: filepath.Join(bin, "qcity-p11"), pin: pinFlag{text: "terminal"}, soPIN: pinFlag{text: "terminal"}}
	cfg, err := o.config(t.Output(), r, ceremony.Run) // standard input of a test is no terminal
	if err != nil || !cfg.Scripted {
		t.Errorf("typed, it says: %v", err)
	}
}

// TestKeyAttestStatus: a script can tell a token that attests nothing; and what
// stands in the way of a record is found before there is a key.
func TestKeyAttestStatus(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(in("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"pin": "12345678\n", "root.pem": testRoot} {
		if err := os.WriteFile(in(name), []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	on := []string{"--worker=" + filepath.Join(bin, "qcity-p11"), "--softhsm-tokens", in("tokens"), "--token", "t", "--label", "k", "--pin", "file:" + in("pin")}
	mustCommand(t, append([]string{"key", "generate", "--init", "--id", "01", "--so-pin", "file:" + in("pin")}, on...)...)
	// A key whose record cannot be written, or would take another's place, is not made.
	for _, record := range []string{in("pin"), in("nowhere/record.json")} {
		if _, err := command(t, append([]string{"key", "generate", "--id", "02", "--record", record}, append(on, "--label", "second")...)...); err == nil {
			t.Errorf("--record %s was taken", record)
		}
	}
	if out := mustCommand(t, append([]string{"key", "list"}, slices.DeleteFunc(slices.Clone(on), func(arg string) bool { return arg == "--label" || arg == "k" })...)...); strings.Contains(out, "second") {
		t.Errorf("a key without a record:\n%s", out)
	}
	out, err := command(t, append([]string{"key", "attest", "--root", in("root.pem")}, on...)...)
	var status exitStatus
	if out != ceremony.NoAttestation+"\n" || !errors.As(err, &status) || status != exitNotAttested {
		t.Errorf("%q, %v", out, err)
	}
}

// TestBadCeremonyFile: the command names file, line and column.
func TestBadCeremonyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(file, []byte("title = \"x\"\n[roles]\nadministrator = \"a\"\noperator = \"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := command(t, "ceremony", "plan", file)
	if err == nil || !strings.HasPrefix(err.Error(), file+":4:1: roles.operator: want a person's name") {
		t.Errorf("%v", err)
	}
}

// TestOfficersListIsShort: the guide's list has at most 15 commands.
func TestOfficersListIsShort(t *testing.T) {
	text, err := os.ReadFile("../../docs/ceremony.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(text), "## The commands")
	list, _, end := strings.Cut(list, "\n## ")
	if n := len(regexp.MustCompile(`(?m)^\d+\. `).FindAllString(list, -1)); !ok || !end || n < 5 || n > 15 {
		t.Errorf("the guide lists %d commands, want at most 15", n)
	}
}

// testRoot is a certificate that nothing leads to.
const testRoot = `-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUIhrlIzv0BmdbOqGe7AWwX8Sseb0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJdGVzdCByb290MB4XDTI2MTEyODA3MzQzM1oXDTM2MTEyNTA3
MzQzM1owFDESMBAGA1UEAwwJdGVzdCByb290MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEfN/+msx3EF+ULAZDsnp3ThISlB3aCXfqIhN51YpxcE6iZXO9OmwKYkJx
6A+ZDEUobgtCmOqTUc0mzUNtxIScBKNTMFEwHQYDVR0OBBYEFOut/Q6t32OeiwjV
iXF5KevANTrgMB8GA1UdIwQYMBaAFOut/Q6t32OeiwjViXF5KevANTrgMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgLXGTQrxXubJFG3iUnSL3d1b3
kO5xfiUFtcXjZ3ndygsCIQClZGuyt6Cd7gNuaOxfk5Yg0YUS0izZmKkr/iQ8FYhD
hg==
-----END CERTIFICATE-----
`
