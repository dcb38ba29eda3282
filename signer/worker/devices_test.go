package worker_test

import (
	"context"
	"errors"
	"testing"

	"qcitycoin.org/qcity/signer/tokentest"
	"qcitycoin.org/qcity/signer/worker"
)

// TestDevices logs in, makes a key, finds it and signs, on every token that can
// be had, and once more with a fresh worker.
func TestDevices(t *testing.T) {
	for name, d := range map[string]struct {
		setUp func(testing.TB) *tokentest.Device
		alg   worker.Algorithm
	}{
		"softhsm": {tokentest.SoftHSM, worker.Secp256k1},
		"p11-kit": {tokentest.P11Kit, worker.Secp256k1},
		"nss":     {tokentest.NSS, worker.P256},
		"tpm2":    {tokentest.TPM, worker.P256},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			device := d.setUp(t)
			cfg := worker.Config{
				Binary: must[string](t)(workerBinary()), Module: device.Module, InitArgs: device.InitArgs, Env: device.Env, Log: logger(t),
				Timeouts: worker.Timeouts{Start: generous, Call: generous, Login: generous, SetUp: generous, Pad: generous},
			}
			ctx := context.Background()
			s := start(t, cfg)
			token := must[worker.TokenInfo](t)(s.FindToken(ctx, device.Label, "")).TokenRef
			if err := s.Login(ctx, token, []byte(tokentest.UserPIN)); err != nil {
				t.Fatal(err)
			}
			made := must[worker.Key](t)(s.GenerateKey(ctx, token, d.alg, "device key", []byte{7}))
			if err := made.Attributes.Check(); err != nil {
				t.Error(err)
			}
			key := worker.KeyRef{Token: token, Algorithm: made.Algorithm, PublicKey: made.PublicKey}
			checkSignature(t, key, digest(name), must[worker.Signature](t)(s.Sign(ctx, key, digest(name))))
			if _, err := s.GenerateKey(ctx, token, d.alg, "device key", []byte{8}); !errors.Is(err, worker.ErrKeyExists) {
				t.Errorf("a second key with the label: %v", err)
			}

			again := start(t, cfg)
			if err := again.Login(ctx, token, []byte(tokentest.UserPIN)); err != nil {
				t.Fatal(err)
			}
			found := must[worker.Key](t)(again.FindKey(ctx, token, worker.KeyQuery{Label: "device key", ID: []byte{7}}))
			if found.PublicKey != key.PublicKey {
				t.Errorf("found %s, want %s", found.PublicKey, key.PublicKey)
			}
			checkSignature(t, key, digest(name, 2), must[worker.Signature](t)(again.Sign(ctx, key, digest(name, 2))))
		})
	}
}
