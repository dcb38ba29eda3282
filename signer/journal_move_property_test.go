package signer

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/interchange"
)

// TestMoveProperty: whatever a journal refuses, one that took in its export
// refuses, too, and export after import changes nothing more.
func TestMoveProperty(t *testing.T) {
	keys := testKeys()[:3]
	links := allLinks(1, 2, 3, 4, 5)
	refused := 0
	rapid.Check(t, func(t *rapid.T) {
		disk := durabletest.New()
		if err := createJournal(on(disk), "j", testNet, publics(keys), uint32(rapid.IntRange(0, 1).Draw(t, "floor"))); err != nil {
			t.Fatal(err)
		}
		j := reopen(t, disk, keys)
		for range rapid.IntRange(0, 25).Draw(t, "steps") {
			key := keys[rapid.IntRange(0, 2).Draw(t, "key")]
			works := rapid.Bool().Draw(t, "token works")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				_ = j.RaiseFloor(key.public, uint32(rapid.IntRange(0, 3).Draw(t, "height")))
			case 1:
				if _, err := j.Import(drawDocument(t, keys, links)); err != nil {
					t.Fatal(err)
				}
			case 2:
				number, digest := uint32(rapid.IntRange(1, 4).Draw(t, "number")), types.Hash{byte(rapid.IntRange(1, 2).Draw(t, "set")), 1}
				if seal, err := j.ClaimSetChange(key.public, number, digest); err == nil && seal == nil && works {
					_, _ = j.SealSetChange(key.public, number, key.sign(digest))
				}
			case 3, 4, 5:
				l := rapid.SampledFrom(links).Draw(t, "link")
				if seal, err := j.ClaimVote(key.public, l); err == nil && seal == nil && works {
					_, _ = j.SealVote(key.public, l, key.sign(l.Digest(testNet)))
				}
			default:
				c := claimOf(key, uint32(rapid.IntRange(1, 5).Draw(t, "height")), byte(rapid.IntRange(1, 2).Draw(t, "block")))
				if seal, err := j.Claim(c); err == nil && seal == nil && works {
					_, _ = j.Seal(c.Height, c.Key, key.sign(c.Digest))
				}
			}
		}
		minimal := rapid.Bool().Draw(t, "minimal")
		doc, err := j.Export(minimal)
		if err != nil {
			t.Fatal(err)
		}
		moved := func(doc *interchange.Document) (*Journal, string) {
			parsed, err := interchange.Parse(doc.Encode(), testNet, 1)
			if err != nil {
				t.Fatal(err)
			}
			fresh := durabletest.New()
			if err := createJournal(on(fresh), "j", testNet, publics(keys), 0); err != nil {
				t.Fatal(err)
			}
			k := reopen(t, fresh, keys)
			if _, err := k.Import(parsed); err != nil {
				t.Fatal(err)
			}
			out, err := k.Export(minimal)
			if err != nil {
				t.Fatal(err)
			}
			out.Journal = doc.Journal
			return k, string(out.Encode())
		}
		first, text := moved(doc)
		again, err := interchange.Parse([]byte(text), testNet, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, second := moved(again); second != text {
			t.Fatalf("export after import is not idempotent:\n%s\nthen\n%s", text, second)
		}
		refused += refusesToo(t, j, first, keys, links)
	})
	if refused < 1000 {
		t.Fatalf("only %d refusals were compared", refused)
	}
}

// refusesToo asks both journals for everything there is. It only looks: each
// question is put to a copy of what the journals hold in memory.
func refusesToo(t *rapid.T, from, to *Journal, keys []softKey, links []consensus.Link) (refused int) {
	disk := durabletest.New()
	if err := createJournal(on(disk), "j", testNet, publics(keys), 0); err != nil {
		t.Fatal(err)
	}
	scratch := reopen(t, disk, keys)
	compare := func(what string, ask func() error) {
		scratch.mem = *from.mem.clone()
		if ask() == nil {
			return
		}
		refused++
		scratch.mem = *to.mem.clone()
		if ask() == nil {
			t.Fatalf("%s is refused by the journal, and not by the one that took its export in", what)
		}
	}
	for i, key := range keys {
		for h := uint32(1); h <= 6; h++ {
			for block := byte(1); block <= 3; block++ {
				compare(fmt.Sprintf("block %d at height %d of key %d", block, h, i), func() error {
					_, err := scratch.Claim(claimOf(key, h, block))
					return err
				})
			}
		}
		for _, l := range links {
			compare(fmt.Sprintf("vote %+v of key %d", l, i), func() error { _, err := scratch.ClaimVote(key.public, l); return err })
		}
		for number := uint32(1); number <= 5; number++ {
			for digest := byte(1); digest <= 3; digest++ {
				compare(fmt.Sprintf("set %d of number %d of key %d", digest, number, i), func() error {
					_, err := scratch.ClaimSetChange(key.public, number, types.Hash{digest, 1})
					return err
				})
			}
		}
	}
	return refused
}
