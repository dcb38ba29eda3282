package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer/ceremony"
)

// reviewed is a ceremony file with what belongs to it.
type reviewed struct {
	script *ceremony.Script
	sha256 string
	root   []byte
}

// loadCeremony reads and checks a ceremony file. Errors name line and column.
func loadCeremony(file string) (reviewed, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return reviewed{}, fmt.Errorf("read the ceremony file: %w", err)
	}
	s := new(ceremony.Script)
	if err := configs.Decode(file, text, s); err != nil {
		return reviewed{}, err
	}
	if err := s.Check(); err != nil {
		var at *ceremony.FieldError
		if errors.As(err, &at) {
			return reviewed{}, configs.At(file, text, at.Key, at.Error())
		}
		return reviewed{}, fmt.Errorf("%s: %w", file, err)
	}
	r := reviewed{script: s, sha256: hexSHA256(text)}
	if s.Attestation.Root != "" {
		path := s.Attestation.Root
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
		if r.root, err = os.ReadFile(path); err != nil {
			return r, configs.At(file, text, []string{"attestation", "root"}, err.Error())
		}
		if sum := hexSHA256(r.root); sum != s.Attestation.RootSHA256 {
			return r, configs.At(file, text, []string{"attestation", "root_sha256"}, fmt.Sprintf("the file %s has the hash %s: find out which one was reviewed", path, sum))
		}
		if _, err := ceremony.ParseRoot(r.root); err != nil {
			return r, configs.At(file, text, []string{"attestation", "root"}, err.Error())
		}
	}
	return r, nil
}

func hexSHA256(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// ownSHA256 is the hash of this program.
func ownSHA256() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
