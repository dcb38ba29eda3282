package ceremony

import (
	"encoding/hex"
	"strings"

	"github.com/tyler-smith/go-bip39/wordlists"

	"qcitycoin.org/qcity/node/types"
)

// keyWords is how many words a person compares: six carry 66 bits.
const keyWords = 6

// words returns the first bits of a hash as n words of BIP 39's English list, 11
// bits each. They are for reading aloud, not a mnemonic: nothing follows from them.
func words(h types.Hash, n int) string {
	out := make([]string, n)
	for i := range out {
		v := 0
		for bit := 11 * i; bit < 11*(i+1); bit++ {
			v = v<<1 | int(h[bit/8]>>(7-bit%8)&1)
		}
		out[i] = wordlists.English[v]
	}
	return strings.Join(out, " ")
}

// Fingerprint names a public key for persons.
type Fingerprint struct {
	Hex   string // 16 bytes
	Words string // the first 66 bits of the same hash as six words
}

// KeyFingerprint returns the fingerprint of algorithm and point.
func KeyFingerprint(k types.PublicKey) Fingerprint {
	h := types.TaggedHash("qcity/key/fingerprint", k.Bytes())
	return Fingerprint{hex.EncodeToString(h[:16]), words(h, keyWords)}
}

// HashWords returns a hash, given in hexadecimal digits, as six words.
func HashWords(digits string) string {
	return words(types.TaggedHash("qcity/ceremony/words", []byte(digits)), keyWords)
}

func isFileArg(arg string) bool { return strings.Contains(arg, "{file}") }
