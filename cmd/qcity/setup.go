package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/holiman/uint256"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// demoValidators is the number of tokens and keys of a devnet.
const demoValidators = 5

// Places inside a devnet's data directory.
const (
	networkFile = "network.toml"
	walletFile  = "wallet.wif"
	nodeDir     = "node"
	signerDir   = "signer"
	logFile     = "qcity.log"
)

// demoOptions are what the demo's flags may change.
type demoOptions struct {
	given    func(flag string) bool
	threads  int
	payout   string
	rpc      string
	api      string
	stratum  string
	interval uint32
}

// ensureDevnet makes a devnet in dir unless one is there. It is made beside
// dir and renamed into place at the end, so that a set-up cut short leaves
// nothing half done behind.
func ensureDevnet(ctx context.Context, dir string, o demoOptions, log *slog.Logger) error {
	if _, err := os.Stat(filepath.Join(dir, configs.FileName)); err == nil {
		return nil
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty and holds no devnet: name another folder with --data, or empty this one", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	making := abs + ".making"
	if err := os.RemoveAll(making); err != nil {
		return fmt.Errorf("remove an unfinished set-up: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(making, signerDir, "tokens"), 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := makeDevnet(ctx, making, o, log); err != nil {
		return errors.Join(err, os.RemoveAll(making))
	}
	if err := os.Rename(making, abs); err != nil {
		return fmt.Errorf("put the devnet in place: %w", err)
	}
	return syncDir(filepath.Dir(abs))
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func makeDevnet(ctx context.Context, dir string, o demoOptions, log *slog.Logger) error {
	module, err := worker.SoftHSMModule()
	if err != nil {
		return err
	}
	log.Info("making five SoftHSM2 tokens, a validator key in each", "module", module)
	binary, err := workerBinary("")
	if err != nil {
		return err
	}
	keys, err := makeTokens(ctx, dir, module, binary)
	if err != nil {
		return fmt.Errorf("make tokens: %w", err)
	}
	params, err := configs.DevnetProfile()
	if err != nil {
		return err
	}
	if o.interval > 0 {
		scaleProfile(&params, o.interval)
	}
	for _, k := range keys {
		var p types.PublicKey
		if err := p.UnmarshalText([]byte(k.PublicKey)); err != nil {
			return err
		}
		params.Validators = append(params.Validators, p)
	}
	rate, err := measureHashRate(ctx, o.threads, log)
	if err != nil {
		return err
	}
	params.GenesisTime = uint32(time.Now().Unix())
	params.GenesisBits = startBits(rate, &params)
	if err := configs.WriteNetwork(filepath.Join(dir, networkFile), &params); err != nil {
		return err
	}
	net, err := consensus.NewNetwork(params)
	if err != nil {
		return err
	}
	log.Info("devnet made", "network", net.ID, "hashRate", hashRate(rate), "bits", fmt.Sprintf("%08x", uint32(params.GenesisBits)))
	journal := filepath.Join(dir, signerDir, "journal")
	if err := signer.CreateJournal(journal, net.ID, params.Validators, 0); err != nil {
		return err
	}
	if err := audit.Create(filepath.Join(dir, signerDir, "audit.log"), net.ID, audit.Options{}); err != nil {
		return err
	}
	if err := recordPINs(journal, dir, keys); err != nil {
		return err
	}
	if o.payout == "" {
		if o.payout, err = makeWallet(filepath.Join(dir, walletFile), params.Addresses); err != nil {
			return err
		}
	}
	return writeDemoConfig(dir, module, keys, rate, o)
}

// recordPINs notes that the tokens, which were just made, accepted their PINs:
// no login of the signer then ends with a question to a person.
func recordPINs(journal, dir string, keys []configs.SignerKey) error {
	for _, k := range keys {
		token := worker.TokenRef{Label: k.Token, Serial: k.Serial}
		pin, err := signer.ParsePINSource(k.PIN)
		if err != nil {
			return err
		}
		inDir := func(path string) string { return filepath.Join(dir, path) }
		if err := signer.RecordAcceptedPIN(journal, token, pin.Resolve(inDir)); err != nil {
			return err
		}
	}
	return nil
}

// scaleProfile changes the block interval of a profile, and with it every time
// that is counted in intervals. Ranks still have their turn before miners.
func scaleProfile(p *consensus.Params, interval uint32) {
	p.SlotOpenSeconds = max(demoValidators*p.RankStepSeconds+1, 2*interval)
	p.SlotCloseSeconds = max(p.SlotOpenSeconds+1, 10*interval)
	p.HalfLifeSeconds = 120 * interval
	p.FutureLimitSeconds = p.SlotOpenSeconds / 2
	p.IntervalSeconds = interval
}

// makeTokens initialises the tokens and generates the keys inside them,
// through PKCS#11 as for any HSM. The PINs are random and live in files.
func makeTokens(ctx context.Context, dir, module, binary string) ([]configs.SignerKey, error) {
	tokens := filepath.Join(dir, signerDir, "tokens")
	conf := filepath.Join(dir, signerDir, "setup.conf")
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(tokens)), 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(conf)
	w, err := worker.New(worker.Config{
		Binary: binary, Module: module, Env: []string{"SOFTHSM2_CONF=" + conf},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	keys := make([]configs.SignerKey, demoValidators)
	for i := range keys {
		if keys[i], err = makeToken(ctx, w, dir, i); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func makeToken(ctx context.Context, w *worker.Supervisor, dir string, i int) (configs.SignerKey, error) {
	label := fmt.Sprintf("validator-%d", i)
	pin, soPIN := randomDigits(), randomDigits()
	pinFile := filepath.Join(signerDir, label+".pin")
	if err := durable.WriteFile(filepath.Join(dir, pinFile), []byte(pin+"\n"), 0o400); err != nil {
		return configs.SignerKey{}, err
	}
	token, err := ceremony.NewToken(ctx, w, label, []byte(soPIN), []byte(pin))
	if err != nil {
		return configs.SignerKey{}, err
	}
	key, err := ceremony.NewKey(ctx, w, token.TokenRef, worker.Secp256k1, label, []byte{byte(i + 1)})
	if err != nil {
		return configs.SignerKey{}, err
	}
	return configs.SignerKey{
		PublicKey: ceremony.Public(key).String(),
		Token:     token.Label, Serial: token.Serial, Label: label, PIN: signer.FilePIN(pinFile).String(),
	}, nil
}

// randomDigits returns a PIN of twelve digits, which every token takes.
func randomDigits() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000_000))
	if err != nil {
		panic("crypto/rand does not fail: " + err.Error())
	}
	return fmt.Sprintf("%012d", n)
}

// makeWallet makes the key that the devnet's blocks pay, in the format every
// Bitcoin tool imports, and returns its address.
func makeWallet(file string, addresses types.AddressVersions) (string, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return "", fmt.Errorf("make wallet key: %w", err)
	}
	address := addresses.PubKeyHashAddress(types.Hash160(key.PubKey().SerializeCompressed()))
	wif := addresses.WIF([32]byte(key.Serialize()))
	if err := durable.WriteFile(file, []byte(wif+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write wallet key: %w", err)
	}
	return address, nil
}

func writeDemoConfig(dir, module string, keys []configs.SignerKey, rate float64, o demoOptions) error {
	c := configs.Default()
	c.Network, c.Data, c.Payout = networkFile, nodeDir, o.payout
	c.Miner.Threads = o.threads
	c.RPC.Listen, c.API.Listen, c.Stratum.Listen = o.rpc, o.api, o.stratum
	// One share in about two seconds from a miner as fast as this machine.
	c.Stratum.StartDifficulty = max(c.Stratum.MinDifficulty, 2*rate/(1<<32))
	c.Signer = configs.Signer{
		Socket:         filepath.Join(signerDir, "signer.sock"),
		Journal:        filepath.Join(signerDir, "journal"),
		Module:         module,
		PristineTokens: filepath.Join(signerDir, "tokens"),
		Keys:           keys,
	}
	return c.Write(filepath.Join(dir, configs.FileName))
}

// measureHashRate returns what the CPU miner will do with this many threads,
// roughly: the difficulty of the first blocks is derived from it.
func measureHashRate(ctx context.Context, threads int, log *slog.Logger) (float64, error) {
	// Threads beyond what the CPUs or a container's quota feed hash nothing more.
	threads = min(max(threads, 1), hw.Detect(os.DirFS("/")).Usable.Threads)
	kernel, trials, err := sha256d.Pick(ctx, sha256d.Contest{
		Kernels: sha256d.Kernels(), Name: sha256d.Auto, Features: hw.Features(), Versions: sha256d.MaxVersions,
		PerKernel: 100 * time.Millisecond, Probe: probeKernels(log),
	})
	if err != nil {
		return 0, fmt.Errorf("measure hash rate: %w", err)
	}
	for _, t := range trials {
		if t.Name == kernel.Name {
			return t.Rate * float64(threads), nil
		}
	}
	return 0, errors.New("measure hash rate: the kernel that was picked was not measured")
}

// startBits returns the compact target that takes rate hashes per second two
// thirds of an interval to meet: nobody likes to wait for a first block, and
// ASERT soon finds the right one.
func startBits(rate float64, p *consensus.Params) consensus.Bits {
	limit, err := types.CompactToTarget(uint32(p.PowLimitBits))
	if err != nil {
		return p.PowLimitBits
	}
	hashes := uint256.NewInt(uint64(max(1, rate*float64(p.IntervalSeconds)*2/3)))
	target := new(uint256.Int).Not(new(uint256.Int)) // 2^256 − 1
	if target.Div(target, hashes); target.Gt(&limit) {
		return p.PowLimitBits
	}
	return consensus.Bits(types.TargetToCompact(target))
}

// workerBinary returns the qcity-p11 program: the one configured, else the one
// beside this program.
func workerBinary(configured string) (string, error) {
	path := configured
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find qcity-p11: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "qcity-p11")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the PKCS#11 worker is missing at %s: build it with `make build`, or name it in signer.worker", path)
	}
	return path, nil
}
