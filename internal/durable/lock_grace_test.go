package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/internal/durable"
)

// TestLockOutlivesItsOwnerForAMoment: a lock whose owner is dead but whose
// descriptor lives on in a child that has not reached its exec is waited for.
func TestLockOutlivesItsOwnerForAMoment(t *testing.T) {
	dir := t.TempDir()
	other, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.LockDir(dir); !errors.Is(err, durable.ErrInUse) {
		t.Fatalf("a lock that is held: %v, want %v", err, durable.ErrInUse)
	}

	locked := make(chan error)
	go func() {
		lock, err := durable.LockDir(dir)
		if err == nil {
			err = lock.Unlock()
		}
		locked <- err
	}()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-locked; err != nil {
		t.Fatalf("a lock given up meanwhile: %v", err)
	}
}
