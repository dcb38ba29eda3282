package signer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/authority"
)

// FuzzRequest feeds the socket's decoder and the rules behind it. A request
// that is decoded must survive its encoding, and nothing passes the rules
// but what is for the slot and the validator of the one valid request.
func FuzzRequest(f *testing.F) {
	keys := testKeys()
	n := testNetwork(f, "signertest", publics(keys))
	p := policy{network: n, keys: map[types.PublicKey]bool{keys[0].public: true}}
	valid := proposal(n, testSlot, 0, parentTime, 1)
	if _, err := p.consensus(valid); err != nil {
		f.Fatal(err)
	}
	f.Add(need[[]byte](f)(marshalLine(wireRequest{ID: 1, Method: methodSignSlot, Params: need[[]byte](f)(marshalLine(NewRequest(valid)))})))
	f.Add([]byte(`{"id":1,"method":"hello","params":{"version":1,"network":"00"}}`))
	f.Add([]byte(`{"id":1,"method":"sign_slot","params":{"height":4294967295,"index":255,"branch":[""]}}`))
	changed := proposalUnder(n, consensus.ValidatorSet{Number: 1, Keys: publics(keys[:3])}, testSlot, 0, parentTime, 1)
	f.Add(need[[]byte](f)(marshalLine(wireRequest{ID: 1, Method: methodSignSlot, Params: need[[]byte](f)(marshalLine(NewRequest(changed)))})))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		if !fuzzParams(t, in, &r) {
			return
		}
		prop, err := r.parse()
		if err == nil {
			_, err = p.consensus(prop)
		}
		var refusal *Refusal
		switch {
		case err == nil && (prop.Height != testSlot || prop.Index != 0):
			t.Fatalf("passed: %+v", prop)
		case err != nil && !errors.As(err, &refusal):
			t.Fatal(err)
		}
	})
}

// fuzzParams decodes the parameters of a request, false if there are none, and
// wants them to survive their encoding.
func fuzzParams[R any](t *testing.T, in []byte, r *R) bool {
	t.Helper()
	line, err := readLine(bufio.NewReaderSize(bytes.NewReader(append(bytes.Clone(in), '\n')), 16))
	if err != nil {
		if !errors.Is(err, errTooLong) || len(in) < maxLine {
			t.Fatal(err)
		}
		return false
	}
	var req wireRequest
	if decodeStrict(line, &req) != nil || decodeParams(&req, r) != nil {
		return false
	}
	var again R
	out := need[[]byte](t)(marshalLine(*r))
	if err := decodeStrict(out, &again); err != nil || !bytes.Equal(out, need[[]byte](t)(marshalLine(again))) {
		t.Fatalf("a request does not survive its encoding: %v", err)
	}
	return true
}

// FuzzVoteRequest is FuzzRequest for votes: nothing passes the rules but what the
// one key held votes for, the signed block of the one valid request.
func FuzzVoteRequest(f *testing.F) {
	keys := testKeys()
	n := testNetwork(f, "signertest", publics(keys))
	p := policy{network: n, keys: map[types.PublicKey]bool{keys[0].public: true}}
	e := &electorate{n, []consensus.ValidatorSet{firstSet(n), {Number: 1, Keys: publics(keys[:3])}}, keys[0], 0}
	valid := e.ballot(e.at(0, 0), testSlot, 0, 1)
	if _, err := p.ballot(valid); err != nil {
		f.Fatal(err)
	}
	params := need[[]byte](f)(marshalLine(NewVoteRequest(valid)))
	f.Add(need[[]byte](f)(marshalLine(wireRequest{ID: 1, Method: methodAttest, Params: params})))
	f.Add([]byte(`{"id":1,"method":"attest","params":{"source":{"height":4294967295},"sets":[{"number":1,"keys":[""]}]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r VoteRequest
		if !fuzzParams(t, in, &r) {
			return
		}
		v, err := r.parse()
		key := keys[0].public
		if err == nil {
			key, err = p.ballot(v)
		}
		var refusal *Refusal
		switch {
		case err == nil && (key != keys[0].public || v.Target != valid.Target || v.Source.Height >= v.Target.Height):
			t.Fatalf("passed: %+v", v)
		case err != nil && !errors.As(err, &refusal):
			t.Fatal(err)
		}
	})
}

func marshalLine(v any) ([]byte, error) {
	var b bytes.Buffer
	err := writeLine(&b, v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// FuzzRecord: every record that is read is written back byte for byte.
func FuzzRecord(f *testing.F) {
	keys := testKeys()
	for _, r := range []record{
		{kind: recordMeta, network: types.Hash{1}, keys: publics(keys), height: 9},
		{kind: recordClaim, height: 1, key: keys[0].public, coinOnline: []byte{1, 2}},
		{kind: recordSeal, height: 2, key: keys[1].public, signature: [64]byte{3}},
		{kind: recordAbandon, height: 3, key: keys[2].public},
		{kind: recordFloor, height: 4, key: keys[3].public},
		{kind: recordVote, height: 5, key: keys[4].public, digest: types.Hash{6}, link: linkOf(3, 1, 5, 2)},
		{kind: recordVoteSeal, height: 5, key: keys[4].public, signature: [64]byte{7}},
		{kind: recordKeys, keys: publics(keys[:2]), height: 9},
		{kind: recordPlace, digest: types.Hash{8}},
		{kind: recordImport, part: 1, left: 2, data: []byte{9}},
		{kind: recordSet, height: 6, key: keys[0].public, digest: types.Hash{10}},
		{kind: recordSetSeal, height: 6, key: keys[0].public, signature: [64]byte{11}},
	} {
		f.Add(r.encode())
		back := need[record](f)(decodeRecord(r.encode()))
		if d := cmp.Diff(r, back, cmp.AllowUnexported(record{})); d != "" {
			f.Fatal(d)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decodeRecord(in)
		if err == nil && !bytes.Equal(r.encode(), in) {
			t.Fatalf("%x was read and written as %x", in, r.encode())
		}
	})
}

// FuzzResponse feeds the client's decoder: whatever answers, the result is a
// response, a refusal or an error of a kind, and never both.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":{"version":3,"network":"00"}}`))
	f.Add([]byte(`{"id":2,"error":{"kind":"refused","rule":"slot-stale","detail":"x"}}`))
	f.Add([]byte(`{"id":2,"error":{"kind":"internal","detail":"x"},"result":{}}`))
	f.Add([]byte(`{"id":18446744073709551615,"result":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var resp wireResponse
		if decodeStrict(in, &resp) != nil {
			return
		}
		if resp.Error != nil {
			var refusal *Refusal
			var e *Error
			err := resp.Error.err()
			if errors.As(err, &refusal) == errors.As(err, &e) || err.Error() == "" && refusal != nil {
				t.Fatalf("%+v became %v", resp.Error, err)
			}
			if again := toWire(err); again.Kind != resp.Error.Kind || again.Detail != resp.Error.Detail {
				t.Fatalf("%+v became %+v", resp.Error, again)
			}
			return
		}
		out := need[[]byte](t)(marshalLine(resp))
		var again wireResponse
		if err := decodeStrict(out, &again); err != nil || again.ID != resp.ID {
			t.Fatalf("a response does not survive its encoding: %v", err)
		}
	})
}

// strict is a backend that fails the test when it is asked before a hello.
type strict struct{ asked int }

func (s *strict) SignSlot(context.Context, Request) (Response, error) {
	s.asked++
	return Response{}, refuse(RuleFormat, "no")
}

func (s *strict) Attest(context.Context, VoteRequest) (Response, error) {
	s.asked++
	return Response{}, failed(ErrUnavailable, nil, "no")
}

func (s *strict) SignSetChange(context.Context, authority.SetChangeRequest) (Response, error) {
	s.asked++
	return Response{}, refuse(RuleFormat, "no")
}

func (s *strict) Seen(context.Context, SeenRequest) error {
	s.asked++
	return nil
}

func (s *strict) Halt(context.Context, string, string) error {
	s.asked++
	return nil
}

func (s *strict) Resume(context.Context, string) (bool, error) {
	s.asked++
	return false, nil
}

func (s *strict) SlotRecord(context.Context, uint32) (SlotRecord, bool, error) {
	s.asked++
	return SlotRecord{}, false, nil
}

func (s *strict) Status(context.Context) Status {
	s.asked++
	return Status{}
}

// FuzzConnection sends a server anything: it answers in whole lines of the
// protocol, at most one for each line it got, and asks nothing of its backend
// before a right hello.
func FuzzConnection(f *testing.F) {
	hello := `{"id":1,"method":"hello","params":{"version":3,"network":"` + testNet.String() + `"}}` + "\n"
	f.Add([]byte(hello + `{"id":2,"method":"status"}` + "\n" + `{"id":3,"method":"slot_record","params":{"height":1}}` + "\n"))
	f.Add([]byte(hello + `{"id":2,"method":"sign_slot","params":{}}` + "\n" + `{"id":3,"method":"attest","params":{}}` + "\n{"))
	f.Add([]byte(`{"id":2,"method":"status"}` + "\n" + hello))
	f.Add([]byte(hello + hello + "\n\n\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		backend := new(strict)
		s := NewServer(ServerConfig{Network: testNet, Backend: backend, Log: quiet()})
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Serve(context.Background(), theirs)
		}()
		answers := make(chan []byte)
		go func() {
			out, _ := io.ReadAll(ours)
			answers <- out
		}()
		_ = ours.SetWriteDeadline(time.Now().Add(time.Minute))
		_, _ = ours.Write(in)
		// The reader goes on until the server has closed: a half line at the end would
		// keep that waiting, and is ended here.
		_, _ = ours.Write([]byte("\nno request\n"))
		out := <-answers
		<-done
		var greeted bool
		lines := 0
		for line := range bytes.Lines(out) {
			lines++
			var resp wireResponse
			if err := decodeStrict(bytes.TrimSuffix(line, []byte("\n")), &resp); err != nil || line[len(line)-1] != '\n' || (resp.Error == nil) == (resp.Result == nil) {
				t.Fatalf("answer %q: %v", line, err)
			}
			greeted = greeted || lines == 1 && resp.Error == nil
		}
		if backend.asked > 0 && !greeted {
			t.Fatal("the backend was asked without a hello")
		}
		if got := bytes.Count(in, []byte("\n")) + 2; lines > got {
			t.Fatalf("%d answers to %d lines", lines, got)
		}
	})
}
