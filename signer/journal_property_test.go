package signer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// witness is an outside observer of everything a signer releases, over any
// number of its lives.
type witness struct {
	bySlot map[uint32]string // the one release of a height: digest and signature
	byVote map[voted]string  // the one signature of a key for a target height, and its link
	links  map[types.PublicKey][]consensus.Link
}

type voted struct {
	key    types.PublicKey
	height uint32
}

func newWitness() *witness {
	return &witness{make(map[uint32]string), make(map[voted]string), make(map[types.PublicKey][]consensus.Link)}
}

func (w *witness) clone() *witness {
	c := &witness{maps.Clone(w.bySlot), maps.Clone(w.byVote), make(map[types.PublicKey][]consensus.Link)}
	for k, list := range w.links {
		c.links[k] = slices.Clone(list)
	}
	return c
}

// mayVote notes that the token may have signed a vote. No two of a key conflict.
func (w *witness) mayVote(key types.PublicKey, l consensus.Link) error {
	for _, old := range w.links[key] {
		if err := consensus.Conflict(old, l); err != nil {
			return fmt.Errorf("key %s voted for %+v and %+v: %w", key, old, l, err)
		}
	}
	w.links[key] = append(w.links[key], l)
	return nil
}

func (w *witness) sawVote(key types.PublicKey, l consensus.Link, sig [64]byte) error {
	at, release := voted{key, l.Target.Height}, fmt.Sprintf("%+v %x", l, sig)
	if old, ok := w.byVote[at]; ok && old != release {
		return fmt.Errorf("key %s: released %s, and then %s", key, old, release)
	}
	w.byVote[at] = release
	return w.mayVote(key, l)
}

func (w *witness) saw(height uint32, key types.PublicKey, digest types.Hash, sig [64]byte) error {
	release := fmt.Sprintf("%s %s %x", key, digest, sig)
	if old, ok := w.bySlot[height]; ok && old != release {
		return fmt.Errorf("height %d: released %s, and then %s", height, old, release)
	}
	w.bySlot[height] = release
	return nil
}

// TestJournalProperty makes random claims, votes and seals on a disk that
// fails, before or after doing its work, and on machines that are killed and lose
// power. Whatever happens, one height has one release, one target height has one
// vote of a key, and no two votes of a key conflict.
func TestJournalProperty(t *testing.T) {
	keys := testKeys()
	links := allLinks(1, 2, 3, 4, 5, 6)
	rapid.Check(t, func(t *rapid.T) {
		disk := durabletest.New()
		if err := createJournal(disk, "j", testNet, publics(keys), 0); err != nil {
			t.Fatal(err)
		}
		w := newWitness()
		var j *Journal
		nonce := byte(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if j == nil {
				var err error
				if j, err = openJournal(disk, "j", testNet, publics(keys)); err != nil {
					t.Fatalf("reopening: %v", err)
				}
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				disk.Fault, j = nil, nil
				disk = disk.Kill()
			case 1:
				seed := rapid.Uint64().Draw(t, "seed")
				disk.Fault, j = nil, nil
				disk = disk.Crash(rand.New(rand.NewPCG(seed, 1)))
			case 2:
				disk.Fault = drawFault(t)
			case 3, 4, 5:
				key := keys[rapid.IntRange(0, 1).Draw(t, "voter")]
				nonce++
				if err := attemptVote(j, key, rapid.SampledFrom(links).Draw(t, "link"), nonce, rapid.Bool().Draw(t, "token works"), w); err != nil {
					t.Fatal(err)
				}
			default:
				key := keys[rapid.IntRange(0, 2).Draw(t, "key")]
				c := claimOf(key, uint32(rapid.IntRange(1, 6).Draw(t, "height")), byte(rapid.IntRange(1, 3).Draw(t, "block")))
				nonce++
				if err := attempt(j, c, nonce, rapid.Bool().Draw(t, "token works"), w); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func drawFault(t *rapid.T) func(durabletest.Op, string) *durabletest.Fault {
	left := rapid.IntRange(0, 4).Draw(t, "calls before the fault")
	fault := &durabletest.Fault{
		Err:   rapid.SampledFrom([]error{syscall.EIO, syscall.ENOSPC}).Draw(t, "error"),
		Short: rapid.IntRange(0, 200).Draw(t, "short"),
		After: rapid.Bool().Draw(t, "after"),
	}
	return func(durabletest.Op, string) *durabletest.Fault {
		if left--; left < 0 {
			return fault
		}
		return nil
	}
}

// attempt does what the service does with a claim. Each signature differs.
func attempt(j *Journal, c *Claim, nonce byte, works bool, w *witness) error {
	seal, err := j.Claim(c)
	if err != nil {
		return nil
	}
	if seal != nil {
		return w.saw(c.Height, c.Key, c.Digest, *seal)
	}
	if !works {
		return nil
	}
	sig, err := j.Seal(c.Height, c.Key, [64]byte{nonce})
	if err != nil {
		return nil
	}
	return w.saw(c.Height, c.Key, c.Digest, sig)
}

func attemptVote(j *Journal, key softKey, l consensus.Link, nonce byte, works bool, w *witness) error {
	seal, err := j.ClaimVote(key.public, l)
	if err != nil {
		return nil
	}
	if seal != nil {
		return w.sawVote(key.public, l, *seal)
	}
	if err := w.mayVote(key.public, l); err != nil || !works {
		return err
	}
	sig, err := j.SealVote(key.public, l, [64]byte{nonce, 1})
	if err != nil {
		return nil
	}
	return w.sawVote(key.public, l, sig)
}

// TestFaultAtEveryCall walks one fault over every write and sync of a fixed
// history, then reloads and asks for everything again, and for rivals.
func TestFaultAtEveryCall(t *testing.T) {
	keys := testKeys()
	history := func(j *Journal, w *witness, nonce byte) error {
		for h := uint32(1); h <= 3; h++ {
			for block := byte(1); block <= 2; block++ {
				for i := range 2 {
					if err := attempt(j, claimOf(keys[i], h, block), nonce+block*16+byte(i), h != 2, w); err != nil {
						return err
					}
				}
				if err := attemptVote(j, keys[0], linkOf(h-1, block, h+uint32(block), block), nonce+block*16+8, h != 2, w); err != nil {
					return err
				}
			}
		}
		return nil
	}
	runs := 0
	for at := 0; ; at++ {
		hit := false
		for _, after := range []bool{false, true} {
			for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
				disk, j := memJournal(t, keys, 0)
				n := 0
				disk.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
					if n++; n == at+1 {
						hit = true
						return &durabletest.Fault{Err: cause, After: after, Short: 20}
					}
					return nil
				}
				w := newWitness()
				if err := history(j, w, 0); err != nil {
					t.Fatalf("call %d: %v", at, err)
				}
				disk.Fault = nil
				for seed := range uint64(3) {
					again, err := openJournal(disk.Crash(rand.New(rand.NewPCG(seed, uint64(at)))), "j", testNet, publics(keys))
					if err != nil {
						t.Fatalf("call %d, after %v: reopening: %v", at, after, err)
					}
					if err := history(again, w.clone(), 100); err != nil {
						t.Fatalf("call %d, after %v, reopened: %v", at, after, err)
					}
					runs++
				}
			}
		}
		if !hit {
			break
		}
	}
	if runs < 100 {
		t.Fatalf("only %d runs: the faults did not reach the journal", runs)
	}
}
