package consensus_test

import (
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

func TestParamsThatCannotWork(t *testing.T) {
	cases := []struct {
		name, says string
		change     func(*consensus.Params)
	}{
		{"no name", "name", func(p *consensus.Params) { p.Name = "" }},
		{"long name", "name", func(p *consensus.Params) { p.Name = strings.Repeat("a", 33) }},
		{"capital", "name", func(p *consensus.Params) { p.Name = "Main" }},
		{"limit is no target", "powLimitBits", func(p *consensus.Params) { p.PowLimitBits = 0x20ffffff }},
		{"limit is zero", "powLimitBits", func(p *consensus.Params) { p.PowLimitBits = 0 }},
		{"genesis above limit", "genesisBits", func(p *consensus.Params) { p.PowLimitBits = 0x1d00ffff }},
		{"genesis is no target", "genesisBits", func(p *consensus.Params) { p.GenesisBits = 0x0000ffff }},
		{"every block a slot", "n =", func(p *consensus.Params) { p.N = 1 }},
		{"n zero", "n =", func(p *consensus.Params) { p.N = 0 }},
		{"interval zero", "intervalSeconds", func(p *consensus.Params) { p.IntervalSeconds = 0 }},
		{"interval over an hour", "intervalSeconds", func(p *consensus.Params) { p.IntervalSeconds = 3601 }},
		{"half-life zero", "halfLifeSeconds", func(p *consensus.Params) { p.HalfLifeSeconds = 0 }},
		{"no genesis time", "genesisTime", func(p *consensus.Params) { p.GenesisTime = 60 }},
		{"no rank step", "rankStepSeconds", func(p *consensus.Params) { p.RankStepSeconds = 0 }},
		{"ranks reach the miners' time", "slotOpenSeconds", func(p *consensus.Params) { p.RankStepSeconds = 24 }},
		{"closes as it opens", "slotCloseSeconds", func(p *consensus.Params) { p.SlotCloseSeconds = 120 }},
		{"future limit over half", "futureLimitSeconds", func(p *consensus.Params) { p.FutureLimitSeconds = 61 }},
		{"future limit zero", "futureLimitSeconds", func(p *consensus.Params) { p.FutureLimitSeconds = 0 }},
		{"no validators", "validators", func(p *consensus.Params) { p.Validators = nil }},
		{"even number", "validators", func(p *consensus.Params) { p.Validators = p.Validators[:4] }},
		{"23 validators", "validators", func(p *consensus.Params) {
			p.Validators = nil
			for i := range 23 {
				p.Validators = append(p.Validators, chaingen.ValidatorKey(types.Secp256k1, i).Public())
			}
		}},
		{"one twice", "validators[4]", func(p *consensus.Params) { p.Validators[4] = p.Validators[0] }},
		{"not on the curve", "validators[0]", func(p *consensus.Params) { p.Validators[0].Point = [33]byte{2, 31: 0, 32: 5} }},
		{"unknown algorithm", "validators[0]", func(p *consensus.Params) { p.Validators[0].Algorithm = 3 }},
		{"negative subsidy", "subsidy", func(p *consensus.Params) { p.Subsidy = -1 }},
		{"too much money", "subsidy", func(p *consensus.Params) { p.Subsidy = testMaxMoney / 2 }},
		{"no halving", "halvingInterval", func(p *consensus.Params) { p.HalvingInterval = 0 }},
		{"tiny blocks", "maxBlockBytes", func(p *consensus.Params) { p.MaxBlockBytes = 999 }},
		{"huge blocks", "maxBlockBytes", func(p *consensus.Params) { p.MaxBlockBytes = 32<<20 + 1 }},
		{"no signatures", "maxSigOps", func(p *consensus.Params) { p.MaxSigOps = 0 }},
		{"signatures beyond 32 bits", "maxSigOps", func(p *consensus.Params) { p.MaxSigOps = 1 << 31 }},
		{"data beyond a push", "maxDataBytes", func(p *consensus.Params) { p.MaxDataBytes = 65536 }},
		{"release vouches for genesis", "release.height", func(p *consensus.Params) { p.Release = &consensus.ReleaseCheckpoint{} }},
		{"release vouches for no slot", "release.height", func(p *consensus.Params) { p.Release = &consensus.ReleaseCheckpoint{Height: 11} }},
		{"one version byte", "addresses", func(p *consensus.Params) { p.Addresses.ScriptHash = p.Addresses.PubKeyHash }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := chaingen.Params()
			c.change(&p)
			if _, err := consensus.NewNetwork(p); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error about %s", err, c.says)
			}
		})
	}
	if p := chaingen.Params(); p.Check() != nil {
		t.Errorf("the unchanged parameters: %v", p.Check())
	}
}

// TestEveryParameterEntersTheNetworkID: two networks that differ in anything
// must never take each other's messages.
func TestEveryParameterEntersTheNetworkID(t *testing.T) {
	changes := map[string]func(*consensus.Params){
		"name": func(p *consensus.Params) { p.Name += "x" }, "magic": func(p *consensus.Params) { p.Magic++ },
		"genesisTime": func(p *consensus.Params) { p.GenesisTime++ }, "genesisBits": func(p *consensus.Params) { p.GenesisBits-- },
		"powLimitBits": func(p *consensus.Params) { p.PowLimitBits, p.GenesisBits = 0x207ffffe, 0x207ffffe },
		"n":            func(p *consensus.Params) { p.N++ }, "intervalSeconds": func(p *consensus.Params) { p.IntervalSeconds++ },
		"halfLifeSeconds":    func(p *consensus.Params) { p.HalfLifeSeconds++ },
		"slotOpenSeconds":    func(p *consensus.Params) { p.SlotOpenSeconds++ },
		"slotCloseSeconds":   func(p *consensus.Params) { p.SlotCloseSeconds++ },
		"rankStepSeconds":    func(p *consensus.Params) { p.RankStepSeconds++ },
		"futureLimitSeconds": func(p *consensus.Params) { p.FutureLimitSeconds-- },
		"subsidy":            func(p *consensus.Params) { p.Subsidy++ },
		"halvingInterval":    func(p *consensus.Params) { p.HalvingInterval++ },
		"coinbaseMaturity":   func(p *consensus.Params) { p.CoinbaseMaturity++ },
		"maxBlockBytes":      func(p *consensus.Params) { p.MaxBlockBytes++ },
		"maxSigOps":          func(p *consensus.Params) { p.MaxSigOps++ },
		"maxDataBytes":       func(p *consensus.Params) { p.MaxDataBytes++ },
		"pubKeyHash":         func(p *consensus.Params) { p.Addresses.PubKeyHash++ },
		"scriptHash":         func(p *consensus.Params) { p.Addresses.ScriptHash++ },
		"privateKey":         func(p *consensus.Params) { p.Addresses.PrivateKey++ },
		"validator": func(p *consensus.Params) {
			p.Validators[2] = chaingen.ValidatorKey(types.Secp256k1, 7).Public()
		},
		"validators' order": func(p *consensus.Params) { p.Validators[0], p.Validators[1] = p.Validators[1], p.Validators[0] },
		"fewer validators":  func(p *consensus.Params) { p.Validators = p.Validators[:3] },
	}
	original, err := consensus.NewNetwork(chaingen.Params())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[types.Hash]string{original.ID: "nothing"}
	for name, change := range changes {
		p := chaingen.Params()
		change(&p)
		n, err := consensus.NewNetwork(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if other, ok := seen[n.ID]; ok {
			t.Errorf("changing %s gives the network id of changing %s", name, other)
		}
		seen[n.ID] = name
	}
}

// TestReleaseIsNoPartOfTheNetwork: what a release vouches for comes and goes,
// the network stays.
func TestReleaseIsNoPartOfTheNetwork(t *testing.T) {
	original, err := consensus.NewNetwork(chaingen.Params())
	if err != nil {
		t.Fatal(err)
	}
	p := chaingen.Params()
	p.Release = &consensus.ReleaseCheckpoint{Height: 20, Block: types.Hash{7}}
	n, err := consensus.NewNetwork(p)
	if err != nil {
		t.Fatal(err)
	}
	if n.ID != original.ID {
		t.Error("another network id")
	}
	if got, want := n.Release.Checkpoint(), (consensus.Checkpoint{Height: 20, ID: types.Hash{7}}); got != want {
		t.Errorf("checkpoint %v, want %v", got, want)
	}
}

func TestBitsText(t *testing.T) {
	for text, want := range map[string]consensus.Bits{"1d00ffff": 0x1d00ffff, "207fffff": 0x207fffff, "207FFFFF": 0x207fffff, "00000000": 0} {
		var b consensus.Bits
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q: %08x, %v", text, uint32(b), err)
		}
		if out, _ := b.MarshalText(); string(out) != strings.ToLower(text) {
			t.Errorf("%q comes back as %q", text, out)
		}
	}
	for _, text := range []string{"", "1d00fff", "1d00ffff0", "1d00ffzz", " 1d00fff", "1d00fff ", "+1d00fff", "0x1d00ff", "1d_0ffff"} {
		var b consensus.Bits
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %08x", text, uint32(b))
		}
	}
}
