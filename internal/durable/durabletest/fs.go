// Package durabletest is a file system in memory that fails on demand and can
// lose power. Tests of everything that must survive a crash use it in place of
// the real one.
package durabletest

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"qcitycoin.org/qcity/internal/durable"
)

// Op is one kind of call that can be made to fail.
type Op string

// The calls that Fault is asked about.
const (
	Open     Op = "open"
	Create   Op = "create" // an open that makes the file
	Write    Op = "write"
	Truncate Op = "truncate"
	Sync     Op = "sync"
	Rename   Op = "rename"
	Remove   Op = "remove"
	SyncDir  Op = "syncdir"
)

// Fault is how a call fails.
type Fault struct {
	Err error
	// Short is how many bytes a failing write still wrote.
	Short int
	// After: the call did all of its work, durably, before it failed.
	After bool
	// Drop: the failing sync leaves the pages it could not write marked clean,
	// as Linux does (https://lwn.net/Articles/752063/): they read as written, and
	// no later sync writes them, unless they are written again.
	Drop bool
}

// sector is the unit a disk writes in one step, in bytes.
const sector = 512

// FS is the file system. Names are whole paths; SyncDir covers all of them.
type FS struct {
	// Fault is asked before each call; nil lets it succeed. Set it while no
	// call is under way.
	Fault func(op Op, name string) *Fault

	mu sync.Mutex
	// dirs are the states of the name table since it was last durable, oldest
	// (the durable one) first: a crash leaves any one of them.
	dirs []map[string]*inode
}

type inode struct {
	live, durable []byte
	dropped       map[int]bool // sectors of live that no sync will write
	locked        bool
}

// New returns an empty file system.
func New() *FS { return &FS{dirs: []map[string]*inode{{}}} }

var _ durable.FS = (*FS)(nil)

func (f *FS) names() map[string]*inode { return f.dirs[len(f.dirs)-1] }

// change records a new state of the name table.
func (f *FS) change(edit func(map[string]*inode)) {
	next := maps.Clone(f.names())
	edit(next)
	f.dirs = append(f.dirs, next)
}

// run performs one call with its fault, under the lock. persist makes the
// call's effect durable, for faults that come after it.
func (f *FS) run(op Op, name string, do func() error, persist func()) error {
	var fault *Fault
	if f.Fault != nil {
		fault = f.Fault(op, name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault == nil {
		return do()
	}
	if node := f.names()[name]; fault.Drop && node != nil {
		node.drop()
	}
	if fault.After {
		if err := do(); err != nil {
			return err
		}
		persist()
	}
	return &fs.PathError{Op: string(op), Path: name, Err: fault.Err}
}

func (f *FS) persistNames() { f.dirs = f.dirs[len(f.dirs)-1:] }

// OpenFile opens or creates a file; flags are those of os.OpenFile.
func (f *FS) OpenFile(name string, flag int, _ fs.FileMode) (durable.File, error) {
	var node *inode
	op := Open
	if flag&os.O_CREATE != 0 && !f.has(name) {
		op = Create
	}
	err := f.run(op, name, func() error {
		node = f.names()[name]
		switch {
		case node == nil && flag&os.O_CREATE == 0:
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case node != nil && flag&os.O_EXCL != 0:
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
		case node == nil:
			node = &inode{}
			f.change(func(names map[string]*inode) { names[name] = node })
		}
		return nil
	}, f.persistNames)
	if err != nil {
		return nil, err
	}
	return &file{fs: f, node: node, name: name}, nil
}

func (f *FS) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names()[name] != nil
}

// Rename replaces newName by oldName.
func (f *FS) Rename(oldName, newName string) error {
	return f.run(Rename, newName, func() error {
		if f.names()[oldName] == nil {
			return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
		}
		f.change(func(names map[string]*inode) {
			names[newName] = names[oldName]
			delete(names, oldName)
		})
		return nil
	}, f.persistNames)
}

// Remove deletes a name.
func (f *FS) Remove(name string) error {
	return f.run(Remove, name, func() error {
		if f.names()[name] == nil {
			return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
		}
		f.change(func(names map[string]*inode) { delete(names, name) })
		return nil
	}, f.persistNames)
}

// SyncDir makes every name durable.
func (f *FS) SyncDir(dir string) error {
	return f.run(SyncDir, dir, func() error { f.persistNames(); return nil }, func() {})
}

// Kill returns what another process finds after this one was killed: every
// write that was made, and no locks.
func (f *FS) Kill() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := New()
	for name, node := range f.names() {
		next.names()[name] = &inode{live: clone(node.live), durable: clone(node.durable), dropped: maps.Clone(node.dropped)}
	}
	return next
}

// Crash returns what is found after a power cut: what was synced, and of the
// rest any subset that rng picks, name by name table and sector by sector.
func (f *FS) Crash(rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := New()
	for name, node := range f.dirs[rng.IntN(len(f.dirs))] {
		content := node.survive(rng)
		next.names()[name] = &inode{live: content, durable: clone(content)}
	}
	return next
}

// survive mixes the durable and the live content of a file.
func (n *inode) survive(rng *rand.Rand) []byte {
	low, high := min(len(n.live), len(n.durable)), max(len(n.live), len(n.durable))
	size := [...]int{len(n.durable), len(n.live), low + rng.IntN(high-low+1)}[rng.IntN(3)]
	out := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := n.durable
		if rng.IntN(2) == 0 && !n.dropped[at/sector] {
			from = n.live
		}
		if at < len(from) {
			copy(out[at:min(at+sector, size)], from[at:])
		}
	}
	return out
}

// Names lists the files in a directory.
func (f *FS) Names(dir string) (names []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.names() {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

// Content returns what a file holds now (nil if there is none).
func (f *FS) Content(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if node := f.names()[name]; node != nil {
		return clone(node.live)
	}
	return nil
}

// SetContent puts a durable file there.
func (f *FS) SetContent(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names()[name] = &inode{live: clone(b), durable: clone(b)}
	f.persistNames()
}

func clone(b []byte) []byte { return append([]byte{}, b...) }

type file struct {
	fs     *FS
	node   *inode
	name   string
	holder bool
}

func (f *file) persist() { f.node.durable = f.node.synced() }

// synced is what a sync makes durable: everything but what was dropped.
func (n *inode) synced() []byte {
	out := clone(n.live)
	for s := range n.dropped {
		at, end := s*sector, min((s+1)*sector, len(out))
		if at >= end {
			continue
		}
		clear(out[at:end])
		if at < len(n.durable) {
			copy(out[at:end], n.durable[at:])
		}
	}
	return out
}

// drop marks what was not durable yet as clean.
func (n *inode) drop() {
	if n.dropped == nil {
		n.dropped = make(map[int]bool)
	}
	for at := 0; at < len(n.live); at += sector {
		end := min(at+sector, len(n.live))
		if end > len(n.durable) || !bytes.Equal(n.live[at:end], n.durable[at:end]) {
			n.dropped[at/sector] = true
		}
	}
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.live)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.live[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n := len(p)
	var fault *Fault
	if f.fs.Fault != nil {
		fault = f.fs.Fault(Write, f.name)
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if fault != nil && !fault.After {
		n = min(fault.Short, n)
	}
	f.write(p[:n], off)
	if fault == nil {
		return n, nil
	}
	if fault.After {
		f.persist()
	}
	return n, &fs.PathError{Op: "write", Path: f.name, Err: fault.Err}
}

func (f *file) write(p []byte, off int64) {
	if end := int(off) + len(p); end > len(f.node.live) {
		f.node.live = append(f.node.live, make([]byte, end-len(f.node.live))...)
	}
	copy(f.node.live[off:], p)
	for at := int(off) / sector; len(p) > 0 && at <= (int(off)+len(p)-1)/sector; at++ {
		delete(f.node.dropped, at)
	}
}

func (f *file) Truncate(size int64) error {
	return f.fs.run(Truncate, f.name, func() error {
		b := make([]byte, size)
		copy(b, f.node.live)
		f.node.live = b
		return nil
	}, f.persist)
}

func (f *file) Sync() error {
	return f.fs.run(Sync, f.name, func() error { f.persist(); return nil }, func() {})
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.live)), nil
}

func (f *file) Lock() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.node.locked {
		return durable.ErrInUse
	}
	f.node.locked, f.holder = true, true
	return nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.holder {
		f.node.locked, f.holder = false, false
	}
	return nil
}
