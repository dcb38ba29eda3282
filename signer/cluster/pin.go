package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
)

// state is the content of the pin's file.
type state struct {
	Network  types.Hash `json:"network"`
	Cluster  id         `json:"cluster"`
	Members  []id       `json:"members"`  // those that vote, ascending
	Revision int64      `json:"revision"` // the highest seen
	Marks    []pinMark  `json:"marks"`    // the highest claims and floors seen, by key and kind
}

type pinMark struct {
	Key    types.PublicKey `json:"key"`
	Kind   Kind            `json:"kind"`
	Height uint32          `json:"height"`          // 0: a floor was seen, and no claim
	Value  string          `json:"value"`           // of the claim, as etcd has it
	Floor  uint32          `json:"floor,omitempty"` // 0: none was seen
}

// check reports a mark that nothing seen can have left.
func (m *pinMark) check() error {
	if m.Height == 0 && m.Floor > 0 && m.Value == "" && slices.Contains(kinds, m.Kind) {
		return nil
	}
	_, err := decodeClaim(slot{m.Kind, m.Key}, m.Height, []byte(m.Value))
	if err != nil || m.Height == 0 || !slices.Contains(kinds, m.Kind) {
		return fmt.Errorf("the mark of %s, kind %s, height %d makes no sense: %w", m.Key, m.Kind, m.Height, err)
	}
	return nil
}

// id is a number that etcd prints in hexadecimal.
type id uint64

func (i id) String() string               { return strconv.FormatUint(uint64(i), 16) }
func (i id) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

func (i *id) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	*i = id(n)
	return err
}

// encode writes a line of JSON and a line with its SHA-256: a flipped bit in the
// revision would otherwise go unnoticed.
func (s *state) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and texts only
	}
	sum := sha256.Sum256(b)
	return fmt.Appendf(nil, "%s\n%x\n", b, sum)
}

func decodeState(b []byte) (s state, err error) {
	text, rest, _ := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(text)
	if string(rest) != hex.EncodeToString(sum[:])+"\n" {
		return s, errors.New("its checksum is wrong")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return state{}, err
	}
	for _, m := range s.Marks {
		if err := m.check(); err != nil {
			return state{}, err
		}
	}
	return s, nil
}

// readState reads the file of a pin.
func readState(path string, network types.Hash) (state, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, failed(ErrMisconfigured, err, "%s is missing: this box has not joined the cluster, or forgot what it saw of it; join it (docs/cluster.md, \"Joining\")", path)
	}
	if err != nil {
		return state{}, failed(ErrMisconfigured, err, "reading what this box knows of the cluster")
	}
	s, err := decodeState(b)
	if err != nil {
		return state{}, failed(ErrDamaged, err, "%s cannot be read: keep it, and %s", path, remedyRestore)
	}
	if s.Network != network {
		return state{}, failed(ErrMisconfigured, nil, "%s belongs to network %s, this is network %s: correct the path or the network", path, s.Network, network)
	}
	return s, nil
}

// lock takes the exclusive right to a pin: a second process that wrote an older one over
// it would make it sink. The right ends with Close or with the process.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, failed(ErrMisconfigured, err, "locking what this box knows of the cluster")
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, failed(ErrUnavailable, errors.Join(err, f.Close()), "%s is in use: is a signer running? Stop it first", path)
	}
	return f, nil
}

// pin is what this box has seen of the cluster, in memory and on disk. Memory is
// never below the disk. It is safe for concurrent use.
type pin struct {
	path string

	mu      sync.Mutex
	cluster id
	members []id
	network types.Hash
	rev     int64
	marks   map[slot]pinMark
	changes uint64 // counts changes of rev and marks

	writing sync.Mutex
	written uint64 // changes that the file has; under writing
	closed  bool   // under writing
	write   func(path string, data []byte, perm fs.FileMode) error
}

func newPin(path string, s state) *pin {
	p := &pin{
		path: path, cluster: s.Cluster, members: s.Members, network: s.Network, rev: s.Revision,
		marks: make(map[slot]pinMark), changes: 1, write: durable.WriteFile,
	}
	for _, m := range s.Marks {
		p.marks[slot{m.Kind, m.Key}] = m
	}
	return p
}

// origin holds where an answer comes from against the pin. No part of the answer
// may be believed before.
func (p *pin) origin(cluster, member uint64) error {
	if id(cluster) != p.cluster {
		return failed(ErrMisconfigured, nil, "etcd cluster %s answered, this box has joined cluster %s: correct the endpoints; %s", id(cluster), p.cluster, remedyJoin)
	}
	if !slices.Contains(p.members, id(member)) {
		return failed(ErrMisconfigured, nil, "etcd member %s answered, which was no member when this box joined cluster %s: %s", id(member), p.cluster, remedyJoin)
	}
	return nil
}

// revision returns the highest revision seen.
func (p *pin) revision() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rev
}

// mark returns the highest claim and floor seen of a key and kind; ok is false if
// no claim was.
func (p *pin) mark(s slot) (m pinMark, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m = p.marks[s]
	return m, m.Height > 0
}

// saw raises the pin, in memory, by a revision and by claims that the cluster
// holds. Nothing ever sinks.
func (p *pin) saw(revision int64, claims ...Claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if revision > p.rev {
		p.rev = revision
		p.changes++
	}
	for _, c := range claims {
		s := slot{c.Kind, c.Key}
		if m := p.marks[s]; c.Height > m.Height {
			p.marks[s] = pinMark{c.Key, c.Kind, c.Height, c.encode(), m.Floor}
			p.changes++
		}
	}
}

// sawFloor raises the floor of a key and kind, in memory.
func (p *pin) sawFloor(s slot, floor uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.marks[s]; floor > m.Floor {
		m.Key, m.Kind, m.Floor = s.key, s.kind, floor
		p.marks[s] = m
		p.changes++
	}
}

// save makes durable what was seen before the call. Calls that meet share a write.
func (p *pin) save() error {
	p.mu.Lock()
	wanted := p.changes
	p.mu.Unlock()
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.closed {
		return failed(ErrUnavailable, nil, "the connection to the cluster is closed")
	}
	if p.written >= wanted {
		return nil
	}
	p.mu.Lock()
	s, now := p.snapshot(), p.changes
	p.mu.Unlock()
	if err := p.write(p.path, s.encode(), 0o600); err != nil {
		return failed(ErrUnavailable, err, "what was seen of the cluster cannot be made durable, so nothing is released")
	}
	p.written = now
	return nil
}

// close ends writing.
func (p *pin) close() {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.closed = true
}

func (p *pin) snapshot() state {
	s := state{Network: p.network, Cluster: p.cluster, Members: p.members, Revision: p.rev}
	for _, m := range p.marks {
		s.Marks = append(s.Marks, m)
	}
	slices.SortFunc(s.Marks, func(a, b pinMark) int {
		return bytes.Compare(append(a.Key.Bytes(), a.Kind...), append(b.Key.Bytes(), b.Kind...))
	})
	return s
}
