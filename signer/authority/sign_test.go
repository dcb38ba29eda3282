package authority_test

import (
	"errors"
	"testing"

	"qcitycoin.org/qcity/signer/authority"
)

// TestSign: one set of a number, one signature of it, whatever fails.
func TestSign(t *testing.T) {
	n, p := sample(t)
	other, err := authority.Propose(n, genesis(n), publics(0, 1, 2, 6, 4), proofs(n, 6), reason, made)
	if err != nil {
		t.Fatal(err)
	}
	first, second := p.Request(0, authorised(p)), other.Request(0, authorised(other))
	down := errors.New("the token is away")

	b, tok := newBook(), &softToken{}
	refused := first
	refused.Authorisation.People = nil
	if _, err := authority.Sign(t.Context(), n, b, tok, &refused); !errors.Is(err, authority.RulePeople) || tok.asked+len(b.claims) > 0 {
		t.Fatalf("%v; token asked %d times, %d claims", err, tok.asked, len(b.claims))
	}
	// The token fails, then lies, then the journal fails: the claim stands, and
	// nothing is released.
	tok.err = down
	if sig, err := authority.Sign(t.Context(), n, b, tok, &first); !errors.Is(err, down) || sig != [64]byte{} {
		t.Fatal(err)
	}
	tok.err, tok.spoil = nil, true
	if sig, err := authority.Sign(t.Context(), n, b, tok, &first); err == nil || sig != [64]byte{} {
		t.Fatal("a bad signature was released")
	}
	tok.spoil, b.sealed = false, down
	if sig, err := authority.Sign(t.Context(), n, b, tok, &first); !errors.Is(err, down) || sig != [64]byte{} {
		t.Fatal(err)
	}
	if _, err := authority.Sign(t.Context(), n, b, tok, &second); !errors.Is(err, errConflict) {
		t.Fatalf("a second set of one number after a claim: %v", err)
	}
	b.sealed = nil
	sig, err := authority.Sign(t.Context(), n, b, tok, &first)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Current.Keys[0].Verify(p.Digest(), sig); err != nil {
		t.Fatal(err)
	}
	asked := tok.asked
	again, err := authority.Sign(t.Context(), n, b, tok, &first)
	if err != nil || again != sig || tok.asked != asked {
		t.Fatalf("again: %v, same %t, token asked %d times more", err, again == sig, tok.asked-asked)
	}
	if _, err := authority.Sign(t.Context(), n, b, tok, &second); !errors.Is(err, errConflict) || tok.asked != asked {
		t.Fatalf("a second set of one number: %v", err)
	}
	// What a journal holds is verified, too.
	seal := b.seals[p.Current.Keys[0]][1]
	seal[7] ^= 1
	b.seals[p.Current.Keys[0]][1] = seal
	if _, err := authority.Sign(t.Context(), n, b, tok, &first); err == nil {
		t.Fatal("a damaged seal was released")
	}
}
