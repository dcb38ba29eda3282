// Package clustertest makes boxes contend for claims, for the tests of package
// cluster and of the modules beside it.
package clustertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/cluster"
)

// Key signs as a token does: every signature has other bytes.
type Key struct {
	types.PublicKey
	private *ecdsa.PrivateKey
}

// NewKey makes a key on P-256.
func NewKey() *Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	b, err := private.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	point := append([]byte{2 + b[64]&1}, b[1:33]...)
	public, err := types.NewPublicKey(types.P256, point)
	if err != nil {
		panic(err)
	}
	return &Key{public, private}
}

// Sign returns a low-S signature.
func (k *Key) Sign(digest types.Hash) (sig [64]byte) {
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		panic(err)
	}
	if n := elliptic.P256().Params().N; s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		s.Sub(n, s)
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig
}

// Block is a claim of k at height; other numbers are other payloads.
func (k *Key) Block(height uint32, payload int) cluster.Claim {
	return cluster.Claim{Kind: cluster.Block, Key: k.PublicKey, Height: height, Digest: digest("block", height, payload)}
}

// Vote is a claim of k for a link; other numbers are other branches.
func (k *Key) Vote(source, target uint32, branch int) cluster.Claim {
	return cluster.Claim{
		Kind: cluster.Vote, Key: k.PublicKey, Height: target,
		Source: consensus.Checkpoint{Height: source, ID: digest("source", source, branch)},
		Digest: digest("vote", source, target, branch),
	}
}

func digest(a ...any) types.Hash { return types.TaggedHash("clustertest", []byte(fmt.Sprint(a...))) }

// Contest lets every box claim a payload of its own at one height, at once, and
// each ask again for the same after an ambiguous answer. It returns the claim that won.
// The error says which promise was broken, or that ctx ended first.
func Contest(ctx context.Context, boxes []*cluster.Claims, k *Key, height uint32, ambiguous *atomic.Int64) (won cluster.Claim, err error) {
	results := make([]error, len(boxes))
	var wg sync.WaitGroup
	for i, box := range boxes {
		wg.Go(func() { _, results[i] = Insist(ctx, box, k.Block(height, i), ambiguous) })
	}
	wg.Wait()
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			return won, fmt.Errorf("height %d was won by boxes %d and %d", height, winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, cluster.ErrConflict):
			return won, fmt.Errorf("height %d, box %d: %w", height, i, err)
		}
	}
	if winner < 0 {
		return won, fmt.Errorf("height %d was won by nobody: %w", height, errors.Join(results...))
	}
	won = k.Block(height, winner)
	for i, err := range results {
		var conflict *cluster.Conflict
		if errors.As(err, &conflict) && conflict.Winner != won.Digest {
			return won, fmt.Errorf("height %d was won by box %d with %s, box %d was told %s", height, winner, won.Digest, i, conflict.Winner)
		}
	}
	return won, nil
}

// Insist claims until there is a decision, and counts the answers that were none.
func Insist(ctx context.Context, box *cluster.Claims, c cluster.Claim, ambiguous *atomic.Int64) (*[64]byte, error) {
	for {
		seal, err := box.Claim(ctx, c)
		if !errors.Is(err, cluster.ErrUnavailable) || ctx.Err() != nil {
			return seal, err
		}
		ambiguous.Add(1)
	}
}

// Seal signs and seals a claim on a box.
func Seal(ctx context.Context, box *cluster.Claims, k *Key, c cluster.Claim) ([64]byte, error) {
	return box.Seal(ctx, c, k.Sign(c.Digest))
}

// ReportPercentiles reports p50, p99 and the highest of times, in milliseconds, to a
// benchmark's ReportMetric.
func ReportPercentiles(report func(float64, string), times []time.Duration) {
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	report(ms(times[len(times)/2]), "p50-ms")
	report(ms(times[len(times)*99/100]), "p99-ms")
	report(ms(times[len(times)-1]), "max-ms")
}
