package signer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/worker"
)

// vault is a SoftHSM of its own, with the configuration of a signer on it.
type vault struct {
	end     audit.Head // of its audit log, as it was made
	dir     string
	conf    string
	sup     worker.Config
	config  Config
	network *consensus.Network
}

const vaultPIN, vaultSOPIN = "9137-user", "9137-officer"

func newVault(tb testing.TB) *vault {
	tb.Helper()
	v := &vault{dir: tb.TempDir()}
	tokens := filepath.Join(v.dir, "tokens")
	v.conf = filepath.Join(v.dir, "softhsm2.conf")
	if err := errors.Join(os.Mkdir(tokens, 0o700), os.WriteFile(v.conf, []byte(worker.SoftHSMConf(tokens)), 0o600)); err != nil {
		tb.Fatal(err)
	}
	soft := need[string](tb)(worker.SoftHSMModule())
	v.sup = worker.Config{Binary: need[string](tb)(workerBinary()), Module: soft, Env: []string{"SOFTHSM2_CONF=" + v.conf}, Log: quiet()}
	v.config = Config{
		Audit:   v.dir + "/audit.log",
		Journal: filepath.Join(v.dir, "journal"), Socket: socketPath(tb),
		Worker: v.sup.Binary, Module: need[string](tb)(shimModule()),
		ModuleEnv:           append(v.sup.Env, "SHIM_MODULE="+soft, "SHIM_FAULT="+v.dir+"/fault", "SHIM_LOGINS="+v.dir+"/logins"),
		ModuleWrites:        []string{v.dir},
		SignaturesPerSecond: 1e6, SignatureBurst: 1e6,
	}
	v.pin(tb, vaultPIN)
	return v
}

func (v *vault) pin(tb testing.TB, pin string) {
	tb.Helper()
	path := filepath.Join(v.dir, "pin")
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(pin+"\n"), 0o400)); err != nil {
		tb.Fatal(err)
	}
}

// logins returns how often anyone logged in through the signer's worker.
func (v *vault) logins(tb testing.TB) int {
	tb.Helper()
	b, err := os.ReadFile(v.dir + "/logins")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	return len(b)
}

// generate makes a token with a key of each algorithm, and configures them.
func (v *vault) generate(tb testing.TB, algorithms ...types.KeyAlgorithm) {
	tb.Helper()
	sup := need[*worker.Supervisor](tb)(worker.New(v.sup))
	defer sup.Close()
	ctx := patience(tb)
	for i, a := range algorithms {
		info := need[worker.TokenInfo](tb)(sup.InitToken(ctx, fmt.Sprintf("token-%d", i), []byte(vaultSOPIN), []byte(vaultPIN)))
		if err := sup.Login(ctx, info.TokenRef, []byte(vaultPIN)); err != nil {
			tb.Fatal(err)
		}
		key := need[worker.Key](tb)(sup.GenerateKey(ctx, info.TokenRef, worker.Algorithm(a), fmt.Sprintf("key-%d", i), []byte{1}))
		public := need[types.PublicKey](tb)(types.NewPublicKey(a, key.PublicKey[:]))
		v.config.Keys = append(v.config.Keys, KeyConfig{
			PublicKey: public, TokenLabel: info.Label, TokenSerial: info.Serial, KeyLabel: key.Label, PIN: FilePIN(v.dir + "/pin"),
		})
	}
}

// found makes a network of the configured keys and of software keys that fill
// it up to five, and the journal for it.
func (v *vault) found(tb testing.TB) {
	tb.Helper()
	keys := append(v.config.publicKeys(), publics(testKeys())...)[:5]
	v.network = testNetwork(tb, "vault", keys)
	v.books(tb, keys)
}

// books makes journal and audit log.
func (v *vault) books(tb testing.TB, keys []types.PublicKey) {
	tb.Helper()
	err := errors.Join(CreateJournal(v.config.Journal, v.network.ID, keys, 0), audit.Create(v.config.Audit, v.network.ID, audit.Options{}))
	if err != nil {
		tb.Fatal(err)
	}
	log := need[*audit.Log](tb)(audit.Open(v.config.Audit, v.network.ID, audit.Options{}))
	defer log.Close()
	v.end = log.Head()
}

// start opens and runs the signer until stop is called.
func (v *vault) start(tb testing.TB) (c *Client, stop func()) {
	tb.Helper()
	d := need[*Daemon](tb)(Open(patience(tb), v.config, v.network, quiet()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	c = NewClient(v.config.Socket, v.network.ID)
	if err := c.Seen(patience(tb), SeenRequest{}); err != nil {
		tb.Fatal(err)
	}
	return c, func() {
		tb.Helper()
		cancel()
		if err := errors.Join(<-done, c.Close()); err != nil {
			tb.Fatal(err)
		}
	}
}

func (v *vault) proposal(height uint32, index uint8, salt byte) *consensus.Proposal {
	return v.anchored(proposal(v.network, height, index, uint32(time.Now().Unix())-100, salt))
}

// anchored puts the end of the vault's audit log into a proposal.
func (v *vault) anchored(p *consensus.Proposal) *consensus.Proposal {
	return remade(p, func(p *consensus.Proposal) { p.CoinOnline.Outputs[2] = anchorOutput(v.end) })
}

func (v *vault) order(tb testing.TB, fault string) {
	tb.Helper()
	if err := os.WriteFile(v.dir+"/fault", []byte(fault), 0o600); err != nil {
		tb.Fatal(err)
	}
}
