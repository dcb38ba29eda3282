package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/authority"
)

// TestAuthorityWalk: propose, inspect, sign, combine, submit, as officers do.
func TestAuthorityWalk(t *testing.T) {
	o := newOffice(t)
	path, p := o.propose()
	shown, err := o.do("show")
	if err != nil || !strings.Contains(shown, "Set 0 is in force") || !strings.Contains(shown, "No change is under way") || strings.Contains(shown, "DISABLED") {
		t.Fatalf("%s, %v", shown, err)
	}
	fingerprint := authority.Fingerprint(p.Next())
	for name, c := range map[string][]string{
		"words": {"inspect", path}, "network": {"inspect", path, "--network", o.path(networkFile)},
	} {
		if out, err := o.do(c...); err != nil || !strings.Contains(out, "hand over validator 3") || !strings.Contains(out, fingerprint) || !strings.Contains(out, "missing 0, 1, 2, 3, 4") {
			t.Fatalf("%s: %s, %v", name, out, err)
		}
	}

	s := &softSigner{o.net, map[types.PublicKey]types.Hash{}}
	seen, err := o.sign(s, path, "2", answers("Ada Adler", fingerprint, "Bob Berg", "SIGN"))
	if err != nil || !strings.Contains(seen, "hand over validator 3") || !strings.Contains(seen, "signs as validator 2") || strings.Contains(seen, "NOT COMPARED") {
		t.Fatalf("%s, %v", seen, err)
	}
	// The key that leaves confirms that by itself.
	if _, err := o.sign(s, path, "3", answers("Cy Coe", fingerprint, "REMOVE OWN KEY", "Di Dorn", "SIGN")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.do("submit", o.path("signed-2.json")); !errors.Is(err, authority.ErrIncomplete) || !errors.As(err, &needsPerson{}) {
		t.Fatalf("one signature: %v", err)
	}
	// A third box's.
	third, err := p.With(authority.Signature{Index: 4, Signature: key(4).Sign(p.Digest()), People: []string{"Ed Ems", "Flo Fink"}, Scripted: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.path("signed-4.json"), third.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := o.do("combine", o.path("signed-4.json"), o.path("signed-2.json"), o.path("signed-3.json"), "--out", o.path("complete.json"))
	if err != nil || !strings.Contains(out, "signed by 2, 3, 4; missing 0, 1") || !strings.Contains(out, "COMPLETE") || !strings.Contains(out, "not at a terminal: 4") {
		t.Fatalf("%s, %v", out, err)
	}
	out, err = o.do("submit", o.path("complete.json"))
	if err != nil || !strings.Contains(out, "The node has the change") {
		t.Fatalf("%s, %v", out, err)
	}
	shown, err = o.do("show")
	if err != nil || !strings.Contains(shown, "Set 1 follows") || !strings.Contains(shown, "carried by slot 20") || !strings.Contains(shown, fingerprint) {
		t.Fatalf("%s, %v", shown, err)
	}
	if _, err := o.do("propose", "--remove", "0", "--reason", "x", "--out", o.path("other.json")); err == nil || !strings.Contains(err.Error(), "follows set 0 already") {
		t.Fatalf("a proposal during a change: %v", err)
	}
	o.looks = 9
	out, err = o.do("submit", o.path("complete.json"), "--json")
	var at progress
	if err != nil || json.Unmarshal([]byte(out), &at) != nil || at.Stage != stageActive || at.ID != p.Next().ID() {
		t.Fatalf("%s, %v", out, err)
	}
	// What was signed for the old set is of no more use.
	if _, err := o.sign(s, path, "2", "", func(c *authoritySign) { c.out = o.path("late.json") }); err == nil || !strings.Contains(err.Error(), "is in force: make it anew") {
		t.Fatalf("signing after the change: %v", err)
	}
}

// TestAuthoritySignRefuses: what people get wrong, and what they cannot do.
func TestAuthoritySignRefuses(t *testing.T) {
	o := newOffice(t)
	path, p := o.propose()
	print := authority.Fingerprint(p.Next())
	s := &softSigner{o.net, map[types.PublicKey]types.Hash{}}
	good := answers("Ada Adler", print, "Bob Berg", "SIGN")
	files := 0
	answerFile := func(text string) func(*authoritySign) {
		files++
		file := o.path(fmt.Sprintf("answers-%d.json", files))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return func(c *authoritySign) { c.answers = file }
	}
	for _, c := range []struct {
		name, key, typed, want string
		change                 func(*authoritySign)
	}{
		{"one person twice", "2", answers("Ada Adler", print, "ada adler", "SIGN"), "set-two-people", nil},
		{"wrong fingerprint", "2", answers("Ada Adler", authority.Fingerprint(o.set), "Bob Berg", "SIGN"), "set-fingerprint", nil},
		{"not confirmed", "2", answers("Ada Adler", print, "Bob Berg", "yes"), `"SIGN" was to be typed`, nil},
		{"own key not confirmed", "3", answers("Ada Adler", print, "yes", "Bob Berg", "SIGN"), `"REMOVE OWN KEY" was to be typed`, nil},
		{"input ends", "2", answers("Ada Adler"), "no answer came", nil},
		{"no terminal", "2", good, "at a terminal", func(c *authoritySign) { c.terminal = false }},
		{"several keys", "", good, "validators [2 3]: say which signs", nil},
		{"another's key", "4", good, "this box holds the keys of the validators [2 3]", nil},
		{"no such key", "7", good, "no such validator", nil},
		{"output exists", "2", good, "exists", func(c *authoritySign) { c.out = path }},
		{"answers of another form", "2", "", "unknown field", answerFile(`{"names": []}`)},
		{"answers without people", "2", "", "set-two-people", answerFile(`{"fingerprint": "` + print + `"}`)},
		{"answers that forget the own key", "3", "", "set-own-removed", answerFile(`{"people": ["A", "B"], "fingerprint": "` + print + `"}`)},
	} {
		change := c.change
		if change == nil {
			change = func(*authoritySign) {}
		}
		if _, err := o.sign(s, path, c.key, c.typed, change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if len(s.claims) > 0 {
		t.Error("the signer was asked")
	}
	// Answers from a file are marked as such.
	if _, err := o.sign(s, path, "2", "", answerFile(`{"people": ["A", "B"], "fingerprint": "`+print+`"}`)); err != nil {
		t.Fatal(err)
	}
	signed, err := readProposal(o.path("signed-2.json"), o.net)
	if err != nil || len(signed.Signatures) != 1 || !signed.Signatures[0].Scripted {
		t.Fatalf("%+v, %v", signed, err)
	}
	if _, err := o.sign(s, o.path("signed-2.json"), "2", good, func(c *authoritySign) { c.out = "" }); err == nil || !strings.Contains(err.Error(), "has signed") {
		t.Errorf("again: %v", err)
	}
	// Another proposal of the same number is the signer's to refuse.
	other := o.path("other.json")
	if _, err := o.do("propose", "--replace", "4="+o.proof(6), "--reason", "rival", "--out", other); err != nil {
		t.Fatal(err)
	}
	rival, err := readProposal(other, o.net)
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.sign(s, other, "2", answers("Ada Adler", authority.Fingerprint(rival.Next()), "Bob Berg", "SIGN"), func(c *authoritySign) { c.out = o.path("rival.json") })
	if !errors.Is(err, signer.Rule("set-change-double")) || !errors.As(err, &needsPerson{}) {
		t.Errorf("a second set of one number: %v", err)
	}
	if _, err := o.do("combine", o.path("signed-2.json"), other, "--out", o.path("both.json")); !errors.Is(err, authority.ErrDifferent) {
		t.Errorf("two proposals combined: %v", err)
	}
	// What the chain has disabled since counts, not what the proposal says.
	o.disabled = key(3).Public()
	if _, err := o.sign(s, path, "3", answers("Ada Adler", print, "REMOVE OWN KEY", "Bob Berg", "SIGN")); !errors.Is(err, authority.RuleOwnDisabled) {
		t.Errorf("a key that was disabled since: %v", err)
	}
	o.disabled = types.PublicKey{}
	// Without a node it says so and goes on.
	if err := os.Remove(filepath.Join(o.dir, nodeDir, node.CookieFile)); err != nil {
		t.Fatal(err)
	}
	seen, err := o.sign(s, path, "2", good, func(c *authoritySign) { c.out = o.path("offline.json") })
	if err != nil || !strings.Contains(seen, "NOT COMPARED") {
		t.Errorf("offline: %s, %v", seen, err)
	}
}

// away is a signer that never answers.
type away struct{}

func (away) SignSetChange(ctx context.Context, _ authority.SetChangeRequest) (signer.Response, error) {
	<-ctx.Done()
	return signer.Response{}, ctx.Err()
}

// TestAuthoritySignerAway: the command does not wait for ever, and says what to do.
func TestAuthoritySignerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		s := authoritySign{connect: func(context.Context) (setChangeSigner, func() error, error) {
			return away{}, func() error { ended = true; return nil }, nil
		}}
		start := time.Now()
		_, err := s.ask(t.Context(), authority.SetChangeRequest{})
		if err == nil || !strings.Contains(err.Error(), "use --direct") || !ended || time.Since(start) != signerPatience {
			t.Errorf("after %v, connection ended %t: %v", time.Since(start), ended, err)
		}
	})
}

// TestAuthorityPropose: the ways to say what the new set is.
func TestAuthorityPropose(t *testing.T) {
	o := newOffice(t)
	list := o.path("keys.txt")
	text := "# the new set\n" + key(5).Public().String() + " # new\n\n"
	for i := range 4 {
		text += key(i).Public().String() + "\n"
	}
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	numbers := func(list ...int) (keys []types.PublicKey) {
		for _, i := range list {
			keys = append(keys, key(i).Public())
		}
		return keys
	}
	for i, c := range []struct {
		args []string
		want []types.PublicKey // nil: refused
		says string
	}{
		{[]string{"--replace", "3=" + o.proof(5)}, numbers(0, 1, 2, 5, 4), ""},
		{[]string{"--remove", "1", "--remove", key(4).Public().String()}, numbers(0, 2, 3), ""},
		{[]string{"--remove", "1", "--add", o.proof(6)}, numbers(0, 2, 3, 4, 6), ""},
		{[]string{"--set", list, "--proof", o.proof(5)}, numbers(5, 0, 1, 2, 3), ""},
		{[]string{"--remove", "1"}, nil, "set-even"},
		{[]string{"--set", list}, nil, "set-proof-missing"},
		{[]string{}, nil, "set-unchanged"},
		{[]string{"--replace", "3=" + o.proof(0)}, nil, "set-duplicate"},
		{[]string{"--remove", "3", "--replace", "3=" + o.proof(5)}, nil, "hands that validator over"},
		{[]string{"--set", list, "--remove", "1"}, nil, "leave out"},
		{[]string{"--proof", o.proof(5)}, nil, "goes with --set"},
		{[]string{"--replace", "3"}, nil, "want NUMBER=PROOF"},
		{[]string{"--replace", "5=" + o.proof(5)}, nil, "no such validator"},
		{[]string{"--add", list}, nil, "proof of possession"},
	} {
		out := o.path(fmt.Sprintf("p%d.json", i))
		_, err := o.do(append([]string{"propose", "--reason", "a test", "--out", out}, c.args...)...)
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q: %v, want %q", c.args, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		p, err := readProposal(out, o.net)
		if err != nil || fmt.Sprint(p.Keys) != fmt.Sprint(c.want) {
			t.Errorf("%q: %v, %v", c.args, p, err)
		}
	}
	if _, err := o.do("propose", "--remove", "1", "--remove", "2", "--reason", "x", "--out", o.path("p0.json")); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("over a file: %v", err)
	}
	o.disabled = key(4).Public()
	if shown, err := o.do("show"); err != nil || !strings.Contains(shown, "DISABLED") {
		t.Errorf("%s, %v", shown, err)
	}
	if _, err := o.do("propose", "--replace", "3="+o.proof(5), "--reason", "x", "--out", o.path("q.json")); !errors.Is(err, authority.RuleDisabled) {
		t.Errorf("a disabled key stays: %v", err)
	}
}

// TestAuthoritySubmitWaits follows a change to its end, over a node that forgets
// it once and is away once.
func TestAuthoritySubmitWaits(t *testing.T) {
	o := newOffice(t)
	_, p := o.propose()
	for i := range 3 {
		var err error
		if p, err = p.With(authority.Signature{Index: uint8(i), Signature: key(i).Sign(p.Digest()), People: []string{"A", "B"}}); err != nil {
			t.Fatal(err)
		}
	}
	rpc, err := newNodeRPC(&o.cfg)
	if err != nil {
		t.Fatal(err)
	}
	tick := make(chan time.Time, 100)
	for range cap(tick) {
		tick <- time.Time{}
	}
	var says bytes.Buffer
	asked := 0
	s := submission{
		p: p, tick: tick, says: &says,
		ask: func(ctx context.Context) (authorityView, error) {
			if asked++; asked == 2 {
				return authorityView{}, errNoNode
			}
			return viewAuthority(ctx, rpc, o.net)
		},
		send: func(ctx context.Context, hex string) error { return rpc.call(ctx, nil, "submitsetchange", hex) },
	}
	o.forget = true
	at, err := s.run(t.Context(), true)
	if err != nil || at.Stage != stageActive || o.submitted != 2 {
		t.Fatalf("%+v, handed in %d times, %v", at, o.submitted, err)
	}
	if text := says.String(); !strings.Contains(text, "waiting for a slot") || !strings.Contains(text, "carried by slot 20") {
		t.Errorf("said %q", text)
	}
	// The node's refusal is a person's business.
	s.send = func(context.Context, string) error { return &rpcError{-26, "set-change-quorum: too few"} }
	o.set, o.next = consensus.ValidatorSet{Keys: o.net.Validators}, nil
	if _, err := s.run(t.Context(), false); err == nil || !errors.As(err, &needsPerson{}) || !strings.Contains(err.Error(), "set-change-quorum") {
		t.Errorf("a refusal: %v", err)
	}
}
