package signer

import (
	"errors"
	"testing"

	"qcitycoin.org/qcity/node/types"
)

func TestSetChangeRules(t *testing.T) {
	keys := testKeys()
	disk, j := memJournal(t, keys, 0)
	key, one, two := keys[0].public, types.Hash{1}, types.Hash{2}
	if _, err := j.SealSetChange(key, 1, [64]byte{1}); !errors.Is(err, ErrInternal) {
		t.Fatalf("sealed without a claim: %v", err)
	}
	claim := func(number uint32, digest types.Hash, want Rule) (seal *[64]byte) {
		t.Helper()
		seal, err := j.ClaimSetChange(key, number, digest)
		if want == "" {
			if err != nil {
				t.Fatal(err)
			}
			return seal
		}
		wantRule(t, err, want)
		return nil
	}
	claim(0, one, RuleSetRegression)
	claim(3, one, "")
	claim(3, two, RuleSetDouble)
	claim(2, one, RuleSetRegression)
	if seal := claim(3, one, ""); seal != nil {
		t.Fatal("an open claim has a seal")
	}
	first, err := j.SealSetChange(key, 3, [64]byte{3})
	if err != nil {
		t.Fatal(err)
	}
	if second, err := j.SealSetChange(key, 3, [64]byte{4}); err != nil || second != first {
		t.Fatalf("second seal %x, %v", second[:1], err)
	}
	claim(4, two, "")
	if j, err = openJournal(on(disk.Kill()), "j", testNet, publics(keys)); err != nil {
		t.Fatal(err)
	}
	if seal := claim(3, one, ""); seal == nil || *seal != first {
		t.Fatalf("the seal is %v", seal)
	}
	claim(3, two, RuleSetDouble)
	claim(4, one, RuleSetDouble)
	if _, err := j.ClaimSetChange(keys[1].public, 1, one); err != nil {
		t.Fatalf("another key: %v", err)
	}
	_, err = j.ClaimSetChange(newSoftKey(types.P256, 99).public, 1, one)
	wantRule(t, err, RuleKeyNotHeld)
}
