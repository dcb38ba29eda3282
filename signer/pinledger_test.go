package signer

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/worker"
)

// putPIN writes a PIN file and reads it as the daemon does.
func putPIN(tb testing.TB, path, pin string) pinValue {
	tb.Helper()
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(pin+"\n"), 0o400)); err != nil {
		tb.Fatal(err)
	}
	touch(tb, path)
	return need[pinValue](tb)(readPINFile(FilePIN(path)))
}

// touch gives a file a new time of change, however coarse the clock is.
func touch(tb testing.TB, path string) {
	tb.Helper()
	info := need[os.FileInfo](tb)(os.Stat(path))
	at := info.ModTime().Add(time.Second)
	if err := os.Chtimes(path, at, at); err != nil {
		tb.Fatal(err)
	}
}

func TestPINLedger(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/" + pinsFile
	a, b := worker.TokenRef{Label: "a", Serial: "1"}, worker.TokenRef{Label: "b", Serial: "2"}
	day := time.Date(2026, 11, 23, 4, 5, 6, 7, time.UTC)
	wrongA, wrongB := putPIN(t, dir+"/pin-a", "1111"), putPIN(t, dir+"/pin-b", "2222")
	// Each step is seen by a ledger that has only the file. The real number of rounds
	// is what TestSoftHSMWrongPIN has.
	ledger := func() *pinLedger {
		l := newPINLedger(path)
		l.rounds = 1
		return l
	}
	expect := func(step string, token worker.TokenRef, f pinValue, wantKnown bool, wantErr ...string) {
		t.Helper()
		known, err := ledger().check(token, f)
		if known != wantKnown || (err != nil) != (wantErr != nil) || (err != nil && !IsTerminal(err)) {
			t.Fatalf("%s: known %v, %v", step, known, err)
		}
		for _, want := range wantErr {
			if !strings.Contains(err.Error(), want) {
				t.Fatalf("%s: %v; want %q", step, err, want)
			}
		}
	}
	do := func(step func(*pinLedger) error) {
		t.Helper()
		l := ledger()
		if err := errors.Join(l.load(), step(l)); err != nil {
			t.Fatal(err)
		}
	}
	expect("nothing is known", a, wrongA, false)

	do(func(l *pinLedger) error { return l.begin(a, wrongA, day) })
	expect("cut off", a, wrongA, false, dir+"/pin-a", `"a" (serial 1)`, "touch "+dir+"/pin-a", "2026-11-23")
	expect("another token, same file", b, wrongA, false)
	touch(t, dir+"/pin-a")
	touched := need[pinValue](t)(readPINFile(FilePIN(dir + "/pin-a")))
	expect("touched", a, touched, false)
	do(func(l *pinLedger) error { return l.unseen(a) })
	expect("not shown after all", a, wrongA, false)

	do(func(l *pinLedger) error { return errors.Join(l.begin(a, touched, day), l.refused(a, touched, day)) })
	do(func(l *pinLedger) error { return errors.Join(l.begin(b, wrongB, day), l.refused(b, wrongB, day)) })
	expect("refused", a, touched, false, dir+"/pin-a", "2026-11-23", path)
	expect("refused, written again", a, putPIN(t, dir+"/pin-a", "1111"), false, "was refused")
	expect("refused, in another file", a, putPIN(t, dir+"/pin-c", "1111"), false, "was refused")
	expect("what the other token refused", a, wrongB, false)
	content := need[[]byte](t)(os.ReadFile(path))
	if strings.Contains(string(content), "1111") {
		t.Fatalf("the PIN itself is in the file: %s", content)
	}
	if info := need[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode())
	}

	right := putPIN(t, dir+"/pin-a", "3333")
	do(func(l *pinLedger) error { return l.accepted(a, right, day) })
	expect("accepted", a, right, true)
	expect("refused before a PIN was accepted", a, wrongA, false)
	expect("the other token's refusal", b, wrongB, false, "was refused")
	expect("accepted by the other token", b, right, false)
	expect("accepted, written again", a, putPIN(t, dir+"/pin-a", "3333"), false)

	do(func(l *pinLedger) error { return l.withdrawn(a, wrongA, day) })
	expect("another file's PIN was withdrawn", a, right, true)
	do(func(l *pinLedger) error { return l.withdrawn(a, right, day) })
	expect("withdrawn", a, right, false, "was refused")
}

func TestPINLedgerDamaged(t *testing.T) {
	dir := t.TempDir()
	path, f := dir+"/"+pinsFile, putPIN(t, dir+"/pin", "1")
	token := worker.TokenRef{Label: "a", Serial: "1"}
	entry := `{"token":{"label":"a","serial":"1"},"state":"accepted","file":{"name":"pin","size":2,"mtime":1,"inode":1},"time":"2026-11-23T04:05:06Z"}`
	for _, c := range []struct{ name, content, want string }{
		{"empty", "", "EOF"},
		{"cut", `{"version":1,"logins":[`, "EOF"},
		{"null", "null", "version 0"},
		{"later version", `{"version":3}`, "version 3"},
		{"unknown field", `{"version":1,"logins":null,"refused":null,"more":1}`, "more"},
		{"two values", `{"version":1}{}`, "follows"},
		{"unknown state", `{"version":1,"logins":[` + strings.Replace(entry, "accepted", "perhaps", 1) + `]}`, "perhaps"},
		{"token twice", `{"version":1,"logins":[` + entry + "," + entry + `]}`, "twice"},
		{"hash without rounds", `{"version":1,"refused":[{"token":{"label":"a","serial":"1"},"hash":"` + strings.Repeat("A", 43) + `="}]}`, "makes no sense"},
		{"hash of ages", `{"version":1,"refused":[{"token":{},"rounds":1000000000,"hash":"` + strings.Repeat("A", 43) + `="}]}`, "makes no sense"},
		{"short hash", `{"version":1,"refused":[{"token":{},"rounds":600000,"hash":"AAAA"}]}`, "makes no sense"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := newPINLedger(path).check(token, f)
			if !IsTerminal(err) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v; want %q", err, c.want)
			}
			if err := RecordAcceptedPIN(dir+"/journal", token, f.source); err == nil {
				t.Fatal("it was written over")
			}
		})
	}
	good := `{"version":1,"logins":[` + entry + `],"refused":[]}`
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newPINLedger(path).load(); err != nil {
		t.Fatalf("an intact file: %v", err)
	}
}

// TestPINLedgerFormat: what was written by any version is read for ever.
func TestPINLedgerFormat(t *testing.T) {
	dir := t.TempDir()
	path, token := dir+"/"+pinsFile, worker.TokenRef{Label: "a", Serial: "1"}
	file := pinValue{source: FilePIN("/elsewhere/a.pin"), id: &pinFileID{"a.pin", 5, 1795500000123456789, 4711}, pin: []byte("1234")}
	keyring := pinValue{source: PINSource{fromKeyring, "a"}, pin: []byte("1234")}
	// PBKDF2-HMAC-SHA-256 of 1234 with one round, by Python's hashlib.
	const proof = `"salt":"AAECAwQFBgcICQoLDA0ODw==","rounds":1,"hash":"i/F57D1qcIBBiv5AzlKB8LqqXqCNwubIJuZH8P6K1uI="`
	const v1 = `{"version":1,"logins":[{"token":{"label":"a","serial":"1"},"state":"accepted","file":{"name":"a.pin","size":5,"mtime":1795500000123456789,"inode":4711},"time":"2026-11-23T04:05:06Z"}],"refused":[]}`
	const v2 = `{"version":2,"logins":[{"token":{"label":"a","serial":"1"},"state":"trying","source":"keyring:a","proof":{` + proof + `},"time":"2026-11-23T04:05:06Z"}],"refused":[]}`
	const refused = `{"version":2,"logins":[],"refused":[{"token":{"label":"a","serial":"1"},"file":"a.pin","time":"2026-11-23T04:05:06Z",` + proof + `}]}`
	for _, c := range []struct {
		name, content string
		f             pinValue
		known         bool
		err           string
	}{
		{"version 1, the file", v1, file, true, ""},
		{"version 1, another source", v1, keyring, false, ""},
		{"the PIN that was cut off", v2, keyring, false, "retry-pin"},
		{"another PIN there", v2, pinValue{source: keyring.source, pin: []byte("1235")}, false, ""},
		{"the same PIN elsewhere", v2, pinValue{source: PINSource{fromKeyring, "b"}, pin: []byte("1234")}, false, ""},
		{"refused", refused, keyring, false, "was refused"},
		{"refused, in the file", refused, file, false, "was refused"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		known, err := newPINLedger(path).check(token, c.f)
		if known != c.known || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: known %t, %v", c.name, known, err)
		}
	}
	// A login that was cut off can be let go of, one that was accepted cannot.
	for _, c := range []struct {
		content string
		want    int
	}{{v1, 0}, {v2, 1}} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := AllowPINAgain(dir+"/journal", "b"); n != 0 || err != nil {
			t.Errorf("another token: %d, %v", n, err)
		}
		if n, err := AllowPINAgain(dir+"/journal", "a"); n != c.want || err != nil {
			t.Errorf("%d, %v; want %d", n, err, c.want)
		}
	}
	if known, err := newPINLedger(path).check(token, keyring); known || err != nil {
		t.Errorf("let go of: %t, %v", known, err)
	}
}

// TestPINLedgerUnreadable: what may pass by itself needs no person.
func TestPINLedgerUnreadable(t *testing.T) {
	l := newPINLedger(t.TempDir() + "/" + pinsFile)
	l.read = func(string) ([]byte, error) { return nil, errors.New("input/output error") }
	f := putPIN(t, t.TempDir()+"/pin", "1")
	if _, err := l.check(worker.TokenRef{}, f); err == nil || IsTerminal(err) {
		t.Fatalf("got %v", err)
	}
	l.read = os.ReadFile
	if _, err := l.check(worker.TokenRef{}, f); err != nil {
		t.Fatalf("once it can be read: %v", err)
	}
}

// TestRecordAcceptedPIN does what set-up programs do: note the PINs in a folder
// that then gets its name.
func TestRecordAcceptedPIN(t *testing.T) {
	dir := t.TempDir()
	making, done := dir+"/devnet.making", dir+"/devnet"
	if err := os.Mkdir(making, 0o700); err != nil {
		t.Fatal(err)
	}
	tokens := []worker.TokenRef{{Label: "a", Serial: "1"}, {Label: "b", Serial: "2"}}
	for _, token := range tokens {
		path := making + "/" + token.Label + ".pin"
		putPIN(t, path, "1234"+token.Label)
		if err := RecordAcceptedPIN(making+"/journal", token, FilePIN(path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(making, done); err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		f := need[pinValue](t)(readPINFile(FilePIN(done + "/" + token.Label + ".pin")))
		if known, err := newPINLedger(done+"/"+pinsFile).check(token, f); err != nil || !known {
			t.Fatalf("%s: %v, %v", token, known, err)
		}
	}
	if err := RecordAcceptedPIN(done+"/journal", worker.TokenRef{Label: "a"}, FilePIN(done+"/a.pin")); err == nil {
		t.Fatal("a token without its serial number was recorded")
	}
	if err := RecordAcceptedPIN(done+"/journal", tokens[0], FilePIN(done+"/none.pin")); err == nil {
		t.Fatal("a PIN file that is missing was recorded")
	}
}
