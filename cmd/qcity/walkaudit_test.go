package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/interchange"
)

// auditAll verifies every log, with what the chain says of it: each anchor of a
// key is an entry of a log of that key. Of the boxes given it is known that they
// signed blocks.
func (w *walk) auditAll(signedBlocks ...*signerBox) {
	w.heading("Every audit log is verified, with the anchors that the chain carries")
	w.officer("audit", "anchors", "--config", "node/qcity.toml")
	var anchors []anchorJSON
	if err := json.Unmarshal([]byte(w.officer("audit", "anchors", "--config", "node/qcity.toml", "--json")), &anchors); err != nil {
		w.Fatal(err)
	}
	heads := make(map[*signerBox][]audit.Head)
	signed := make(signatures)
	for _, b := range w.boxes {
		out := b.name + ".audit.jsonl"
		w.officer("audit", "export", "--config", b.config(), "--out", out)
		var events []audit.Event
		heads[b], events = w.readExport(out, signed)
		if want := b.story; !inOrder(events, want) {
			w.Errorf("the log of %s lacks some of %v, in this order: it has %v", b.name, want, events)
		}
	}
	flags := make(map[*signerBox][]string)
	for _, a := range anchors {
		h, err := audit.ParseHead(a.Anchor)
		if err != nil {
			w.Errorf("the block at height %d: %v", a.Height, err)
			continue
		}
		i := slices.IndexFunc(w.boxes, func(b *signerBox) bool { return b.key == a.Key && slices.Contains(heads[b], h) })
		if i < 0 {
			w.Errorf("no log of %s has the entry %s that its block at height %d carries", a.Key, h, a.Height)
			continue
		}
		flags[w.boxes[i]] = append(flags[w.boxes[i]], "--anchor", a.Anchor)
	}
	for _, b := range w.boxes {
		args := append([]string{"audit", "verify", "--config", b.config(), "--signatures"}, flags[b]...)
		out, stderr, code := w.quiet(append(args, "--json")...)
		var report auditJSON
		if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || !report.OK {
			w.Fatalf("%s: exit code %d, %v: %s%s", b.name, code, err, out, stderr)
		}
		w.Logf("$ qcity audit verify --config %s --signatures --anchor …\n%d entries, %d signatures verified, %d anchors found, head %s", b.config(), report.Entries, report.Signatures, report.Anchors, report.Head)
		if report.Anchors != len(flags[b])/2 {
			w.Errorf("%s: %d anchors found of %d", b.name, report.Anchors, len(flags[b])/2)
		}
	}
	for _, b := range signedBlocks {
		if len(flags[b]) == 0 {
			w.Errorf("%s signed blocks, and none of them carries an anchor of its log", b.name)
		}
	}
	w.Logf("all logs together have %d signatures, and no two of a key at one height", len(signed))
}

// act is what a key signs once.
type act struct {
	key    types.PublicKey
	kind   audit.Kind
	height uint32
}

// made is what was signed, and the signature's bytes.
type made struct {
	digest types.Hash
	bytes  string
}

type signatures map[act]made

// note fails if the act was another one, or has other bytes.
func (s signatures) note(a act, sig made) error {
	if old, ok := s[a]; ok && old != sig {
		return fmt.Errorf("%s signed the %s at %d twice: %s with %s, and %s with %s", a.key, a.kind, a.height, old.digest, old.bytes, sig.digest, sig.bytes)
	}
	s[a] = sig
	return nil
}

// inOrder reports whether the events occur in this order, others between them.
func inOrder(events, want []audit.Event) bool {
	for _, e := range events {
		if len(want) > 0 && e == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// readExport returns the heads and events of a log, and notes its signatures.
func (w *walk) readExport(file string, noted signatures) (heads []audit.Head, events []audit.Event) {
	w.Helper()
	f, err := os.Open(w.in(file))
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line struct {
			Seq   uint64
			Hash  types.Hash
			Entry struct {
				Event     audit.Event
				Kind      audit.Kind
				Height    uint32
				Key       types.PublicKey
				Digest    types.Hash
				Signature string
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			w.Fatalf("%s: %v in %s", file, err, lines.Text())
		}
		heads = append(heads, audit.Head{Seq: line.Seq, Hash: line.Hash})
		e := line.Entry
		events = append(events, e.Event)
		if e.Event != audit.EventSigned && e.Event != audit.EventRepeated {
			continue
		}
		if err := noted.note(act{e.Key, e.Kind, e.Height}, made{e.Digest, e.Signature}); err != nil {
			w.Errorf("%s: %v", file, err)
		}
	}
	if err := lines.Err(); err != nil {
		w.Fatal(err)
	}
	return heads, events
}

// cast is a vote, as a journal and a certificate have it.
type cast struct {
	link      consensus.Link
	signature [64]byte
}

// checkWatermarks holds what the journals remember against what the chain shows:
// each signature on the chain is in a journal of its key, and journals of one key
// agree. The key that left signed nothing where the one in its place does.
func (w *walk) checkWatermarks(old, sixth *signerBox) {
	w.heading("What each signer remembers is checked against the chain")
	signed, votes := make(signatures), make(map[cast]bool)
	for _, b := range w.boxes {
		out := b.name + ".watermarks.json"
		w.officer("watermark", "export", "--config", b.config(), "--out", out)
		text, err := os.ReadFile(w.in(out))
		if err != nil {
			w.Fatal(err)
		}
		doc, err := interchange.Parse(text, w.net.ID, w.net.N)
		if err != nil {
			w.Fatal(err)
		}
		if err := doc.Verify(); err != nil {
			w.Errorf("%s: %v", out, err)
		}
		for _, k := range doc.Keys {
			w.noteKey(b, &k, signed, votes)
		}
	}
	blocks, err := readSigned(w.Context(), w.in("node/qcity.toml"))
	if err != nil {
		w.Fatal(err)
	}
	by := make(map[types.PublicKey][]uint32) // heights
	for _, b := range blocks {
		want := made{b.digest, hex.EncodeToString(b.signature[:])}
		if got := signed[act{b.key, audit.KindBlock, b.height}]; got != want {
			w.Errorf("block %d carries %v of %s, its journals have %v", b.height, want, b.key, got)
		}
		by[b.key] = append(by[b.key], b.height)
	}
	if len(by[old.key]) == 0 || len(by[sixth.key]) == 0 {
		w.Errorf("the key that left signed the blocks %v, the one in its place %v", by[old.key], by[sixth.key])
	} else if last, first := slices.Max(by[old.key]), slices.Min(by[sixth.key]); last >= first {
		w.Errorf("%s signed block %d, when the key in its place had signed block %d", old.key, last, first)
	}
	certificates := w.certificates()
	checked := 0
	for _, c := range certificates {
		for _, a := range c.Attestations() {
			if checked++; !votes[cast{a.Link, a.Signature}] {
				w.Errorf("no journal has the vote of voter %d for slot %d that the chain shows", a.Index, a.Target.Height)
			}
		}
	}
	w.Logf("%d blocks and %d votes of %d certificates: each is in a journal of its key", len(blocks), checked, len(certificates))
	if len(blocks) == 0 || checked == 0 {
		w.Error("nothing was compared")
	}
}

func (w *walk) noteKey(b *signerBox, k *interchange.Key, signed signatures, votes map[cast]bool) {
	w.Helper()
	for _, e := range k.Blocks {
		if e.Digest == nil || e.Signature == nil {
			continue // claimed, and never signed
		}
		if err := signed.note(act{k.PublicKey, audit.KindBlock, e.Height}, made{*e.Digest, hex.EncodeToString(e.Signature[:])}); err != nil {
			w.Errorf("%s: %v", b.name, err)
		}
	}
	for _, v := range k.Votes {
		if v.Link == nil || v.Signature == nil {
			continue
		}
		if err := signed.note(act{k.PublicKey, audit.KindVote, v.Target}, made{v.Link.Digest(w.net.ID), hex.EncodeToString(v.Signature[:])}); err != nil {
			w.Errorf("%s: %v", b.name, err)
		}
		votes[cast{*v.Link, *v.Signature}] = true
	}
}

// certificates are those that the node keeps and those in blocks.
func (w *walk) certificates() (list []consensus.Certificate) {
	w.Helper()
	s, err := store.Open(w.in("node/node"), w.net, store.Options{ReadOnly: true})
	if err != nil {
		w.Fatal(err)
	}
	defer s.Close()
	if list, err = s.Certificates(); err != nil {
		w.Fatal(err)
	}
	for height := uint32(1); ; height++ {
		b, ok, err := blockAtHeight(s, height)
		if err != nil {
			w.Fatal(err)
		}
		if !ok {
			return list
		}
		if !b.IsSigned() {
			continue
		}
		records, err := consensus.Records(b.Transactions[0])
		if err != nil {
			w.Fatal(err)
		}
		for _, r := range records {
			if c, ok := r.(*consensus.Certificate); ok {
				list = append(list, *c)
			}
		}
	}
}

// checkGuide: the commands of docs/walk.md are those that were typed.
func (w *walk) checkGuide() {
	text, err := os.ReadFile("../../docs/walk.md")
	if err != nil {
		w.Fatal(err)
	}
	guide := make(map[string]bool)
	for i, block := range strings.Split(string(text), "```") {
		if code, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			for _, command := range strings.Split(code, "qcity ")[1:] {
				guide[commandOf(strings.Fields(command))] = true
			}
		}
	}
	for c := range w.typed {
		if !guide[c] {
			w.Errorf("docs/walk.md lacks qcity %s", c)
		}
	}
	for c := range guide {
		if !w.typed[c] {
			w.Errorf("docs/walk.md has qcity %s, which was not typed", c)
		}
	}
}
