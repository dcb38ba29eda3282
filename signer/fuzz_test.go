package signer

import (
	"bufio"
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/types"
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
	f.Fuzz(func(t *testing.T, in []byte) {
		line, err := readLine(bufio.NewReaderSize(bytes.NewReader(append(bytes.Clone(in), '\n')), 16))
		if err != nil {
			if !errors.Is(err, errTooLong) || len(in) < maxLine {
				t.Fatal(err)
			}
			return
		}
		var req wireRequest
		var r, again Request
		if decodeStrict(line, &req) != nil || decodeParams(&req, &r) != nil {
			return
		}
		out := need[[]byte](t)(marshalLine(r))
		if err := decodeStrict(out, &again); err != nil || !bytes.Equal(out, need[[]byte](t)(marshalLine(again))) {
			t.Fatalf("a request does not survive its encoding: %v", err)
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
