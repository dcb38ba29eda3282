package types

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// TestHeightScript uses the encodings Bitcoin writes for BIP 34.
func TestHeightScript(t *testing.T) {
	for height, want := range map[uint32]string{
		0: "00", 1: "51", 2: "52", 15: "5f", 16: "60", 17: "0111", 80: "0150", 127: "017f",
		128: "028000", 129: "028100", 255: "02ff00", 256: "020001", 32767: "02ff7f", 32768: "03008000",
		65535: "03ffff00", 65536: "03000001", 227835: "03fb7903", 8388607: "03ffff7f", 8388608: "0400008000",
		2147483647: "04ffffff7f", 2147483648: "050000008000", 4294967295: "05ffffffff00",
	} {
		if got := hex.EncodeToString(HeightScript(height)); got != want {
			t.Errorf("height %d: %s, want %s", height, got, want)
		}
	}
}

func TestHeightScriptsAreNoPrefixOfEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b")
		if a != b && bytes.HasPrefix(HeightScript(a), HeightScript(b)) {
			t.Fatalf("the push of %d starts with that of %d", a, b)
		}
	})
}

func TestReadPush(t *testing.T) {
	long := bytes.Repeat([]byte{7}, 256)
	cases := []struct {
		name   string
		script []byte
		want   []byte // nil: refused
	}{
		{"OP_0", []byte{0x00}, []byte{}},
		{"OP_1", []byte{0x51}, []byte{1}},
		{"OP_16", []byte{0x60}, []byte{16}},
		{"OP_1NEGATE", []byte{0x4f}, []byte{0x81}},
		{"17", []byte{1, 17}, []byte{17}},
		{"zero byte", []byte{1, 0}, []byte{0}},
		{"75 bytes", append([]byte{75}, long[:75]...), long[:75]},
		{"76 bytes", append([]byte{0x4c, 76}, long[:76]...), long[:76]},
		{"255 bytes", append([]byte{0x4c, 255}, long[:255]...), long[:255]},
		{"256 bytes", append([]byte{0x4d, 0, 1}, long...), long},
		{"nothing", nil, nil},
		{"1 as a byte", []byte{1, 1}, nil},
		{"16 as a byte", []byte{1, 16}, nil},
		{"0x81 as a byte", []byte{1, 0x81}, nil},
		{"75 bytes with PUSHDATA1", append([]byte{0x4c, 75}, long[:75]...), nil},
		{"empty with PUSHDATA1", []byte{0x4c, 0}, nil},
		{"255 bytes with PUSHDATA2", append([]byte{0x4d, 255, 0}, long[:255]...), nil},
		{"PUSHDATA4", append([]byte{0x4e, 0, 1, 0, 0}, long...), nil},
		{"cut short", []byte{5, 1, 2}, nil},
		{"PUSHDATA1 without length", []byte{0x4c}, nil},
		{"PUSHDATA2 without length", []byte{0x4d, 1}, nil},
		{"OP_RESERVED", []byte{0x50}, nil},
		{"OP_NOP", []byte{0x61}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, rest, err := readPush(c.script)
			if c.want == nil {
				if err == nil {
					t.Errorf("read as %x", got)
				}
				return
			}
			if err != nil || len(rest) != 0 || !bytes.Equal(got, c.want) {
				t.Errorf("%x, rest %x, %v", got, rest, err)
			}
		})
	}
}

// TestParseDER uses BIP 66's rules; every refused form but the last two is one
// that lenient parsers take.
func TestParseDER(t *testing.T) {
	good := []byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02}
	if raw, err := parseDER(good); err != nil || raw[31] != 1 || raw[63] != 2 {
		t.Errorf("%x: %v", raw, err)
	}
	for name, der := range map[string][]byte{
		"negative r":         {0x30, 0x06, 0x02, 0x01, 0x81, 0x02, 0x01, 0x02},
		"negative s":         {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x82},
		"padded r":           {0x30, 0x07, 0x02, 0x02, 0x00, 0x01, 0x02, 0x01, 0x02},
		"padded s":           {0x30, 0x07, 0x02, 0x01, 0x01, 0x02, 0x02, 0x00, 0x02},
		"empty r":            {0x30, 0x06, 0x02, 0x00, 0x02, 0x02, 0x01, 0x02},
		"long-form length":   {0x30, 0x81, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02},
		"long-form r length": {0x30, 0x07, 0x02, 0x81, 0x01, 0x01, 0x02, 0x01, 0x02},
		"length too small":   {0x30, 0x05, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02},
		"length too large":   {0x30, 0x07, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02},
		"byte behind s":      {0x30, 0x07, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02, 0x00},
		"three integers":     {0x30, 0x09, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02, 0x02, 0x01, 0x03},
		"no sequence":        {0x31, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02},
		"bit string":         {0x30, 0x06, 0x03, 0x01, 0x01, 0x02, 0x01, 0x02},
		"nothing":            {},
		"r over 256 bits":    append(append([]byte{0x30, 0x26, 0x02, 0x21}, bytes.Repeat([]byte{0x7f}, 33)...), 0x02, 0x01, 0x02),
	} {
		if raw, err := parseDER(der); err == nil {
			t.Errorf("%s is read as %x", name, raw)
		}
	}
}

// FuzzParseDER: whatever is read is exactly what encoding/asn1 would write.
func FuzzParseDER(f *testing.F) {
	f.Add([]byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02})
	f.Add([]byte{0x30, 0x08, 0x02, 0x02, 0x00, 0x80, 0x02, 0x02, 0x00, 0x81})
	f.Fuzz(func(t *testing.T, der []byte) {
		raw, err := parseDER(der)
		if err != nil {
			return
		}
		again, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("%x comes back as %x, %v", der, again, err)
		}
	})
}

// FuzzReadPush: an element has one push only.
func FuzzReadPush(f *testing.F) {
	f.Add([]byte{0x51})
	f.Add([]byte{2, 9, 9, 0x60})
	f.Add([]byte{0x4c, 0x4c})
	f.Fuzz(func(t *testing.T, s []byte) {
		data, rest, err := readPush(s)
		if err == nil && !bytes.Equal(append(appendPush(nil, data), rest...), s) {
			t.Fatalf("%x is not the push of %x", s, data)
		}
	})
}
