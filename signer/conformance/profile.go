package conformance

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// profileFormat is the version of the file format.
const profileFormat = 1

// Profile is what a kind of token answers. It names no device, so that one
// profile serves all of a kind.
type Profile struct {
	Format       int       `json:"format"`
	Manufacturer string    `json:"manufacturer"`
	Model        string    `json:"model"`
	Firmware     string    `json:"firmware"`
	Module       string    `json:"module"`
	Version      string    `json:"version"`
	Curve        string    `json:"curve,omitempty"`
	PoolSize     int       `json:"poolSize,omitempty"` // sessions, measured on the machine that wrote this
	Cases        []Outcome `json:"cases"`
}

// NewProfile keeps what a report says of its kind of token. Figures, and what
// was not asked, are left out.
func NewProfile(r *Report) Profile {
	t := r.Token
	p := Profile{
		Format: profileFormat, Manufacturer: t.Manufacturer, Model: t.Model, Firmware: t.Firmware,
		Module: t.Module, Version: t.Version, Curve: r.Curve,
	}
	if len(r.Rates) > 0 {
		p.PoolSize = PoolSize(r.Rates)
	}
	for _, o := range r.Outcomes {
		c, err := Lookup(o.Number)
		if err == nil && o.Result != Skipped && c.Needs&Varies == 0 {
			o.Note = ""
			p.Cases = append(p.Cases, o)
		}
	}
	return p
}

// Encode returns the one form of the file: indented JSON in the order of the
// fields and numbers, and a newline.
func (p Profile) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(p); err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return b.Bytes()
}

// Hash is the SHA-256 of the encoded profile in hex.
func (p Profile) Hash() string {
	sum := sha256.Sum256(p.Encode())
	return hex.EncodeToString(sum[:])
}

// ParseProfile reads a profile and refuses what is not in the form of Encode.
func ParseProfile(b []byte) (Profile, error) {
	var p Profile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Profile{}, fmt.Errorf("this is no profile: %w", err)
	}
	if p.Format != profileFormat {
		return Profile{}, fmt.Errorf("profile has format %d, want %d: write it again with this version", p.Format, profileFormat)
	}
	if !bytes.Equal(p.Encode(), b) {
		return Profile{}, fmt.Errorf("profile is not as it was written: it was edited, write it again")
	}
	return p, nil
}

// Drift says, a line each, where now differs from p. A case that only one of
// the two has is not compared.
func (p Profile) Drift(now Profile) []string {
	var out []string
	for _, f := range [...]struct{ name, was, is string }{
		{"manufacturer", p.Manufacturer, now.Manufacturer},
		{"model", p.Model, now.Model},
		{"firmware", p.Firmware, now.Firmware},
		{"module", p.Module, now.Module},
		{"module version", p.Version, now.Version},
	} {
		if f.was != f.is {
			out = append(out, fmt.Sprintf("%s: was %q, is %q", f.name, f.was, f.is))
		}
	}
	is := make(map[int]Outcome)
	for _, o := range now.Cases {
		is[o.Number] = o
	}
	for _, was := range p.Cases {
		if o, ok := is[was.Number]; ok && (o.Result != was.Result || o.Value != was.Value) {
			out = append(out, fmt.Sprintf("%d %s: was %s %s, is %s %s", was.Number, was.Name, was.Result, was.Value, o.Result, o.Value))
		}
	}
	return out
}

//go:embed profiles
var profiles embed.FS

// Profiles returns the profiles of the tokens the suite is run on, by name.
func Profiles() map[string]Profile {
	out := make(map[string]Profile)
	files, err := profiles.ReadDir("profiles")
	if err != nil {
		panic(err) // embedded
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		b, err := profiles.ReadFile(path.Join("profiles", f.Name()))
		if err != nil {
			panic(err) // embedded
		}
		if p, err := ParseProfile(b); err == nil {
			out[name] = p
		}
	}
	return out
}

// known tells from a profile whether a kind of token offers secp256k1.
func known(t Token) string {
	for _, p := range Profiles() {
		if p.Manufacturer != t.Manufacturer || p.Model != t.Model || p.Module != t.Module || p.Version != t.Version {
			continue
		}
		for _, o := range p.Cases {
			if o.Number == 507 {
				if o.Value == "generated" {
					return "yes"
				}
				return "no"
			}
		}
	}
	return "unknown"
}
