package port

import (
	"bytes"
	"strings"
	"testing"
)

// first is what real programs begin with, and near misses.
var first = map[string]Kind{
	`{"id":1,"method":"mining.subscribe"}`: Plain,
	`{"id":1,`:                             Plain, // eight bytes tell
	"{\n  \"id\"":                          Plain,
	" \r\n\t{\"id\":1,":                    Plain,
	"\n\n\n\n\n\n{\"id\":1}":               Plain, // the blank line at index 5 told
	`{"é":1,"id":2}`:                       Noise, // no client begins like this
	`{"id":1,"é`:                           Plain,
	"hello\n":                              Plain,
	"hello\r\n":                            Plain,
	strings.Repeat("x", MaxFirst):          Plain,
	strings.Repeat(" ", MaxFirst):          Plain,
	"SSH-2.0-OpenSSH_9.2\r\n":              Plain,
	"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n": Plain,
	"GETWORK\n":                            Plain,
	"get / http/1.1\r\n":                   Plain, // methods are upper case

	"\x16\x03\x01\x02\x00\x01": TLS,
	"\x16\x03\x03":             TLS,

	"GET / HTTP/1.1\r\n": HTTP,
	"GET ":               HTTP,
	"POST /":             HTTP,
	"HEAD / HTTP/1.0":    HTTP,
	"PUT /x":             HTTP,
	"OPTIONS *":          HTTP,
	"CONNECT a:1":        HTTP,
	"DELETE /":           HTTP,
	"PATCH /":            HTTP,
	"TRACE /":            HTTP,

	"\x00":                                   Noise,
	"\xff":                                   Noise,
	"\x16\x04":                               Noise,
	"\x16\x03\x05":                           Noise,
	"{\x80":                                  Noise,
	"{\"id\":1\x00":                          Noise,
	"GET\x00":                                Noise,
	"hello\x07":                              Noise,
	"\r\n\r\n\x00\r\n":                       Noise, // version 2 of the PROXY protocol
	strings.Repeat("x", MaxFirst-1) + "\x00": Noise,
	"\x80\x2e\x01\x03\x01":                   Noise, // the hello of SSL 2

	"": Unknown, "{": Unknown, `{"id":1`: Unknown, "hi\n": Unknown, "{}\n": Unknown, "G": Unknown, "GET": Unknown, "CONNEC": Unknown,
	"\x16": Unknown, "\x16\x03": Unknown, " ": Unknown, strings.Repeat("x", MaxFirst-1): Unknown,
}

func TestClassify(t *testing.T) {
	for text, want := range first {
		if got := Classify([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// FuzzClassify: an answer stays whatever follows, and 64 bytes are enough.
func FuzzClassify(f *testing.F) {
	for text := range first {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		told := Unknown
		for n := range len(stream) + 1 {
			kind := Classify(stream[:n])
			if told != Unknown && kind != told {
				t.Fatalf("%q is %v, with one more byte %v", stream[:n-1], told, kind)
			}
			if n >= MaxFirst && kind == Unknown {
				t.Fatalf("%d bytes do not tell: %q", n, stream[:n])
			}
			told = kind
			switch kind {
			case Noise:
				if n > 0 && !bytes.ContainsFunc(stream[:n], func(r rune) bool { return r < 9 || r > 126 || r > 13 && r < 32 || r == 11 || r == 12 }) {
					t.Fatalf("text was taken for Noise: %q", stream[:n])
				}
			case Plain, HTTP, TLS, Unknown:
			default:
				t.Fatalf("%q is %v, which first bytes cannot tell", stream[:n], kind)
			}
		}
	})
}

// TestRandomKeys computes how often the 64 random bytes that begin Stratum V2
// are taken for something else. The documents give the figure.
func TestRandomKeys(t *testing.T) {
	// Runs of bytes by class are all that matters; HTTP (2^-32) is left out.
	// blank[n], text[n], brace[n][k]: the chance that n bytes are only blanks;
	// text that does not begin with a brace; a brace with k bytes from it on.
	const (
		noEnd = 3.0 / 256  // blank, tab, carriage return
		end   = 1.0 / 256  // newline
		brace = 1.0 / 256  // {
		other = 93.0 / 256 // the other text
	)
	blank, text, json := 1.0, 0.0, make([]float64, jsonHead+1)
	taken := 0.0
	for i := range MaxFirst {
		nextBlank, nextText := blank*noEnd, blank*other+text*(noEnd+brace+other)
		ended := (blank + text) * end
		if i >= shortLine {
			taken += ended
		} else {
			nextBlank += blank * end
			nextText += text * end
		}
		next := make([]float64, jsonHead+1)
		next[1] = blank * brace
		for k := 1; k < jsonHead; k++ {
			next[k+1] = json[k] * (noEnd + end + brace + other)
		}
		taken += next[jsonHead]
		next[jsonHead] = 0
		blank, text, json = nextBlank, nextText, next
	}
	taken += blank + text
	for _, p := range json {
		taken += p
	}
	taken += 5.0 / 256 / 256 / 256 // TLS
	t.Logf("one random key in %.0f is not taken for Noise", 1/taken)
	if 1/taken < 17_500 || 1/taken > 18_500 {
		t.Error("the documents say: one in 18,000")
	}
}
