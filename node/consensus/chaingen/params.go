package chaingen

import (
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Validators is the number of validators of the test networks.
const Validators = 5

// Params returns the parameters of a test network: the main numbers of the
// protocol, the easiest target (a block takes about two hashes), a maturity of
// ten blocks, and five secp256k1 validators whose keys are ValidatorKey(Secp256k1, i).
func Params() consensus.Params { return params("chaingen", types.Secp256k1) }

// P256Params returns Params with P-256 validators, another name and so another
// network id.
func P256Params() consensus.Params { return params("chaingen-p256", types.P256) }

func params(name string, a types.KeyAlgorithm) consensus.Params {
	p := consensus.Params{
		Name:               name,
		Magic:              0x6e656763,
		GenesisTime:        1_577_836_800, // 2020-01-01 00:00:00 UTC
		GenesisBits:        0x207fffff,
		PowLimitBits:       0x207fffff,
		N:                  10,
		IntervalSeconds:    60,
		HalfLifeSeconds:    7200,
		SlotOpenSeconds:    120,
		SlotCloseSeconds:   600,
		RankStepSeconds:    20,
		FutureLimitSeconds: 60,
		Subsidy:            50 * types.Coin,
		HalvingInterval:    2_100_000,
		CoinbaseMaturity:   10,
		MaxBlockBytes:      100_000,
		MaxSigOps:          200,
		MaxDataBytes:       80,
		Addresses:          types.AddressVersions{PubKeyHash: 111, ScriptHash: 196, PrivateKey: 239},
	}
	for i := range Validators {
		p.Validators = append(p.Validators, ValidatorKey(a, i).Public())
	}
	return p
}
