package conformance

import (
	"bytes"
	"fmt"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/pkcs11/native"
	"qcitycoin.org/qcity/signer/worker"
)

const many = 64 // signatures for a statement about all of them

// signMany makes 64 signatures over 64 digests.
func (b *bench) signMany() ([][]byte, error) {
	out := make([][]byte, many)
	for i := range out {
		var err error
		if out[i], err = b.sign(b.sh, b.key.priv, digest(i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func overMany(judge func(*bench, [][]byte) verdict) func(*bench) verdict {
	return func(b *bench) verdict {
		sigs, err := b.signMany()
		if err != nil {
			return fail("%s", code(err))
		}
		return judge(b, sigs)
	}
}

// ofLength records what happens to a digest of n bytes.
func ofLength(n int) func(*bench) verdict {
	return func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			sig, err := b.sign(sh, b.key.priv, bytes.Repeat([]byte{7}, n))
			if err != nil {
				return pass("refused: %s", code(err))
			}
			return pass("signed, %d bytes", len(sig))
		})
	}
}

func order(a worker.Algorithm) *big.Int {
	hex := "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	if a == worker.P256 {
		hex = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
	}
	n, ok := new(big.Int).SetString(hex, 16)
	if !ok {
		panic("the group order is a constant")
	}
	return n
}

// special signs a digest at the edge of the arithmetic.
func special(fill byte, mustSign bool) func(*bench) verdict {
	return func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			d := bytes.Repeat([]byte{fill}, 32)
			sig, err := b.sign(sh, b.key.priv, d)
			switch {
			case err != nil && mustSign:
				return fail("%s", code(err))
			case err != nil:
				return pass("refused: %s", code(err))
			case !b.verifies(d, sig):
				return fail("the signature does not verify")
			}
			return pass("verifies")
		})
	}
}

var signCases = map[int]func(*bench) verdict{
	701: func(b *bench) verdict {
		sig, err := b.sign(b.sh, b.key.priv, digest(0))
		if err != nil {
			return fail("%s", code(err))
		}
		if !b.verifies(digest(0), sig) {
			return fail("the signature does not verify")
		}
		return pass("verifies")
	},
	702: ofLength(0), 703: ofLength(20), 704: ofLength(31), 705: ofLength(33), 706: ofLength(48), 707: ofLength(64),
	708: overMany(func(b *bench, sigs [][]byte) verdict {
		n := order(b.key.alg)
		for i, s := range sigs {
			if len(s) != 64 {
				return fail("signature %d has %d bytes", i, len(s))
			}
			for _, half := range [][]byte{s[:32], s[32:]} {
				if x := new(big.Int).SetBytes(half); x.Sign() == 0 || x.Cmp(n) >= 0 {
					return fail("signature %d is out of range", i)
				}
			}
		}
		return pass("64 bytes each")
	}),
	709: overMany(func(b *bench, sigs [][]byte) verdict {
		for i, s := range sigs {
			if !b.verifies(digest(i), s) {
				return fail("signature %d does not verify", i)
			}
		}
		return pass("all verify")
	}),
	710: overMany(func(b *bench, sigs [][]byte) verdict {
		half, high := new(big.Int).Rsh(order(b.key.alg), 1), 0
		for _, s := range sigs {
			if len(s) == 64 && new(big.Int).SetBytes(s[32:]).Cmp(half) > 0 {
				high++
			}
		}
		if high == 0 {
			return pass("none")
		}
		return verdict{conformance.Pass, "some", fmt.Sprintf("%d of %d", high, many)}
	}),
	711: overMany(func(_ *bench, sigs [][]byte) verdict {
		seen := make(map[string]bool)
		for _, s := range sigs {
			seen[string(s[:len(s)/2])] = true
		}
		return that(len(seen) == many, "%d of %d", len(seen), many)
	}),
	712: func(b *bench) verdict {
		x, err := b.sign(b.sh, b.key.priv, digest(0))
		if err != nil {
			return fail("%s", code(err))
		}
		y, err := b.sign(b.sh, b.key.priv, digest(0))
		if err != nil {
			return fail("%s", code(err))
		}
		if bytes.Equal(x, y) {
			return pass("equal")
		}
		return pass("different")
	},
	713: special(0, false),
	714: special(0xff, true),
	715: func(b *bench) verdict { return b.verify(0) },
	716: func(b *bench) verdict {
		v := b.verify(1)
		if v.result == conformance.NotAnswered {
			return v
		}
		return that(v.value != "CKR_OK", "%s", v.value)
	},
}

// verify lets the token check a signature that is changed by flip.
func (b *bench) verify(flip byte) verdict {
	sig, err := b.sign(b.sh, b.key.priv, digest(0))
	if err != nil {
		return fail("C_Sign: %s", code(err))
	}
	sig[0] ^= flip
	if err := b.ctx.VerifyInit(b.sh, mechanism(pkcs11.CKM_ECDSA), b.key.pub); err != nil {
		return silent(err)
	}
	return pass("%s", code(b.ctx.Verify(b.sh, digest(0), sig)))
}

var misuseCases = map[int]func(*bench) verdict{
	801: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if err := b.ctx.SignInit(sh, mechanism(pkcs11.CKM_ECDSA), b.key.priv); err != nil {
				return fail("first: %s", code(err))
			}
			return oneOf(b.ctx.SignInit(sh, mechanism(pkcs11.CKM_ECDSA), b.key.priv), pkcs11.CKR_OPERATION_ACTIVE)
		})
	},
	802: func(b *bench) verdict {
		_, err := b.ctx.Sign(b.sh, digest(0))
		return recoverable(err)
	},
	803: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			return recoverable(b.ctx.SignInit(sh, mechanism(pkcs11.CKM_ECDSA), noObject))
		})
	},
	804: func(b *bench) verdict {
		return oneOf(b.ctx.SignInit(noSession, mechanism(pkcs11.CKM_ECDSA), noObject), pkcs11.CKR_SESSION_HANDLE_INVALID)
	},
	805: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			return oneOf(b.ctx.SignInit(sh, mechanism(noCode), b.key.priv), pkcs11.CKR_MECHANISM_INVALID)
		})
	},
	806: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			// C_Sign is not called: a TPM may count the attempt like a wrong PIN.
			return tolerated(b.ctx.SignInit(sh, mechanism(pkcs11.CKM_ECDSA), b.key.pub),
				pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID)
		})
	},
	807: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if _, err := b.sign(sh, b.key.priv, make([]byte, 16<<10)); err == nil {
				return pass("even 16 KiB are signed")
			}
			_, err := b.sign(sh, b.key.priv, digest(0))
			return pass("next: %s", code(err))
		})
	},
	808: func(b *bench) verdict {
		p, err := b.generate(b.sh, b.key.alg, 8, attr(pkcs11.CKA_SIGN, false))
		if err != nil {
			return silent(err)
		}
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			_, err := b.sign(sh, p.priv, digest(0))
			return refused(err)
		})
	},
	809: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if err := b.ctx.Logout(b.sh); err != nil {
				return fail("C_Logout: %s", code(err))
			}
			_, err := b.sign(sh, b.key.priv, digest(0))
			return recoverable(err)
		})
	},
	810: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if err := b.ctx.SignInit(sh, mechanism(pkcs11.CKM_ECDSA), b.key.priv); err != nil {
				return fail("C_SignInit: %s", code(err))
			}
			var other sync.WaitGroup
			other.Go(func() { _ = b.ctx.CloseSession(sh) })
			other.Wait()
			_, err := b.ctx.Sign(sh, digest(0))
			return oneOf(err, pkcs11.CKR_SESSION_HANDLE_INVALID)
		})
	},
	811: func(b *bench) verdict {
		if err := b.ctx.CloseAllSessions(b.slot); err != nil {
			return fail("C_CloseAllSessions: %s", code(err))
		}
		b.reopen()
		_, err := b.sign(b.sh, b.key.priv, digest(0))
		return recoverable(err)
	},
	812: func(b *bench) verdict {
		if err := b.ctx.Logout(b.sh); err != nil {
			return fail("C_Logout: %s", code(err))
		}
		if err := native.Login(b.ctx, b.sh, b.pin); err != nil {
			return fail("C_Login: %s", code(err))
		}
		_, err := b.sign(b.sh, b.key.priv, digest(0))
		return pass("%s", code(err))
	},
	813: func(b *bench) verdict {
		p, err := b.generate(b.sh, b.key.alg, 13)
		if err == nil {
			err = b.ctx.DestroyObject(b.sh, p.priv)
		}
		if err != nil {
			return fail("%s", code(err))
		}
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			_, err := b.sign(sh, p.priv, digest(0))
			return recoverable(err)
		})
	},
}
