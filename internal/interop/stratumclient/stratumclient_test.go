package stratumclient

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/server"
)

// TestForeignClientMines lets a client that others wrote mine a chain: every
// share that it submits is a block.
func TestForeignClientMines(t *testing.T) {
	network, err := configs.LoadNetwork("regtest")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	payout := append(append([]byte{0x76, 0xa9, 20}, make([]byte, 20)...), 0x88, 0xac) // to a key hash
	n, err := node.Open(node.Config{Network: network, Dir: t.TempDir(), Payout: payout}, log)
	if err != nil {
		t.Fatal(err)
	}
	rpc, miners := listen(t), listen(t)
	srv, err := server.New(server.Config{}, pool.New(time.Now(), pool.Config{}), miners, n.Feed, n, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- n.Run(ctx, rpc) }()
	go func() { ended <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})

	const shares = 5
	var seen struct {
		Authorized      bool
		Extranonce2Size int
		Difficulty      float64
		Jobs, Accepted  int
		Refused         []any
	}
	mine(t, map[string]any{"host": "127.0.0.1", "port": miners.Addr().(*net.TCPAddr).Port, "worker": "foreign.1", "shares": shares}, &seen)
	if !seen.Authorized || seen.Extranonce2Size != 8 || !(seen.Difficulty > 0) || seen.Jobs < shares || seen.Accepted != shares || len(seen.Refused) > 0 {
		t.Errorf("the client saw %+v", seen)
	}
	if tip := n.Chain.Tip(); tip.Height != shares {
		t.Errorf("the chain is at height %d after %d blocks", tip.Height, shares)
	}
	if st := srv.Stats().Total; st.Accepted != shares || st.Refused() != 0 || st.Blocks != shares {
		t.Errorf("the books say %+v", st)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mine runs mine.mjs with v as its input.
func mine(t *testing.T, v, seen any) {
	t.Helper()
	in, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "mine.mjs")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("mine.mjs: %v (`make deps-test unit` installs Node.js and its packages)", err)
	}
	if err := json.Unmarshal(out, seen); err != nil {
		t.Fatalf("mine.mjs said %q: %v", out, err)
	}
}
