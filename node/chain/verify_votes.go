package chain

import (
	"errors"
	"fmt"

	"qcitycoin.org/qcity/node/consensus"
)

// Proof is how it is known that the stored final slot is final.
type Proof string

// The proofs.
const (
	ProofCarried Proof = "carried" // certificates that the chain itself carries make it final, or a slot above it
	ProofVotes   Proof = "votes"   // certificates that are stored make it final
	ProofRelease Proof = "release" // it is the checkpoint of the release
)

// votes checks the certificates and the final slot.
func (v *verifier) votes(r *Report) error {
	certificates, err := v.src.Certificates()
	if err != nil {
		return err
	}
	for i := range certificates {
		if err := v.certificate(&certificates[i]); err != nil {
			return fmt.Errorf("certificate for slot %d, block %s: %w", certificates[i].Target.Height, certificates[i].Target.ID, err)
		}
	}
	r.Certificates = len(certificates)
	if err := v.release(); err != nil {
		return err
	}
	if r.Final, err = v.src.Final(); err != nil || r.Final == (consensus.Checkpoint{}) {
		return err
	}
	if r.FinalBy, err = v.final(r.Final, certificates); err != nil {
		return fmt.Errorf("final slot %d, block %s: %w", r.Final.Height, r.Final.ID, err)
	}
	return nil
}

// certificate checks a stored certificate: both blocks, who may vote for the
// target, the quorum and the signatures.
func (v *verifier) certificate(c *consensus.Certificate) error {
	target, ok, err := v.src.Entry(c.Target.ID)
	if err := there(ok, err, "index entry"); err != nil {
		return err
	}
	if !target.Header.IsSigned() || target.State.Height != c.Target.Height {
		return errors.New("not a signed block of that height")
	}
	at, ok, err := v.src.Entry(target.Header.PrevBlock)
	if err := there(ok, err, "index entry of the parent"); err != nil {
		return err
	}
	if err := c.Verify(v.net, at.State.Voters()); err != nil {
		return err
	}
	for at.State.Height > c.Source.Height {
		at, ok, err = v.src.Entry(at.Header.PrevBlock)
		if err := there(ok, err, "index entry of an ancestor"); err != nil {
			return err
		}
	}
	if at.State.ID != c.Source.ID || (c.Source.Height > 0 && !at.Header.IsSigned()) {
		return fmt.Errorf("source %s is no signed block below it", c.Source.ID)
	}
	return nil
}

// release checks that the best chain is one that the release vouches for.
func (v *verifier) release() error {
	r := v.net.Release
	if r == nil || v.state.Height < r.Height {
		return nil
	}
	if id, _, err := v.src.BestID(r.Height); err != nil || id != r.Block {
		return errors.Join(err, fmt.Errorf("height %d, block %s: this release knows block %s at that height", r.Height, id, r.Block))
	}
	return nil
}

// final finds the proof that a slot is final. Certificates from below what the
// chain has carried as final may be gone, so that counting starts anew from each
// slot that is proven itself.
func (v *verifier) final(c consensus.Checkpoint, certificates []consensus.Certificate) (Proof, error) {
	if id, _, err := v.src.BestID(c.Height); err != nil || id != c.ID {
		return "", errors.Join(err, errors.New("not on the best chain"))
	}
	e, ok, err := v.src.Entry(c.ID)
	if err := there(ok, err, "index entry"); err != nil {
		return "", err
	}
	if !e.Header.IsSigned() {
		return "", errors.New("not a signed block")
	}
	if c.Height <= v.state.Proven().Final.Height {
		return ProofCarried, nil
	}
	roots := []consensus.Checkpoint{{ID: v.net.ID}, e.State.Proven().Final, v.state.Proven().Final}
	if r := v.net.Release; r != nil {
		if r.Checkpoint() == c {
			return ProofRelease, nil
		}
		roots = append(roots, r.Checkpoint())
	}
	for _, root := range roots {
		tally := consensus.NewTally(v.net, root)
		for i := range certificates {
			if err := v.count(tally, &certificates[i]); err != nil {
				return "", err
			}
		}
		if tally.Final(c) {
			return ProofVotes, nil
		}
	}
	return "", errors.New("neither the chain nor the certificates that are kept prove it")
}

// count adds a certificate that was found good to a tally, which need not want it.
func (v *verifier) count(tally *consensus.Tally, c *consensus.Certificate) error {
	target, ok, err := v.src.Entry(c.Target.ID)
	if err := there(ok, err, "index entry"); err != nil || target.Invalid != "" {
		return err
	}
	parent, ok, err := v.src.Entry(target.Header.PrevBlock)
	if err := there(ok, err, "index entry of the parent"); err != nil {
		return err
	}
	_, err = tally.AddCertificate(*c, parent.State.Voters())
	if errors.Is(err, consensus.RuleVoteFloor) {
		return nil
	}
	return err
}
