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
	"qcitycoin.org/qcity/signer/interchange"
)

// witness is an outside observer of everything a signer releases, over any
// number of its lives.
type witness struct {
	bySlot map[uint32]string // the one release of a height: digest and signature
	byVote map[voted]string  // the one signature of a key for a target height, and its link
	links  map[types.PublicKey][]consensus.Link
	// bySet is the one successor set of a key and number, and its signature.
	bySet map[voted]string
	// foreign are the blocks that another signer may have signed; zero: any.
	foreign map[voted]types.Hash
}

type voted struct {
	key    types.PublicKey
	height uint32
}

func newWitness() *witness {
	return &witness{
		make(map[uint32]string), make(map[voted]string), make(map[types.PublicKey][]consensus.Link),
		make(map[voted]string), make(map[voted]types.Hash),
	}
}

func (w *witness) clone() *witness {
	c := &witness{
		maps.Clone(w.bySlot), maps.Clone(w.byVote), make(map[types.PublicKey][]consensus.Link),
		maps.Clone(w.bySet), maps.Clone(w.foreign),
	}
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
	if old, ok := w.byVote[at]; ok {
		if old != release {
			return fmt.Errorf("key %s: released %s, and then %s", key, old, release)
		}
		return nil // whatever was imported meanwhile
	}
	w.byVote[at] = release
	return w.mayVote(key, l)
}

func (w *witness) saw(height uint32, key types.PublicKey, digest types.Hash, sig [64]byte) error {
	release := fmt.Sprintf("%s %s %x", key, digest, sig)
	if old, ok := w.bySlot[height]; ok {
		if old != release {
			return fmt.Errorf("height %d: released %s, and then %s", height, old, release)
		}
		return nil
	}
	if other, ok := w.foreign[voted{key, height}]; ok && other != digest {
		return fmt.Errorf("height %d: %s signed where another signer may have", height, key)
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
		if err := createJournal(on(disk), "j", testNet, publics(keys[:3]), 0); err != nil {
			t.Fatal(err)
		}
		w := newWitness()
		var j *Journal
		nonce := byte(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if j == nil {
				var err error
				if j, err = openJournal(on(disk), "j", testNet, publics(keys[:3])); err != nil {
					t.Fatalf("reopening: %v", err)
				}
			}
			switch rapid.IntRange(0, 13).Draw(t, "step") {
			case 10, 11:
				key := keys[rapid.IntRange(0, 1).Draw(t, "key of a set")]
				nonce++
				number, digest := uint32(rapid.IntRange(1, 4).Draw(t, "number")), types.Hash{byte(rapid.IntRange(1, 2).Draw(t, "set"))}
				if err := attemptSet(j, key, number, digest, nonce, rapid.Bool().Draw(t, "token works"), w); err != nil {
					t.Fatal(err)
				}
			case 12:
				j.partSize = rapid.IntRange(50, 2000).Draw(t, "part size")
				doc := drawDocument(t, keys[:3], links)
				if _, err := j.Import(doc); err == nil {
					w.learn(doc)
				}
			case 13:
				if key := keys[len(j.Keys())%len(keys)]; len(j.Keys()) < len(keys) {
					_ = j.AddKeys([]types.PublicKey{key.public}, 0)
				}
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
				key := keys[rapid.IntRange(0, 4).Draw(t, "key")]
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

func attemptSet(j *Journal, key softKey, number uint32, digest types.Hash, nonce byte, works bool, w *witness) error {
	seal, err := j.ClaimSetChange(key.public, number, digest)
	if err != nil {
		return nil
	}
	if seal != nil {
		return w.sawSet(key.public, number, digest, *seal)
	}
	if !works {
		return nil
	}
	sig, err := j.SealSetChange(key.public, number, [64]byte{nonce, 2})
	if err != nil {
		return nil
	}
	return w.sawSet(key.public, number, digest, sig)
}

func (w *witness) sawSet(key types.PublicKey, number uint32, digest types.Hash, sig [64]byte) error {
	at, release := voted{key, number}, fmt.Sprintf("%s %x", digest, sig)
	if old, ok := w.bySet[at]; ok && old != release {
		return fmt.Errorf("key %s, set %d: released %s, and then %s", key, number, old, release)
	}
	w.bySet[at] = release
	return nil
}

// learn notes what another signer may have signed. What was released before
// stays released.
func (w *witness) learn(doc *interchange.Document) {
	for _, k := range doc.Keys {
		for _, b := range k.Blocks {
			at, digest := voted{k.PublicKey, b.Height}, types.Hash{}
			if b.Digest != nil {
				digest = *b.Digest
			}
			if other, ok := w.foreign[at]; ok && other != digest {
				digest = types.Hash{}
			}
			w.foreign[at] = digest
		}
		for _, v := range k.Votes {
			if v.Link != nil {
				w.links[k.PublicKey] = append(w.links[k.PublicKey], *v.Link)
			}
		}
	}
}

// drawDocument makes what another signer might say, without signatures.
func drawDocument(t *rapid.T, keys []softKey, links []consensus.Link) *interchange.Document {
	doc := &interchange.Document{Network: testNet, Strategy: interchange.Complete}
	digest := func(name string) *types.Hash {
		if rapid.Bool().Draw(t, name+" is known") {
			return &types.Hash{byte(rapid.IntRange(1, 3).Draw(t, name)), 1}
		}
		return nil
	}
	for _, key := range keys[:rapid.IntRange(1, len(keys)).Draw(t, "keys")] {
		k := interchange.Key{PublicKey: key.public, Floor: uint32(rapid.IntRange(0, 1).Draw(t, "imported floor"))}
		for h := uint32(1); h <= 4; h++ {
			if rapid.IntRange(0, 3).Draw(t, "has a block") == 0 {
				k.Blocks = append(k.Blocks, interchange.Block{Height: h, Digest: digest("block's digest")})
			}
		}
		if rapid.Bool().Draw(t, "has a vote") {
			l := rapid.SampledFrom(links).Draw(t, "imported link")
			v := interchange.Vote{Source: l.Source.Height, Target: l.Target.Height}
			if rapid.Bool().Draw(t, "link is known") {
				v.Link = &l
			}
			k.Votes = append(k.Votes, v)
		}
		if rapid.IntRange(0, 3).Draw(t, "has a set") == 0 {
			k.SetChanges = append(k.SetChanges, interchange.SetChange{Number: 1, Digest: digest("set's digest")})
		}
		doc.Keys = append(doc.Keys, k)
	}
	return doc
}

// TestFaultAtEveryCall walks one fault over every write and sync of a fixed
// history, then reloads and asks for everything again, and for rivals.
func TestFaultAtEveryCall(t *testing.T) {
	keys := testKeys()
	history := func(j *Journal, w *witness, nonce byte) error {
		j.partSize = 300
		doc := &interchange.Document{Network: testNet, Strategy: interchange.Complete}
		doc.Keys = append(doc.Keys, interchange.Key{PublicKey: keys[1].public, Blocks: []interchange.Block{{Height: 2}}})
		for h := uint32(1); h <= 3; h++ {
			if h == 2 {
				_ = j.RaiseFloor(keys[2].public, 2)
				if _, err := j.Import(doc); err == nil {
					w.learn(doc)
				}
				_ = j.AddKeys([]types.PublicKey{newSoftKey(types.P256, 50).public}, 9)
			}
			for number := h; number <= h+1; number++ {
				if err := attemptSet(j, keys[0], number, types.Hash{byte(number)}, nonce+byte(h), h != 3, w); err != nil {
					return err
				}
			}
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
					again, err := openJournal(on(disk.Crash(rand.New(rand.NewPCG(seed, uint64(at))))), "j", testNet, publics(keys))
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
