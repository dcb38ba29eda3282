package signer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/types"
)

// onMachine is the real disk of a machine with another id.
func onMachine(id string) disk {
	return disk{place: func(path string) (types.Hash, error) { return placeOf(path, id) }}
}

const (
	machineA = "0123456789abcdef0123456789abcdef"
	machineB = "fedcba9876543210fedcba9876543210"
)

func copyFile(tb testing.TB, to, from string) {
	tb.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // in place, if it is there
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}

// sealUpTo opens the journal at its place, signs slots and closes it again.
func sealUpTo(tb testing.TB, d disk, path string, key softKey, from, to uint32) {
	tb.Helper()
	j, err := openJournal(d, path, testNet, []types.PublicKey{key.public})
	if err != nil {
		tb.Fatal(err)
	}
	for h := from; h <= to; h++ {
		must(tb, j, claimOf(key, h, 1))
		if _, err := j.Seal(h, key.public, [64]byte{byte(h)}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		tb.Fatal(err)
	}
}

// TestPlace copies, moves, restores and rolls back journals on a real disk.
func TestPlace(t *testing.T) {
	key := testKeys()[0]
	a := onMachine(machineA)
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string) (path string, d disk)
		kind Kind   // empty: accepted
		want string // in the message
		// floor must be given to adopt it, the word that nothing newer exists is not enough.
		floor bool
	}{
		{"as it was", func(_ *testing.T, dir string) (string, disk) { return dir + "/journal", a }, "", "", false},
		{"a reboot changes nothing", func(_ *testing.T, dir string) (string, disk) { return dir + "/journal", onMachine(machineA) }, "", "", false},
		{"directory renamed", func(t *testing.T, dir string) (string, disk) {
			if err := os.Rename(dir, dir+".moved"); err != nil {
				t.Fatal(err)
			}
			return dir + ".moved/journal", a
		}, "", "", false},
		{"another machine", func(_ *testing.T, dir string) (string, disk) { return dir + "/journal", onMachine(machineB) }, ErrMoved, "another machine", false},
		{"directory copied", func(t *testing.T, dir string) (string, disk) {
			if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			return dir + ".copy/journal", a
		}, ErrMoved, "is a copy", false},
		{"journal copied without its mark", func(t *testing.T, dir string) (string, disk) {
			copyFile(t, dir+"/other", dir+"/journal")
			return dir + "/other", a
		}, ErrMoved, "lost the mark", false},
		{"mark removed", func(t *testing.T, dir string) (string, disk) {
			if err := os.Remove(dir + "/journal.mark"); err != nil {
				t.Fatal(err)
			}
			return dir + "/journal", a
		}, ErrMoved, "lost the mark", false},
		{"same content renamed over it", func(t *testing.T, dir string) (string, disk) {
			copyFile(t, dir+"/restored", dir+"/journal")
			if err := os.Rename(dir+"/restored", dir+"/journal"); err != nil {
				t.Fatal(err)
			}
			return dir + "/journal", a
		}, ErrMoved, "is a copy", false},
		{"older copy renamed over it", func(t *testing.T, dir string) (string, disk) {
			if err := os.Rename(dir+"/backup", dir+"/journal"); err != nil {
				t.Fatal(err)
			}
			return dir + "/journal", a
		}, ErrRolledBack, "an older copy", true},
		{"older copy written into it", func(t *testing.T, dir string) (string, disk) {
			copyFile(t, dir+"/journal", dir+"/backup")
			return dir + "/journal", a
		}, ErrRolledBack, "an older copy", true},
		{"older journal and mark renamed over them", func(t *testing.T, dir string) (string, disk) {
			for _, name := range []string{"", ".mark"} {
				if err := os.Rename(dir+"/backup"+name, dir+"/journal"+name); err != nil {
					t.Fatal(err)
				}
			}
			return dir + "/journal", a
		}, ErrMoved, "is a copy", false},
		{"older journal and mark written into them", func(t *testing.T, dir string) (string, disk) {
			for _, name := range []string{"", ".mark"} {
				copyFile(t, dir+"/journal"+name, dir+"/backup"+name)
			}
			return dir + "/journal", a
		}, ErrMoved, "restored from a copy", false},
		{"a copy that went on elsewhere", func(t *testing.T, dir string) (string, disk) {
			copyFile(t, dir+"/journal", dir+"/fork")
			return dir + "/journal", a
		}, ErrRolledBack, "another way", true},
		{"mark of another journal", func(t *testing.T, dir string) (string, disk) {
			if err := createJournal(a, dir+"/second", testNet, []types.PublicKey{key.public}, 0); err != nil {
				t.Fatal(err)
			}
			copyFile(t, dir+"/journal.mark", dir+"/second.mark")
			return dir + "/journal", a
		}, ErrMoved, "another journal", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "signer")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := dir + "/journal"
			if err := createJournal(a, path, testNet, []types.PublicKey{key.public}, 0); err != nil {
				t.Fatal(err)
			}
			sealUpTo(t, a, path, key, 1, 3)
			copyFile(t, dir+"/backup", path)
			copyFile(t, dir+"/backup.mark", path+".mark")
			copyFile(t, dir+"/fork", path)
			copyFile(t, dir+"/fork.mark", path+".mark")
			fork, err := adoptJournal(onMachine(machineB), dir+"/fork", testNet, Adoption{NothingNewer: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := fork.Close(); err != nil {
				t.Fatal(err)
			}
			sealUpTo(t, onMachine(machineB), dir+"/fork", key, 10, 20)
			sealUpTo(t, a, path, key, 4, 5)

			path, d := c.do(t, dir)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			j, err := openJournal(d, path, testNet, []types.PublicKey{key.public})
			if c.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				must(t, j, claimOf(key, 50, 1))
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !IsTerminal(err) || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "watermark adopt") {
				t.Fatalf("terminal %v, %v; want %s with %q", IsTerminal(err), err, c.kind, c.want)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Fatalf("a refused journal was changed: %v", err)
			}
			if _, err := adoptJournal(d, path, testNet, Adoption{}); err == nil {
				t.Fatal("adopted without a word")
			}
			adoption := Adoption{NothingNewer: true}
			if c.floor {
				for _, low := range []Adoption{adoption, {Floor: 2}} {
					if _, err := adoptJournal(d, path, testNet, low); !errors.Is(err, ErrRolledBack) {
						t.Fatalf("a journal that was rolled back was adopted with %+v: %v", low, err)
					}
				}
				adoption = Adoption{Floor: 30}
			}
			if j, err = adoptJournal(d, path, testNet, adoption); err != nil {
				t.Fatal(err)
			}
			if c.floor {
				_, err := j.Claim(claimOf(key, 30, 1))
				wantRule(t, err, RuleFloor)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if j, err = openJournal(d, path, testNet, []types.PublicKey{key.public}); err != nil {
				t.Fatalf("after it was adopted: %v", err)
			}
			must(t, j, claimOf(key, 50, 1))
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestKilledMark: a signer that was killed has told the mark of every
// record, so that an older copy written into the file is noticed.
func TestKilledMark(t *testing.T) {
	key := testKeys()[0]
	disk := durabletest.New()
	if err := createJournal(on(disk), "j", testNet, publics(testKeys()), 0); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(on(disk), "j", testNet, nil)
	if err != nil {
		t.Fatal(err)
	}
	must(t, j, claimOf(key, 10, 1))
	backup := disk.Content("j")
	must(t, j, claimOf(key, 20, 1))
	killed := disk.Kill()
	killed.SetContent("j", backup)
	if _, err := openJournal(on(killed), "j", testNet, nil); !errors.Is(err, ErrRolledBack) {
		t.Fatalf("got %v", err)
	}
}

// TestMarkLife: journal and mark are copied while the signer runs, and written
// back after it has signed for a while without a restart.
func TestMarkLife(t *testing.T) {
	key := testKeys()[0]
	dir := t.TempDir()
	path := dir + "/journal"
	if err := CreateJournal(path, testNet, []types.PublicKey{key.public}, 0); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(path, testNet, nil)
	if err != nil {
		t.Fatal(err)
	}
	must(t, j, claimOf(key, 1, 1))
	for _, name := range []string{"", ".mark"} {
		copyFile(t, dir+"/backup"+name, path+name)
	}
	for h := uint32(2); h <= markLife+1; h++ {
		must(t, j, claimOf(key, h, 1))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if v, err := ViewJournal(path, testNet); err != nil || v.Refusal != nil {
		t.Fatal(err, v.Refusal)
	}
	for _, name := range []string{"", ".mark"} {
		copyFile(t, path+name, dir+"/backup"+name)
	}
	if _, err := OpenJournal(path, testNet, nil); !errors.Is(err, ErrMoved) {
		t.Fatalf("got %v", err)
	}
}

// TestUnboundJournal: a journal of an earlier version has no place and no mark.
// It is bound when it is first opened; not if a mark shows that it was bound before.
func TestUnboundJournal(t *testing.T) {
	disk, j := memJournal(t, testKeys(), 0)
	must(t, j, claimOf(testKeys()[0], 10, 1))
	content := disk.Content("j")
	// Its first record alone: what version 1 wrote.
	n := 8 + 8 + int(content[8]) + int(content[9])<<8
	old := durabletest.New()
	old.SetContent("j", content[:n])
	j, err := openJournal(on(old), "j", testNet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if j.mem.place.IsZero() {
		t.Fatal("it is not bound")
	}
	if _, err := openJournal(at(old.Kill(), types.Hash{2}), "j", testNet, nil); !errors.Is(err, ErrMoved) {
		t.Fatalf("elsewhere: %v", err)
	}
	back := old.Kill()
	back.SetContent("j", content[:n])
	if _, err := openJournal(on(back), "j", testNet, nil); !errors.Is(err, ErrRolledBack) {
		t.Fatalf("set back to before it was bound: %v", err)
	}
}

func TestMark(t *testing.T) {
	m := mark{fileID: [16]byte{1, 15: 2}, records: 77, chain: types.Hash{3, 31: 4}, self: types.Hash{5, 31: 6}}
	text := m.String()
	if len(text) >= markSlot {
		t.Fatalf("a mark of %d bytes", len(text))
	}
	if back, ok := parseMark(text); !ok || back != m {
		t.Fatalf("%+v, %v", back, ok)
	}
	for bit := range 8 * len(text) {
		bad := []byte(text)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, ok := parseMark(string(bad)); ok {
			t.Fatalf("bit %d: read as a mark: %q", bit, bad)
		}
	}
}

// TestViewJournal looks at a journal that is in use, and at one that would be refused.
func TestViewJournal(t *testing.T) {
	keys := testKeys()
	dir := t.TempDir()
	if err := CreateJournal(dir+"/j", testNet, publics(keys), 3); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(dir+"/j", testNet, publics(keys))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	must(t, j, claimOf(keys[0], 10, 1))
	f, err := os.OpenFile(dir+"/j", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "\x40\x00\x00\x00"); err != nil { // of a record that is being written
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(dir + "/j")
	if err != nil {
		t.Fatal(err)
	}
	v, err := ViewJournal(dir+"/j", testNet)
	if err != nil || v.Refusal != nil {
		t.Fatal(err, v.Refusal)
	}
	if len(v.Marks) != len(keys) || v.Status.Highest != 10 || v.Marks[0].Floor != 3 || v.Marks[0].FloorSource != FloorInit {
		t.Fatalf("%+v", v)
	}
	away := t.TempDir()
	if err := os.CopyFS(away, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if v, err = ViewJournal(away+"/j", testNet); err != nil || !errors.Is(v.Refusal, ErrMoved) {
		t.Fatalf("a copy: %v, %v", err, v)
	}
	if after, err := os.ReadFile(dir + "/j"); err != nil || string(after) != string(content) {
		t.Fatalf("looking changed it: %v", err)
	}
}
