package signer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/link"
	"qcitycoin.org/qcity/signer/worker"
)

func TestReadPIN(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", "1234\n", 0o400)
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(good, link), syscall.Mkfifo(fifo, 0o400)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want, err string }{
		{"one line", good, "1234", ""},
		{"no newline, mode 600", write("plain", "12 34", 0o600), "12 34", ""},
		{"longest", write("longest", strings.Repeat("x", maxPIN)+"\n", 0o400), strings.Repeat("x", maxPIN), ""},
		{"too long", write("long", strings.Repeat("x", maxPIN+1), 0o400), "", "one line"},
		{"much too long", write("huge", strings.Repeat("x", 10*maxPIN), 0o400), "", "one line"},
		{"empty", write("empty", "", 0o400), "", "one line"},
		{"blank line", write("blank", "\n", 0o400), "", "one line"},
		{"two lines", write("two", "1234\n5678\n", 0o400), "", "one line"},
		{"carriage return", write("dos", "1234\r\n", 0o400), "", "one line"},
		{"group may read", write("group", "1234", 0o640), "", "chmod 400 " + dir + "/group"},
		{"all may read", write("all", "1234", 0o644), "", "chmod 400 " + dir + "/all"},
		{"symbolic link", link, "", "symbolic link"},
		{"named pipe", fifo, "", "no regular file"},
		{"directory", dir, "", "no regular file"},
		{"missing", filepath.Join(dir, "none"), "", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := readPINFile(FilePIN(c.path))
			if c.err == "" && (err != nil || string(f.pin) != c.want) {
				t.Fatalf("%q, %v", f.pin, err)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || f.pin != nil) {
				t.Fatalf("%q, %v; want %q", f.pin, err, c.err)
			}
		})
	}
}

func TestPINFileOfAnotherUser(t *testing.T) {
	path := t.TempDir() + "/pin"
	if err := os.WriteFile(path, []byte("1234"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Skip("only root can give a file away: ", err)
	}
	if _, err := readPINFile(FilePIN(path)); err == nil || !strings.Contains(err.Error(), "chown") {
		t.Fatalf("got %v", err)
	}
}

// fakeHSM answers as it is told to.
type fakeHSM struct {
	mu                        sync.Mutex // for what set changes
	key                       softKey
	attributes                worker.Attributes
	find, login, lookup, sign error
	logins                    int
	gone                      bool // the module lists no token
}

var protected = worker.Attributes{Sensitive: worker.True, Extractable: worker.False, Sign: worker.True}

// set says whether the module lists its token, and what becomes of a search.
func (*fakeHSM) Reset(context.Context) error { return nil }

func (f *fakeHSM) set(gone bool, find error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone, f.find = gone, find
}

func (f *fakeHSM) FindToken(_ context.Context, label, serial string) (worker.TokenInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return worker.TokenInfo{TokenRef: worker.TokenRef{Label: label, Serial: serial}}, f.find
}

func (f *fakeHSM) ListTokens(context.Context) ([]worker.TokenInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil, nil
	}
	return []worker.TokenInfo{{TokenRef: worker.TokenRef{Label: "t", Serial: "s"}}}, nil
}

func (f *fakeHSM) LoginAtDevice(context.Context, worker.TokenRef) error {
	f.logins++
	return f.login
}

func (f *fakeHSM) Login(context.Context, worker.TokenRef, []byte) error {
	f.logins++
	return f.login
}

func (f *fakeHSM) FindKey(_ context.Context, _ worker.TokenRef, q worker.KeyQuery) (worker.Key, error) {
	return worker.Key{Algorithm: q.Algorithm, PublicKey: q.PublicKey, Label: "k", ID: []byte{7}, Attributes: f.attributes}, f.lookup
}

func (f *fakeHSM) Sign(_ context.Context, _ worker.KeyRef, digest [32]byte) (worker.Signature, error) {
	if f.sign != nil {
		return worker.Signature{}, f.sign
	}
	return f.key.sign(digest), nil
}

func fakeTokens(t *testing.T, change func(*KeyConfig)) (*fakeHSM, *tokens) {
	t.Helper()
	f := &fakeHSM{key: newSoftKey(types.P256, 5), attributes: protected}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/pin", []byte("1234"), 0o400); err != nil {
		t.Fatal(err)
	}
	c := Config{Journal: dir + "/journal", Keys: []KeyConfig{{PublicKey: f.key.public, TokenLabel: "t", TokenSerial: "s", PIN: FilePIN(dir + "/pin")}}}
	if change != nil {
		change(&c.Keys[0])
	}
	return f, newTokens(f, &c, time.Now, quiet())
}

func fault(k worker.Kind) error { return &worker.Error{Kind: k, Message: "told to fail: " + string(k)} }

func returned(function string, rv worker.RV) error {
	return &worker.Error{Kind: worker.ErrReturned, Function: function, RV: rv, Message: "told to fail"}
}

// TestKeyFaults has each way a key can fail to become ready, and whether it is
// looked at again by itself.
func TestKeyFaults(t *testing.T) {
	for _, c := range []struct {
		name     string
		spoil    func(*fakeHSM)
		key      func(*KeyConfig)
		terminal bool
		logins   int // after two looks
	}{
		{"fit", func(*fakeHSM) {}, nil, false, 1},
		{"token absent", func(f *fakeHSM) { f.find = fault(worker.ErrTokenNotFound) }, nil, false, 0},
		{"two tokens", func(f *fakeHSM) { f.find = fault(worker.ErrTokenAmbiguous) }, nil, true, 0},
		{"worker lost", func(f *fakeHSM) { f.find = fault(worker.ErrLost) }, nil, false, 0},
		{"no PIN file", func(*fakeHSM) {}, func(k *KeyConfig) { k.PIN = FilePIN("none") }, true, 0},
		{"wrong PIN", func(f *fakeHSM) { f.login = fault(worker.ErrPINIncorrect) }, nil, true, 1},
		{"locked PIN", func(f *fakeHSM) { f.login = fault(worker.ErrPINLocked) }, nil, true, 1},
		{"final try", func(f *fakeHSM) { f.login = fault(worker.ErrPINFinalTry) }, nil, true, 1},
		{"login of unknown outcome", func(f *fakeHSM) { f.login = fault(worker.ErrDeadline) }, nil, true, 1},
		{"login that went wrong in the token", func(f *fakeHSM) { f.login = returned("C_Login", 0x30) }, nil, true, 1},
		{"module failed before the login", func(f *fakeHSM) { f.login = returned("C_OpenSession", 0x30) }, nil, false, 2},
		{"worker cannot start", func(f *fakeHSM) { f.login = fault(worker.ErrStart) }, nil, false, 2},
		{"logged in with another PIN", func(f *fakeHSM) { f.login = fault(worker.ErrAlreadyLoggedIn) }, nil, true, 1},
		{"token pulled before login", func(f *fakeHSM) { f.login = fault(worker.ErrTokenNotFound) }, nil, false, 2},
		{"no key", func(f *fakeHSM) { f.lookup = fault(worker.ErrKeyNotFound) }, nil, true, 1},
		{"two keys", func(f *fakeHSM) { f.lookup = fault(worker.ErrKeyAmbiguous) }, nil, true, 1},
		{"wrong label", func(*fakeHSM) {}, func(k *KeyConfig) { k.KeyLabel = "other" }, true, 1},
		{"right label", func(*fakeHSM) {}, func(k *KeyConfig) { k.KeyLabel = "k" }, false, 1},
		{"wrong id", func(*fakeHSM) {}, func(k *KeyConfig) { k.KeyID = []byte{8} }, true, 1},
		{"right id", func(*fakeHSM) {}, func(k *KeyConfig) { k.KeyID = []byte{7} }, false, 1},
		{"two with its name", func(f *fakeHSM) { f.lookup = fault(worker.ErrKeyDuplicate) }, nil, true, 1},
		{"extractable", func(f *fakeHSM) { f.attributes.Extractable = worker.True }, nil, true, 1},
		{"extractable, allowed", func(f *fakeHSM) { f.attributes.Extractable = worker.True }, func(k *KeyConfig) { k.AllowExtractable = true }, false, 1},
		{"not sensitive", func(f *fakeHSM) { f.attributes.Sensitive = worker.False }, nil, true, 1},
		{"may not sign, allowed extractable", func(f *fakeHSM) { f.attributes.Sign = worker.False }, func(k *KeyConfig) { k.AllowExtractable = true }, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, tk := fakeTokens(t, c.key)
			c.spoil(f)
			ctx := context.Background()
			if err := tk.prepare(ctx); IsTerminal(err) != c.terminal || (err != nil) != c.terminal {
				t.Fatalf("got %v", err)
			}
			if err := tk.prepare(ctx); err != nil {
				t.Fatalf("second look: %v", err)
			}
			if f.logins != c.logins {
				t.Fatalf("%d logins, want %d", f.logins, c.logins)
			}
			ready := tk.Ready(f.key.public)
			want := f.find == nil && f.login == nil && !c.terminal
			if (ready == nil) != want || IsTerminal(ready) != c.terminal {
				t.Fatalf("ready: %v", ready)
			}
		})
	}
}

// TestTokenReturns pulls a token at work and puts it back. An auditor sees that.
func TestTokenReturns(t *testing.T) {
	f, tk := fakeTokens(t, nil)
	var noted []audit.Event
	tk.note = func(e audit.Entry) { noted = append(noted, e.Event) }
	wantNoted := func(when string, want ...audit.Event) {
		t.Helper()
		if !slices.Equal(noted, want) {
			t.Errorf("%s: the audit log has %v, want %v", when, noted, want)
		}
		noted = nil
	}
	ctx := context.Background()
	if err := tk.prepare(ctx); err != nil {
		t.Fatal(err)
	}
	wantNoted("at the start", audit.EventLogin, audit.EventKeyReady)
	digest := [32]byte{1}
	for _, pulled := range []worker.Kind{worker.ErrTokenNotFound, worker.ErrKeyNotFound, worker.ErrDown} {
		f.sign, f.lookup = fault(pulled), fault(worker.ErrKeyNotFound)
		if _, err := tk.Sign(ctx, f.key.public, digest); !errors.Is(err, pulled) {
			t.Fatalf("%s: %v", pulled, err)
		}
		if tk.Ready(f.key.public) == nil {
			t.Fatalf("%s: still ready", pulled)
		}
		if err := tk.prepare(ctx); err != nil || tk.Ready(f.key.public) == nil {
			t.Fatalf("%s: while away: %v", pulled, err)
		}
		if err := tk.prepare(ctx); err != nil {
			t.Fatalf("%s: a second look: %v", pulled, err)
		}
		wantNoted(string(pulled)+", away", audit.EventKeyLost, audit.EventLogin)
		f.sign, f.lookup = nil, nil
		if err := tk.prepare(ctx); err != nil || tk.Ready(f.key.public) != nil {
			t.Fatalf("%s: back: %v, %v", pulled, err, tk.Ready(f.key.public))
		}
		wantNoted(string(pulled)+", back", audit.EventKeyReady)
		sig, err := tk.Sign(ctx, f.key.public, digest)
		if err != nil || f.key.public.Verify(digest, sig) != nil {
			t.Fatalf("%s: %v", pulled, err)
		}
	}
	// A wrong signature needs a person.
	f.sign = fault(worker.ErrBadSignature)
	if _, err := tk.Sign(ctx, f.key.public, digest); !errors.Is(err, worker.ErrBadSignature) {
		t.Fatal(err)
	}
	f.sign = nil
	if err := tk.prepare(ctx); err != nil || !IsTerminal(tk.Ready(f.key.public)) {
		t.Fatalf("after a bad signature: %v, %v", err, tk.Ready(f.key.public))
	}
	// The end of a caller's patience is not the token's fault.
	f, tk = fakeTokens(t, nil)
	if err := tk.prepare(ctx); err != nil {
		t.Fatal(err)
	}
	f.sign = context.DeadlineExceeded
	if _, err := tk.Sign(ctx, f.key.public, digest); err == nil || tk.Ready(f.key.public) != nil {
		t.Fatalf("%v, %v", err, tk.Ready(f.key.public))
	}
	if err := tk.Ready(newSoftKey(types.P256, 6).public); err == nil {
		t.Fatal("a key that is not configured is ready")
	}
}

func TestConfigCheck(t *testing.T) {
	keys := testKeys()
	n := testNetwork(t, "signertest", publics(keys))
	good := func() Config {
		return Config{
			Journal: "j", Audit: "a", Socket: "s", Worker: "w", Module: "m",
			Keys: []KeyConfig{
				{PublicKey: keys[0].public, TokenLabel: "a", PIN: FilePIN("p")},
				{PublicKey: keys[1].public, TokenLabel: "a", PIN: FilePIN("p")},
			},
		}
	}
	for _, c := range []struct {
		name, want string
		spoil      func(*Config)
	}{
		{"good", "", func(*Config) {}},
		{"journal", "journal", func(c *Config) { c.Journal = "" }},
		{"audit", "audit", func(c *Config) { c.Audit = "" }},
		{"socket", "socket", func(c *Config) { c.Socket = "" }},
		{"worker", "worker", func(c *Config) { c.Worker = "" }},
		{"module", "module", func(c *Config) { c.Module = "" }},
		{"rate", "signatures_per_second", func(c *Config) { c.SignaturesPerSecond = -1 }},
		{"no keys", "keys: none", func(c *Config) { c.Keys = nil }},
		{"a key that is to join", "", func(c *Config) { c.Keys[0].PublicKey = newSoftKey(types.P256, 9).public }},
		{"twice", "listed twice", func(c *Config) { c.Keys[1].PublicKey = c.Keys[0].PublicKey }},
		{"no label", "token is missing", func(c *Config) { c.Keys[0].TokenLabel = "" }},
		{"no PIN", "pin is missing", func(c *Config) { c.Keys[0].PIN = PINSource{} }},
		{"two sources of a PIN", "two sources", func(c *Config) { c.Keys[1].PIN = FilePIN("q") }},
		{"one descriptor for two tokens", "read once", func(c *Config) {
			c.Keys[0].PIN, c.Keys[1].PIN, c.Keys[1].TokenLabel = PINSource{fromFD, "3"}, PINSource{fromFD, "3"}, "b"
		}},
		{"too many sessions", "sessions", func(c *Config) { c.Sessions = worker.MaxParallel + 1 }},
		{"a node", "", func(c *Config) { c.Identity, c.Nodes = "id", []NodeConfig{{"a:1", link.Pin{1}}} }},
		{"a node without an identity", "identity", func(c *Config) { c.Nodes = []NodeConfig{{"a:1", link.Pin{1}}} }},
		{"a node without a pin", "pin", func(c *Config) { c.Identity, c.Nodes = "id", []NodeConfig{{Address: "a:1"}} }},
		{"a node twice", "a:1 is listed twice", func(c *Config) {
			c.Identity, c.Nodes = "id", []NodeConfig{{"a:1", link.Pin{1}}, {"a:1", link.Pin{1}}}
		}},
	} {
		cfg := good()
		c.spoil(&cfg)
		err := cfg.Check()
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Open(context.Background(), Config{}, n, quiet()); !IsTerminal(err) {
		t.Fatalf("Open with an empty configuration: %v", err)
	}
	noIdentity := good()
	noIdentity.Identity, noIdentity.Nodes = t.TempDir()+"/none", []NodeConfig{{"a:1", link.Pin{1}}}
	if _, err := Open(context.Background(), noIdentity, n, quiet()); !IsTerminal(err) || !strings.Contains(err.Error(), "identity") {
		t.Fatalf("Open without the identity file: %v", err)
	}
}
