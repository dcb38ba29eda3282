package rpc

import (
	"context"
	"encoding/hex"
	"errors"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

func checkpointJSON(c consensus.Checkpoint) map[string]any {
	return map[string]any{"height": c.Height, "hash": c.ID}
}

func setJSON(set *consensus.ValidatorSet, a *consensus.Authority) map[string]any {
	keys := make([]map[string]any, len(set.Keys))
	for i, k := range set.Keys {
		keys[i] = map[string]any{
			"index": i, "algorithm": k.Algorithm.String(), "publicKey": hex.EncodeToString(k.Point[:]),
			"disabled": a.IsDisabled(k),
		}
	}
	return map[string]any{"number": set.Number, "id": set.ID(), "validators": keys}
}

// getValidators shows the set in force and, during a handover, the next one with
// what it waits for.
func (s *Server) getValidators(context.Context, *args) (any, error) {
	tip := s.chain.Tip()
	a := tip.Proven()
	m := setJSON(&a.Signers, a)
	if m["next"] = nil; a.Next != nil {
		next := setJSON(a.Next, a)
		next["carrier"], next["certifiedabove"] = checkpointJSON(a.Carrier), a.Depth
		m["next"] = next
	}
	return m, nil
}

// getFinality answers what a merchant asks: up to where is the chain certain.
func (s *Server) getFinality(context.Context, *args) (any, error) {
	standing := s.chain.Standing()
	m := map[string]any{
		"height": standing.Tip.Height, "hash": standing.Tip.ID, "signed": standing.Tip.LastSigned,
		"certified": checkpointJSON(standing.Certified), "final": checkpointJSON(standing.Final), "degraded": nil,
	}
	if d, ok := standing.Degraded(); ok {
		m["degraded"] = map[string]any{"since": d.Since, "missing": d.Missing, "message": d.String()}
	}
	return m, nil
}

func (s *Server) getCertificates(context.Context, *args) (any, error) {
	list := []map[string]any{}
	for _, c := range s.chain.Certificates() {
		list = append(list, map[string]any{
			"source": checkpointJSON(c.Source), "target": checkpointJSON(c.Target),
			"signers": len(c.Signatures), "hex": hex.EncodeToString(c.AppendTo(nil)),
		})
	}
	return list, nil
}

func (s *Server) submitCertificate(_ context.Context, a *args) (any, error) {
	c, err := submitted(a, "certificate", consensus.DecodeCertificate)
	if err != nil {
		return nil, err
	}
	return verdict(s.chain.AddCertificate(c))
}

func (s *Server) submitAttestation(_ context.Context, a *args) (any, error) {
	v, err := submitted(a, "attestation", consensus.DecodeAttestation)
	if err != nil {
		return nil, err
	}
	return verdict(s.chain.AddAttestation(v))
}

func (s *Server) submitSetChange(_ context.Context, a *args) (any, error) {
	c, err := submitted(a, "set change", consensus.DecodeSetChange)
	if err != nil {
		return nil, err
	}
	return verdict(true, s.chain.AddSetChange(&c))
}

func submitted[T any](a *args, what string, decode func([]byte) (T, error)) (v T, err error) {
	var digits string
	if err := a.get(0, &digits); err != nil {
		return v, err
	}
	return decodeHex(what, digits, decode)
}

// verdict is null for what was taken, as submitblock's, "duplicate" for what was
// known, and an error that names the rule for what was refused. What comes too
// early has the code of a transaction whose inputs are missing.
func verdict(added bool, err error) (any, error) {
	var broken *consensus.RuleError
	switch {
	case errors.As(err, &broken):
		return nil, fail(codeRejected, "%v", err)
	case errors.Is(err, ErrTooEarly):
		return nil, fail(codeVerify, "%v", err)
	case err != nil:
		return nil, err
	case !added:
		return "duplicate", nil
	}
	return nil, nil
}

// setChangeDigest tells what is to be signed; it signs nothing.
func (s *Server) setChangeDigest(_ context.Context, a *args) (any, error) {
	var texts []string
	if err := a.get(0, &texts); err != nil {
		return nil, err
	}
	keys := make([]types.PublicKey, len(texts))
	for i, text := range texts {
		if err := keys[i].UnmarshalText([]byte(text)); err != nil {
			return nil, fail(codeParameter, "publickeys[%d]: %v", i, err)
		}
	}
	net, tip := s.chain.Network(), s.chain.Tip()
	if err := net.CheckSet(keys); err != nil {
		return nil, fail(codeParameter, "publickeys: %v", err)
	}
	if next := tip.Proven().Next; next != nil {
		// What is signed now would be for a set that is not in force any more then.
		return nil, fail(codeRejected, "%s: set %d follows the one in force already: wait until it has", consensus.RuleSetOpen, next.Number)
	}
	current := tip.Validators()
	next := consensus.ValidatorSet{Number: current.Number + 1, Keys: keys}
	digest := consensus.SetChangeDigest(net.ID, current, keys)
	return map[string]any{
		"current": current.ID(), "next": next.ID(), "number": next.Number,
		// In the order in which the hash function puts it out: that is signed.
		"digest": hex.EncodeToString(digest[:]), "quorum": consensus.CertifyQuorum(len(current.Keys)),
	}, nil
}
