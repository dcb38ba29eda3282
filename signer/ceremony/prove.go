package ceremony

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/proof"
	"qcitycoin.org/qcity/signer/worker"
)

// NewChallenge returns a text with the day and 128 random bits. The day tells
// people how old a proof is; the bits make sure that nobody signed it before.
func NewChallenge(now time.Time) []byte {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return []byte(now.UTC().Format(time.DateOnly) + " " + hex.EncodeToString(b[:]))
}

// Prove signs a challenge with a key in a token that is logged in, and verifies
// what it got. What is signed is a tagged hash (package proof), so that it can be
// neither a transaction nor anything else that the key signs.
func Prove(ctx context.Context, w *worker.Supervisor, ref worker.KeyRef, network types.Hash, challenge []byte) (proof.Proof, error) {
	if err := proof.CheckChallenge(challenge); err != nil {
		return proof.Proof{}, err
	}
	p := proof.Proof{
		Key:     types.PublicKey{Algorithm: types.KeyAlgorithm(ref.Algorithm), Point: ref.PublicKey},
		Network: network, Challenge: challenge,
	}
	sig, err := w.Sign(ctx, ref, [32]byte(proof.Digest(network, p.Key, challenge)))
	if err != nil {
		return proof.Proof{}, err
	}
	p.Signature = proof.Signature(sig)
	return p, p.Verify(network)
}
