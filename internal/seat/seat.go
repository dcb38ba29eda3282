// Package seat says in the node's terms what a signer answers, and in the signer's
// what a node tells: neither of the two knows the other's package.
package seat

import (
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/signer"
)

// Signature returns the signature of a response, or the error as node.Signer has it.
func Signature(resp signer.Response, err error) ([64]byte, error) {
	if err != nil {
		var refusal *signer.Refusal
		switch {
		case errors.Is(err, signer.RuleUnseen):
			err = fmt.Errorf("%w: %w", node.ErrUntold, err)
		case errors.As(err, &refusal) && !refusal.Temporary():
			err = fmt.Errorf("%w: %w", node.ErrRefused, err)
		}
		return [64]byte{}, err
	}
	sig, err := resp.BlockSig()
	return sig.Signature, err
}

// Seen returns what the signer is told the chain shows of its keys.
func Seen(tip uint32, shown []node.Shown) signer.SeenRequest {
	r := signer.SeenRequest{Tip: tip}
	for _, k := range shown {
		r.Keys = append(r.Keys, signer.Seen(k))
	}
	return r
}
