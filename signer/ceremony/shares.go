package ceremony

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// Share is one custodian's part of the key that backups are sealed with.
type Share struct {
	Format    string `json:"format"`
	Backup    string `json:"backup"` // which split it belongs to
	Custodian string `json:"custodian"`
	Number    int    `json:"number"` // from 1
	Threshold int    `json:"threshold"`
	Total     int    `json:"total"`
	Value     string `json:"value"` // secret
}

const shareFormat = "qcity/key/share/1"

// Encode returns the share as JSON.
func (s Share) Encode() []byte { return encodeJSON(s) }

// ParseShare reads what Encode writes.
func ParseShare(b []byte) (Share, error) {
	var s Share
	if err := decodeJSON(b, &s); err != nil {
		// The decoder's own words may quote the share.
		return Share{}, failure(ErrBackup, "this file is no share of a backup's key: use the file as it was written")
	}
	if s.Format != shareFormat || s.Number < 1 || s.Total < s.Number || !bytes.Equal(b, s.Encode()) {
		return Share{}, failure(ErrBackup, "this file is no share of a backup's key in the form %s", shareFormat)
	}
	return s, nil
}

// Split is a random key, cut so that Threshold of the shares give it back and
// fewer give nothing (Shamir). With the commitments, which are public, a share
// that was mistyped or exchanged is recognised by itself (Feldman).
type Split struct {
	Threshold   int
	Shares      []Share
	commitments []string
	secret      []byte
}

// scalars is the field that shares are computed in; its arithmetic takes constant
// time.
var scalars = group.Ristretto255

// NewSplit makes a random key and one share for each custodian.
func NewSplit(custodians []string, threshold int) (*Split, error) {
	if threshold < 2 || threshold > len(custodians) {
		return nil, failure(ErrBackup, "a threshold of %d with %d custodians: want 2 up to their number", threshold, len(custodians))
	}
	secret := scalars.RandomNonZeroScalar(rand.Reader)
	ss := secretsharing.New(rand.Reader, uint(threshold-1), secret)
	out := &Split{Threshold: threshold}
	var err error
	if out.secret, err = secret.MarshalBinary(); err != nil {
		return nil, err
	}
	id := sha256.New()
	for _, c := range ss.CommitSecret() {
		b, err := c.MarshalBinary()
		if err != nil {
			return nil, err
		}
		id.Write(b)
		out.commitments = append(out.commitments, hex.EncodeToString(b))
	}
	name := hex.EncodeToString(id.Sum(nil)[:8])
	for i, s := range ss.Share(uint(len(custodians))) {
		v, err := s.Value.MarshalBinary()
		if err != nil {
			return nil, err
		}
		out.Shares = append(out.Shares, Share{
			Format: shareFormat, Backup: name, Custodian: custodians[i], Number: i + 1,
			Threshold: threshold, Total: len(custodians), Value: hex.EncodeToString(v),
		})
	}
	return out, nil
}

// Clear overwrites the key. The shares are for the custodians.
func (s *Split) Clear() { clear(s.secret) }

// join gives the key back. Every share is checked alone, so that the error names
// the custodian whose share is wrong.
func join(commitments []string, shares []Share) ([]byte, error) {
	var c secretsharing.SecretCommitment
	for _, digits := range commitments {
		b, err := hex.DecodeString(digits)
		e := scalars.NewElement()
		if err != nil || e.UnmarshalBinary(b) != nil {
			return nil, failure(ErrBackup, "the backup's head is damaged: use another copy of it")
		}
		c = append(c, e)
	}
	threshold := len(commitments)
	seen := make(map[int]bool)
	var points []secretsharing.Share
	for _, s := range shares {
		who := fmt.Sprintf("the share of custodian %d (%s)", s.Number, s.Custodian)
		if seen[s.Number] {
			return nil, failure(ErrBackup, "%s is given twice", who)
		}
		seen[s.Number] = true
		v := scalars.NewScalar()
		b, err := hex.DecodeString(s.Value)
		if err != nil || v.UnmarshalBinary(b) != nil {
			return nil, failure(ErrBackup, "%s is damaged", who)
		}
		p := secretsharing.Share{ID: scalars.NewScalar().SetUint64(uint64(s.Number)), Value: v}
		if !secretsharing.Verify(uint(threshold-1), p, c) {
			return nil, failure(ErrBackup, "%s does not belong to this backup, or is damaged", who)
		}
		points = append(points, p)
	}
	if len(points) < threshold {
		return nil, failure(ErrBackup, "%d shares are given, the backup needs %d", len(points), threshold)
	}
	secret, err := secretsharing.Recover(uint(threshold-1), points)
	if err != nil {
		return nil, failure(ErrBackup, "the shares do not give the key back: %v", err)
	}
	return secret.MarshalBinary()
}
