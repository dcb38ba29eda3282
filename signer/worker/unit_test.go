package worker_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/signer/worker"
)

// softKey signs in Go: only for judging CheckSignature.
type softKey struct {
	alg   worker.Algorithm
	pub   worker.PublicKey
	order *big.Int
	sign  func(d [32]byte) (r, s *big.Int)
}

func softKeys(t testing.TB) []softKey {
	k1 := must[*secp256k1.PrivateKey](t)(secp256k1.GeneratePrivateKey())
	r1 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	full := must[[]byte](t)(r1.PublicKey.Bytes())
	return []softKey{
		{
			worker.Secp256k1, worker.PublicKey(k1.PubKey().SerializeCompressed()), secp256k1.Params().N,
			func(d [32]byte) (*big.Int, *big.Int) {
				sig := secpecdsa.Sign(k1, d[:])
				r, s := sig.R(), sig.S()
				rb, sb := r.Bytes(), s.Bytes()
				return new(big.Int).SetBytes(rb[:]), new(big.Int).SetBytes(sb[:])
			},
		},
		{
			worker.P256, must[worker.PublicKey](t)(worker.CompressPoint(worker.P256, full)), elliptic.P256().Params().N,
			func(d [32]byte) (*big.Int, *big.Int) {
				r, s, err := ecdsa.Sign(rand.Reader, r1, d[:])
				if err != nil {
					t.Fatal(err)
				}
				return r, s
			},
		},
	}
}

func raw(r, s *big.Int) []byte {
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func TestCheckSignature(t *testing.T) {
	for _, key := range softKeys(t) {
		d := digest(key.alg)
		r, s := key.sign(d)
		negS := new(big.Int).Sub(key.order, s)
		low := s
		if negS.Cmp(s) < 0 {
			low = negS
		}
		zero, tooLarge := new(big.Int), new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, 32))
		for _, tc := range []struct {
			name string
			raw  []byte
			good bool
		}{
			{"low s", raw(r, low), true},
			{"high s", raw(r, new(big.Int).Sub(key.order, low)), true},
			{"r zero", raw(zero, s), false},
			{"s zero", raw(r, zero), false},
			{"r is the order", raw(key.order, s), false},
			{"s is the order", raw(r, key.order), false},
			{"s too large", raw(r, tooLarge), false},
			{"r and s swapped", raw(s, r), false},
			{"short", raw(r, s)[:63], false},
			{"long", append(raw(r, s), 0), false},
			{"empty", nil, false},
		} {
			t.Run(fmt.Sprint(key.alg, " ", tc.name), func(t *testing.T) {
				sig, err := worker.CheckSignature(key.alg, key.pub, d, tc.raw)
				if !tc.good {
					if !errors.Is(err, worker.ErrBadSignature) || sig != (worker.Signature{}) {
						t.Fatalf("got %x, %v, want %s", sig, err, worker.ErrBadSignature)
					}
					return
				}
				if err != nil || !bytes.Equal(sig[:], raw(r, low)) {
					t.Fatalf("got %x, %v, want %x", sig, err, raw(r, low))
				}
			})
		}
		t.Run(fmt.Sprint(key.alg, " every bit flipped"), func(t *testing.T) {
			for bit := range 512 {
				bad := raw(r, low)
				bad[bit/8] ^= 1 << (bit % 8)
				if _, err := worker.CheckSignature(key.alg, key.pub, d, bad); err == nil {
					t.Errorf("bit %d: accepted", bit)
				}
			}
		})
		if _, err := worker.CheckSignature(key.alg, key.pub, digest("other"), raw(r, s)); err == nil {
			t.Error("accepted for another digest")
		}
		if _, err := worker.CheckSignature(3-key.alg, key.pub, d, raw(r, s)); err == nil {
			t.Error("accepted on the other curve")
		}
	}
	if _, err := worker.CheckSignature(0, worker.PublicKey{}, [32]byte{}, make([]byte, 64)); !errors.Is(err, worker.ErrBadRequest) {
		t.Errorf("unknown algorithm: got %v", err)
	}
}

// The generators, from SEC 2 (secp256k1) and FIPS 186-4 D.1.2.3 (P-256).
func TestCompressPoint(t *testing.T) {
	const (
		kx = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
		ky = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
		px = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
		py = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
	)
	for _, tc := range []struct {
		name, point, want string
		alg               worker.Algorithm
	}{
		{"secp256k1 uncompressed", "04" + kx + ky, "02" + kx, worker.Secp256k1},
		{"secp256k1 compressed", "02" + kx, "02" + kx, worker.Secp256k1},
		{"p256 uncompressed", "04" + px + py, "03" + px, worker.P256},
		{"p256 compressed", "03" + px, "03" + px, worker.P256},
		{"p256 point on secp256k1", "04" + px + py, "", worker.Secp256k1},
		{"secp256k1 point on p256", "04" + kx + ky, "", worker.P256},
		{"bad tag", "05" + px + py, "", worker.P256},
		{"infinity", "00", "", worker.P256},
		{"empty", "", "", worker.Secp256k1},
		{"unknown curve", "02" + kx, "", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := worker.CompressPoint(tc.alg, must[[]byte](t)(hex.DecodeString(tc.point)))
			if (err == nil) != (tc.want != "") || err == nil && got.String() != tc.want {
				t.Errorf("got %s, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestAlgorithmNames(t *testing.T) {
	for _, a := range []worker.Algorithm{worker.Secp256k1, worker.P256} {
		if got, err := worker.ParseAlgorithm(a.String()); err != nil || got != a {
			t.Errorf("%s: got %v, %v", a, got, err)
		}
	}
	if _, err := worker.ParseAlgorithm("p384"); err == nil {
		t.Error("p384 accepted")
	}
}

func TestAttributesCheck(t *testing.T) {
	good := worker.Attributes{Sensitive: worker.True, AlwaysSensitive: worker.True, Extractable: worker.False, NeverExtractable: worker.True, Local: worker.True, Sign: worker.True}
	for _, tc := range []struct {
		name   string
		change func(*worker.Attributes)
		fault  string // in the message; empty: accepted
		kind   worker.Kind
	}{
		{"all good", func(*worker.Attributes) {}, "", ""},
		{"not local", func(a *worker.Attributes) { a.Local = worker.False }, "", ""},
		{"history not answered", func(a *worker.Attributes) { a.AlwaysSensitive, a.NeverExtractable = "", "" }, "", ""},
		{"sign not answered", func(a *worker.Attributes) { a.Sign = "" }, "", ""},
		{"not sensitive", func(a *worker.Attributes) { a.Sensitive = worker.False }, "not sensitive", worker.ErrKeyNotSensitive},
		{"sensitive not answered", func(a *worker.Attributes) { a.Sensitive = "" }, "whether it is sensitive", worker.ErrKeySensitiveUnknown},
		{"extractable", func(a *worker.Attributes) { a.Extractable = worker.True }, "it is extractable", worker.ErrKeyExtractable},
		{"extractable not answered", func(a *worker.Attributes) { a.Extractable = "" }, "whether it is extractable", worker.ErrKeyExtractableUnknown},
		{"once not sensitive", func(a *worker.Attributes) { a.AlwaysSensitive = worker.False }, "not always sensitive", worker.ErrKeyOnceReadable},
		{"once extractable", func(a *worker.Attributes) { a.NeverExtractable = worker.False }, "extractable once", worker.ErrKeyOnceExtractable},
		{"may not sign", func(a *worker.Attributes) { a.Sign = worker.False }, "may not sign", worker.ErrKeyCannotSign},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := good
			tc.change(&a)
			err := a.Check()
			if tc.fault == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, worker.ErrKeyUnprotected) || !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.fault) {
				t.Fatalf("got %v, want %s: %s", err, worker.ErrKeyUnprotected, tc.fault)
			}
		})
	}
}

func TestReturnValues(t *testing.T) {
	for _, tc := range []struct {
		rv    worker.RV
		name  string
		class worker.Class
	}{
		{0x1b, "CKR_ACTION_PROHIBITED", worker.ClassStop},
		{0x140, "CKR_CURVE_NOT_SUPPORTED", worker.ClassStop},
		{0x02, "CKR_HOST_MEMORY", worker.ClassReFind},
		{0x60, "CKR_KEY_HANDLE_INVALID", worker.ClassReFind},
		{0x82, "CKR_OBJECT_HANDLE_INVALID", worker.ClassReFind},
		{0x101, "CKR_USER_NOT_LOGGED_IN", worker.ClassReFind},
		{0x90, "CKR_OPERATION_ACTIVE", worker.ClassNewSession},
		{0xb0, "CKR_SESSION_CLOSED", worker.ClassNewSession},
		{0xb1, "CKR_SESSION_COUNT", worker.ClassNewSession},
		{0xb3, "CKR_SESSION_HANDLE_INVALID", worker.ClassNewSession},
		{0x05, "CKR_GENERAL_ERROR", worker.ClassRestart},
		{0x06, "CKR_FUNCTION_FAILED", worker.ClassRestart},
		{0x0a, "CKR_CANT_LOCK", worker.ClassRestart},
		{0x30, "CKR_DEVICE_ERROR", worker.ClassRestart},
		{0x32, "CKR_DEVICE_REMOVED", worker.ClassRestart},
		{0xe0, "CKR_TOKEN_NOT_PRESENT", worker.ClassRestart},
		{0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", worker.ClassRestart},
		{0xa0, "CKR_PIN_INCORRECT", worker.ClassStop},
		{0xa3, "CKR_PIN_EXPIRED", worker.ClassStop},
		{0xa4, "CKR_PIN_LOCKED", worker.ClassStop},
		{0x204, "CKR_PENDING", worker.ClassRestart},
		{0x207, "CKR_OPERATION_NOT_VALIDATED", worker.ClassStop},
		{0x777, "unknown code 0x777", worker.ClassRestart},
		{0x80000005, "vendor code 0x80000005", worker.ClassRestart},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := fmt.Errorf("wrapped: %w", &worker.Error{Kind: worker.ErrReturned, RV: tc.rv})
			if tc.rv.String() != tc.name || worker.Classify(err) != tc.class {
				t.Errorf("got %s, %s, want %s, %s", tc.rv, worker.Classify(err), tc.name, tc.class)
			}
		})
	}
	if c := worker.Classify(io.EOF); c != worker.ClassStop {
		t.Errorf("a foreign error is %s", c)
	}
}

// TestEveryCode: all codes of PKCS#11 v3.2 (pkcs11t.h) have a name and a class
// that was chosen, and nothing else has.
func TestEveryCode(t *testing.T) {
	const codes = `00 01 02 03 05 06 07 08 09 0a 10 11 12 13 1b 20 21 30 31 32 40 41 42 50 51 54 60 62 63 64 65 66 67 68 69 6a 70 71
		82 90 91 a0 a1 a2 a3 a4 b0 b1 b3 b4 b5 b6 b7 b8 c0 c1 d0 d1 e0 e1 e2 f0 f1 f2 100 101 102 103 104 105 110 112 113 114 115
		120 121 130 140 150 160 170 180 190 191 1a0 1a1 1b0 1b1 1b5 1b6 1b7 1b8 1b9 200 201 202 203 204 205 206 207 208 209`
	standard := make(map[worker.RV]bool)
	names := make(map[string]bool)
	for code := range strings.FieldsSeq(codes) {
		rv := worker.RV(must[uint64](t)(strconv.ParseUint(code, 16, 64)))
		standard[rv] = true
		if name := rv.String(); !strings.HasPrefix(name, "CKR_") || names[name] {
			t.Errorf("%#x is called %q", uint64(rv), name)
		}
		names[rv.String()] = true
	}
	for rv := worker.RV(0); rv < 0x1000; rv++ {
		if known := strings.HasPrefix(rv.String(), "CKR_"); known != standard[rv] {
			t.Errorf("%s: in the standard %t, known %t", rv, standard[rv], known)
		}
		if !standard[rv] && rv.Class() != worker.ClassRestart {
			t.Errorf("%s is %s", rv, rv.Class())
		}
	}
	if len(standard) != 104 {
		t.Errorf("%d codes listed", len(standard))
	}
}

func TestParseVendorCodes(t *testing.T) {
	got, err := worker.ParseVendorCodes(map[string]string{"0x80000005": "stop", "0x80000006": "re-find", "2147483655": "new-session", "0x80000008": "restart"})
	want := map[worker.RV]worker.Class{0x80000005: worker.ClassStop, 0x80000006: worker.ClassReFind, 0x80000007: worker.ClassNewSession, 0x80000008: worker.ClassRestart}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for code, class := range map[string]string{"0x30": "stop", "x": "stop", "0x80000005": "ignore", "-1": "stop"} {
		if _, err := worker.ParseVendorCodes(map[string]string{code: class}); err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%s = %s: got %v", code, class, err)
		}
	}
}

func drawBytes(t *rapid.T, limit int, name string) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 0, limit).Draw(t, name)
	if len(b) == 0 {
		return nil
	}
	return b
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &worker.Request{
			ID:     rapid.Uint64().Draw(t, "id"),
			Op:     rapid.SampledFrom([]worker.Op{worker.OpOpen, worker.OpLogin, worker.OpSign}).Draw(t, "op"),
			Module: rapid.String().Draw(t, "module"),
			Token:  worker.TokenRef{Label: rapid.String().Draw(t, "label"), Serial: rapid.String().Draw(t, "serial")},
			Key:    worker.KeyQuery{Algorithm: worker.Algorithm(rapid.Byte().Draw(t, "alg")), ID: drawBytes(t, 40, "key id")},
			Digest: drawBytes(t, 64, "digest"),
			PIN:    drawBytes(t, 300, "pin"),
			SOPIN:  drawBytes(t, 300, "so pin"),
		}
		copy(want.Key.PublicKey[:], drawBytes(t, 33, "public key"))
		var wire bytes.Buffer
		if err := worker.WriteRequest(&wire, want); err != nil {
			t.Fatal(err)
		}
		got, err := worker.ReadRequest(&wire)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || wire.Len() != 0 {
			t.Fatalf("%d bytes left (-want +got):\n%s", wire.Len(), diff)
		}
	})
}

func TestFrameLimits(t *testing.T) {
	if err := worker.WriteRequest(io.Discard, &worker.Request{PIN: make([]byte, worker.MaxFrame)}); err == nil {
		t.Error("a frame that is too long was written")
	}
	frame := func(body string) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for _, tc := range []struct {
		name string
		wire []byte
		want string
	}{
		{"nothing", nil, io.EOF.Error()},
		{"half a length", []byte{1, 0}, io.ErrUnexpectedEOF.Error()},
		{"too short", frame("abc"), "frame length"},
		{"too long", []byte{1, 0, 1, 0}, "frame length"},
		{"ends early", frame("\x00\x00\x00\x00{}")[:7], io.ErrUnexpectedEOF.Error()},
		{"no body", frame("\x00\x00\x00\x00"), "EOF"},
		{"first secret too long", frame("\x09\x00\x00\x00{}"), "first secret"},
		{"second secret too long", frame("\x00\x00\x09\x00{}"), "second secret"},
		{"not JSON", frame("\x00\x00\x00\x00}{"), "invalid character"},
		{"unknown field", frame("\x00\x00\x00\x00{\"pin\":\"1\"}"), "unknown field"},
		{"two values", frame("\x00\x00\x00\x00{}{}"), "data after"},
		{"bad public key", frame("\x00\x00\x00\x00{\"key\":{\"publicKey\":\"02\"}}"), "66"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := worker.ReadRequest(bytes.NewReader(tc.wire))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := worker.ReadResponse(bytes.NewReader(frame("\x01\x00p\x00\x00{}"))); err == nil {
		t.Error("a response with a PIN was accepted")
	}
}

// FuzzFrame: whatever is accepted must survive another trip unchanged.
func FuzzFrame(f *testing.F) {
	var seed bytes.Buffer
	if err := worker.WriteRequest(&seed, &worker.Request{ID: 1, Op: worker.OpLogin, Token: worker.TokenRef{Label: "l", Serial: "s"}, PIN: []byte("p")}); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Add([]byte("\x06\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		if req, err := worker.ReadRequest(bytes.NewReader(wire)); err == nil {
			var out bytes.Buffer
			if err := worker.WriteRequest(&out, req); err != nil {
				return // grew over the limit when written canonically
			}
			again, err := worker.ReadRequest(&out)
			if err != nil {
				t.Fatal(err)
			}
			var second bytes.Buffer
			if err := worker.WriteRequest(&second, again); err != nil {
				t.Fatal(err)
			}
			out.Reset()
			if err := worker.WriteRequest(&out, req); err != nil || !bytes.Equal(out.Bytes(), second.Bytes()) {
				t.Fatalf("%v: %q became %q", err, out.Bytes(), second.Bytes())
			}
		}
		if resp, err := worker.ReadResponse(bytes.NewReader(wire)); err == nil {
			if err := worker.WriteResponse(io.Discard, resp); err != nil && len(wire) < worker.MaxFrame/8 {
				t.Fatal(err)
			}
		}
	})
}
