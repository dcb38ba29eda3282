package types_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"qcitycoin.org/qcity/node/types"
)

var (
	mainVersions = types.AddressVersions{PubKeyHash: 0, ScriptHash: 5, PrivateKey: 128}
	testVersions = types.AddressVersions{PubKeyHash: 111, ScriptHash: 196, PrivateKey: 239}
)

// TestBitcoinAddresses uses Bitcoin Core's key_io vectors and block 0's famous address.
func TestBitcoinAddresses(t *testing.T) {
	cases := []struct {
		versions        types.AddressVersions
		address, script string
	}{
		{mainVersions, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"},
		{mainVersions, "1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo", "76a914a31c06bd463e3923bc1aadbde48b16976c08071788ac"},
		{mainVersions, "36j4NfKv6Akva9amjWrLG6MuSQym1GuEmm", "a914373b819a068f32b7a6b38b6b38729647cfde01c287"},
		{testVersions, "mzK2FFDEhxqHcmrJw1ysqFkVyhUULo45hZ", "76a914ce28b26c57472737f5c3561a1761185bd8589a4388ac"},
		{testVersions, "2NC2hEhe28ULKAJkW5MjZ3jtTMJdvXmByvK", "a914ce0bba75891ff9ec60148d4bd4a09ee2dc5c933187"},
		{testVersions, "mfhE6jAUwjUDNZhaX1PAsDTKfneQF2Nshc", "76a91401f15a4cc063dae4f4d56b89bfbc8bcc9ae5387c88ac"},
		{mainVersions, "1111111111111111111114oLvT2", "76a914000000000000000000000000000000000000000088ac"},
	}
	for _, c := range cases {
		script, err := c.versions.Script(c.address)
		if err != nil || hex.EncodeToString(script) != c.script {
			t.Errorf("%s: %x, %v", c.address, script, err)
		}
		if got := c.versions.Address(unhex(t, c.script)); got != c.address {
			t.Errorf("%s: %s", c.script, got)
		}
	}
}

func TestBadAddresses(t *testing.T) {
	for name, s := range map[string]string{
		"empty":               "",
		"one character":       "1",
		"mistyped":            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
		"no base58 character": "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0a",
		"cut short":           "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfN",
		"other network":       "mzK2FFDEhxqHcmrJw1ysqFkVyhUULo45hZ",
		"segwit":              "bc1qvyq0cc6rahyvsazfdje0twl7ez82ndmuac2lhv",
		"private key":         "L5nJeqKmpHp4P7F8ZYyjwc5a7P4d8EabuGAzfGJk7yC1BJyzNaEd",
		"blank behind":        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa ",
		"extra zero in front": "11A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
		"very long":           string(make([]byte, 200)),
	} {
		if script, err := mainVersions.Script(s); !errors.Is(err, types.ErrAddress) {
			t.Errorf("%s: %x, %v", name, script, err)
		}
	}
}

func TestBitcoinWIF(t *testing.T) {
	cases := []struct {
		versions types.AddressVersions
		wif, key string
	}{
		{mainVersions, "L5nJeqKmpHp4P7F8ZYyjwc5a7P4d8EabuGAzfGJk7yC1BJyzNaEd", "ff778740f88ddcf102aeb81daee289c044c4a4571c4b6f287400f4b8e0b843f8"},
		{mainVersions, "KwuVvu6hsuEMHrfFWJQV64tRrWX3QzqHH18JuAHYqYV6dqBvNKxd", "147804bf8a0dfff35939a611c7f5a60ac107f33f33d6059f273d2079ab1d90f2"},
		{testVersions, "cV83kKisF3RQSvXbUCm9ox3kaz5JjEUBWcx8tNydfGJcyeUxuH47", "e0fcd4ce4e3d0e3de091f21415bb7cd011fac288c42020a879f28c2a4387df9b"},
		{testVersions, "cPisAUdLvqqAr6MYtXnrWvgvyUAwuNyuTvZkDGw6miPhZdaiSDNH", "3fdfec1371cedcdb8c190ca6ff8ad603f817edc0d93c2a687c7b36dd66e70f2a"},
	}
	for _, c := range cases {
		key, err := c.versions.ParseWIF(c.wif)
		if err != nil || hex.EncodeToString(key[:]) != c.key {
			t.Errorf("%s: %v", c.wif, err)
		}
		if got := c.versions.WIF([32]byte(unhex(t, c.key))); got != c.wif {
			t.Errorf("%s comes back as %s", c.wif, got)
		}
	}
	for name, s := range map[string]string{
		"uncompressed":  "5JuW2AMDYu4xVwRG9DZW18VbzQrGcd5RCgb99sS6ehJsNQXu5b9",
		"other network": "cV83kKisF3RQSvXbUCm9ox3kaz5JjEUBWcx8tNydfGJcyeUxuH47",
		"mistyped":      "L5nJeqKmpHp4P7F8ZYyjwc5a7P4d8EabuGAzfGJk7yC1BJyzNaEe",
		"an address":    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
	} {
		if _, err := mainVersions.ParseWIF(s); err == nil {
			t.Errorf("%s is read as a key", name)
		}
	}
}
