package conformance

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/pkcs11/native"
	"qcitycoin.org/qcity/signer/worker"
)

// again finalises, initialises, and logs in anew.
func (b *bench) again() error {
	if err := b.ctx.Finalize(); err != nil {
		return fmt.Errorf("C_Finalize: %s", code(err))
	}
	if err := native.Initialize(b.ctx, b.req.InitArgs); err != nil {
		return fmt.Errorf("C_Initialize: %s", code(err))
	}
	b.reopen()
	if err := native.Login(b.ctx, b.sh, b.pin); err != nil {
		return fmt.Errorf("C_Login: %s", code(err))
	}
	return nil
}

var lifeCases = map[int]func(*bench) verdict{
	901: func(b *bench) verdict {
		if err := b.again(); err != nil {
			return pass("%v", err)
		}
		found, err := b.private(b.sh)
		if err != nil || len(found) != 1 {
			return pass("search: %d, %s", len(found), code(err))
		}
		sig, err := b.sign(b.sh, found[0], digest(0))
		if err != nil {
			return pass("sign: %s", code(err))
		}
		return that(b.verifies(digest(0), sig), "works")
	},
	902: func(b *bench) verdict {
		old := b.key.priv
		if _, err := b.generate(b.sh, b.key.alg, 2); err != nil {
			return fail("%s", code(err))
		}
		if err := b.again(); err != nil {
			return pass("%v", err)
		}
		// The other key is looked for first, as another program might.
		if _, err := b.find(b.sh, attr(pkcs11.CKA_ID, []byte{0x51, 2})); err != nil {
			return fail("%s", code(err))
		}
		sig, err := b.sign(b.sh, old, digest(0))
		switch {
		case err != nil:
			return pass("refused: %s", code(err))
		case b.verifies(digest(0), sig):
			return pass("the same key signs")
		}
		return verdict{conformance.Pass, "another key signs", "hazard: never keep a handle"}
	},
	903: func(b *bench) verdict {
		switch rv := b.forkSign(b.sh, b.key.priv); rv {
		case -1:
			return pass("the child dies")
		case 0:
			return pass("the child can sign")
		default:
			return pass("the child gets %s", worker.RV(rv))
		}
	},
	904: func(b *bench) verdict { _, v := b.race(4, many); return v },
	905: func(b *bench) verdict {
		codes := make([]error, 4)
		var all sync.WaitGroup
		for i := range codes {
			all.Go(func() {
				for range many {
					if _, err := b.sign(b.sh, b.key.priv, digest(i)); err != nil {
						codes[i] = err
					}
				}
			})
		}
		all.Wait()
		seen := ""
		for _, err := range codes {
			seen += " " + code(err)
		}
		return pass("%s", seen[1:])
	},
	906: func(b *bench) verdict {
		var rates []conformance.Rate
		value := ""
		for _, n := range [...]int{1, 2, 4} {
			rate, v := b.race(n, many)
			if v.result != conformance.Pass {
				return v
			}
			rates = append(rates, conformance.Rate{Sessions: n, PerSecond: rate})
			value += fmt.Sprintf(", %d: %.0f/s", n, rate)
		}
		b.say(conformance.Answer{Rates: rates})
		return pass("%s", value[2:])
	},
}

// race lets n sessions make count signatures between them and returns how many
// there were in a second.
func (b *bench) race(n, count int) (float64, verdict) {
	sessions := make([]pkcs11.SessionHandle, n)
	for i := range sessions {
		sh, err := b.ctx.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return 0, fail("C_OpenSession: %s", code(err))
		}
		defer func() { _ = b.ctx.CloseSession(sh) }()
		sessions[i] = sh
	}
	type made struct {
		digest, sig []byte
		err         error
	}
	results := make([][]made, n)
	start := time.Now()
	var all sync.WaitGroup
	for i, sh := range sessions {
		all.Go(func() {
			for j := range count / n {
				d := binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i<<32|j+1))
				sig, err := b.sign(sh, b.key.priv, d)
				results[i] = append(results[i], made{d, sig, err})
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	for _, list := range results {
		for _, m := range list {
			if m.err != nil {
				return 0, fail("%s", code(m.err))
			}
			if !b.verifies(m.digest, m.sig) {
				return 0, fail("a signature does not verify")
			}
		}
	}
	return float64(count/n*n) / took.Seconds(), pass("all verify")
}
