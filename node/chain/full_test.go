package chain_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/chain"
	"qcitycoin.org/qcity/node/store"
	"qcitycoin.org/qcity/node/types"
)

// TestFullDisk fills a small file system with blocks until the disk is full,
// makes room bit by bit, and sees the chain go on from where it was each time.
func TestFullDisk(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a full disk needs a file system of its own, which takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(mount, fmt.Sprintf("ballast%d", i)), make([]byte, 100_000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	net, dir := testNetwork(t, nil), filepath.Join(mount, "chain")
	s := openDisk(t, dir, net, store.Options{})
	n := newNode(t, net, s)
	var all []*types.Block
	data := make([]types.TxOut, 400) // some 40 kB
	for i := range data {
		data[i].PkScript = types.NullDataScript(make([]byte, 90))
	}
	refusals := 0
	for i := uint32(0); refusals < 20; i++ {
		b, state := recipe{tag: i, delay: testOpen + 1, munge: func(b *types.Block) {
			b.Transactions[0].Outputs = append(b.Transactions[0].Outputs, data...)
		}}.make(n.m.Tip())
		for {
			got, err := n.m.AddBlock(b)
			if err == nil && (got == chain.Connected || got == chain.Known) {
				break
			}
			if !errors.Is(err, durable.ErrDiskFull) {
				t.Fatalf("block %d after %d refusals: %v, %v", i, refusals, got, err)
			}
			n.check()
			verify(t, net, s)
			if err := os.Remove(filepath.Join(mount, fmt.Sprintf("ballast%d", refusals))); err != nil {
				t.Fatal(err)
			}
			if refusals++; refusals%5 == 0 {
				closeDisk(t, s)
				s = openDisk(t, dir, net, store.Options{})
				n.store, n.m = s, open(t, net, s)
			}
			if refusals == 20 {
				break
			}
		}
		if refusals < 20 {
			n.tip(state)
			all = append(all, b)
		}
	}
	for _, b := range all {
		if _, ok, err := n.m.Block(b.Header.ID()); !ok || err != nil {
			t.Errorf("block %s: %v, %v", b.Header.ID(), ok, err)
		}
	}
	verify(t, net, s)
	closeDisk(t, s)
	if len(all) < 20 {
		t.Errorf("only %d blocks found room", len(all))
	}
}
