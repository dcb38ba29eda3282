package signer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/node/types"
)

// FuzzRequest feeds the socket's decoder and the service behind it. Nothing
// but the one valid request may ever reach the token, and what is decoded must
// come back the same when it is encoded.
func FuzzRequest(f *testing.F) {
	b := newBench(f)
	valid := b.proposal(testSlot, 0, 1)
	line := need[[]byte](f)(marshalLine(wireRequest{ID: 1, Method: methodSignSlot, Params: need[[]byte](f)(marshalLine(NewRequest(valid)))}))
	f.Add(line)
	f.Add([]byte(`{"id":1,"method":"hello","params":{"version":1,"network":"00"}}`))
	f.Add([]byte(`{"id":1,"method":"sign_slot","params":{"height":4294967295,"index":255,"branch":[""]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readLine(bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(append(in, '\n'))), 16))
		if err != nil {
			if errors.Is(err, errTooLong) && len(in) < maxLine {
				t.Fatal(err)
			}
			return
		}
		var req wireRequest
		var r Request
		if decodeStrict(got, &req) != nil || decodeParams(&req, &r) != nil {
			return
		}
		again := need[[]byte](t)(marshalLine(r))
		var r2 Request
		if err := decodeStrict(again, &r2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, need[[]byte](t)(marshalLine(r2))) {
			t.Fatal("a request does not survive its encoding")
		}
		resp, err := b.service.SignSlot(context.Background(), r)
		var refusal *Refusal
		if err == nil {
			// Whatever else differs, this block is the valid one.
			p := need2(r.parse())(t)
			if p.Height != testSlot || p.Header != valid.Header || p.Index != 0 {
				t.Fatalf("signed %+v", p)
			}
			b.checkSignature(t, p, resp)
		} else if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
	})
}

func need2[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		return need[T](tb)(v, err)
	}
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
