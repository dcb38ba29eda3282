package conformance

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/worker"
)

func (b *bench) offers(m uint) (bool, error) {
	list, err := b.ctx.GetMechanismList(b.slot)
	return slices.ContainsFunc(list, func(x *pkcs11.Mechanism) bool { return x.Mechanism == m }), err
}

func offered(m uint) func(*bench) verdict {
	return func(b *bench) verdict {
		ok, err := b.offers(m)
		if err != nil {
			return fail("%s", code(err))
		}
		return that(ok, "%t", ok)
	}
}

// curve generates a key on a curve. That it is refused passes as well, if the
// code says that the curve is the reason.
func curve(alg worker.Algorithm, id byte) func(*bench) verdict {
	return func(b *bench) verdict {
		_, err := b.generate(b.sh, alg, id)
		if err == nil {
			return pass("generated")
		}
		v := oneOf(err, pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED)
		if v.result == conformance.Pass {
			v.result, v.note = conformance.NotAnswered, "the token does not offer the curve"
		}
		return v
	}
}

// change tries to set an attribute of the scratch key to what it must not be.
func change(kind uint, value bool) func(*bench) verdict {
	return func(b *bench) verdict {
		return refused(b.ctx.SetAttributeValue(b.sh, b.key.priv, []*pkcs11.Attribute{attr(kind, value)}))
	}
}

func mustBe(kind uint, want string) func(*bench) verdict {
	return func(b *bench) verdict { return b.boolean(b.key.priv, kind, want) }
}

var keyCases = map[int]func(*bench) verdict{
	501: offered(pkcs11.CKM_ECDSA),
	502: offered(pkcs11.CKM_EC_KEY_PAIR_GEN),
	503: func(b *bench) verdict {
		i, err := b.ctx.GetMechanismInfo(b.slot, mechanism(pkcs11.CKM_ECDSA))
		return that(err == nil && i.Flags&pkcs11.CKF_SIGN != 0 && i.MinKeySize <= 256 && i.MaxKeySize >= 256, "%d to %d bits", i.MinKeySize, i.MaxKeySize)
	},
	504: func(b *bench) verdict {
		i, err := b.ctx.GetMechanismInfo(b.slot, mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN))
		if err != nil {
			return silent(err)
		}
		return pass("prime %t, named %t", i.Flags&pkcs11.CKF_EC_F_P != 0, i.Flags&pkcs11.CKF_EC_NAMEDCURVE != 0)
	},
	505: func(b *bench) verdict {
		_, err := b.ctx.GetMechanismInfo(b.slot, mechanism(noCode))
		return oneOf(err, pkcs11.CKR_MECHANISM_INVALID)
	},
	506: func(b *bench) verdict {
		ok, err := b.offers(pkcs11.CKM_ECDSA_SHA256)
		if err != nil {
			return silent(err)
		}
		return pass("%t", ok)
	},
	507: curve(worker.Secp256k1, 7),
	508: curve(worker.P256, 8),
	509: func(b *bench) verdict {
		_, err := b.generateOn(b.sh, []byte{0x06, 0x03, 0x2a, 0x03, 0x04}, pair{id: []byte{0x51, 9}})
		return refused(err)
	},
	510: mustBe(pkcs11.CKA_SENSITIVE, "true"),
	511: mustBe(pkcs11.CKA_EXTRACTABLE, "false"),
	512: mustBe(pkcs11.CKA_ALWAYS_SENSITIVE, "true"),
	513: mustBe(pkcs11.CKA_NEVER_EXTRACTABLE, "true"),
	514: func(b *bench) verdict { return b.recorded(b.key.priv, pkcs11.CKA_LOCAL) },
	515: mustBe(pkcs11.CKA_SIGN, "true"),
	516: func(b *bench) verdict {
		var value string
		for _, a := range [...]uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE} {
			got, err := b.flag(b.key.priv, a)
			if err != nil {
				got = "not answered"
			}
			if got == "true" {
				// CKA_DERIVE was not asked for; the others were asked to be false.
				if a != pkcs11.CKA_DERIVE {
					return fail("%s true", map[uint]string{pkcs11.CKA_DECRYPT: "decrypt", pkcs11.CKA_UNWRAP: "unwrap"}[a])
				}
			}
			value += ", " + got
		}
		return pass("%s", value[2:])
	},
	517: func(b *bench) verdict {
		p, err := b.generate(b.sh, b.key.alg, 17, attr(pkcs11.CKA_SENSITIVE, nil), attr(pkcs11.CKA_EXTRACTABLE, nil))
		if err != nil {
			return pass("template refused: %s", code(err))
		}
		return b.recorded(p.priv, pkcs11.CKA_SENSITIVE)
	},
	518: func(b *bench) verdict {
		_, err := b.value(b.key.priv, pkcs11.CKA_VALUE)
		return oneOf(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
	},
	519: change(pkcs11.CKA_EXTRACTABLE, true),
	520: change(pkcs11.CKA_SENSITIVE, false),
	521: func(b *bench) verdict {
		copied, err := b.ctx.CopyObject(b.sh, b.key.priv, []*pkcs11.Attribute{attr(pkcs11.CKA_EXTRACTABLE, true), attr(pkcs11.CKA_TOKEN, false)})
		if err != nil {
			return pass("%s", code(err))
		}
		got, err := b.flag(copied, pkcs11.CKA_EXTRACTABLE)
		return that(err == nil && got == "false", "a copy, extractable %s", got)
	},
	522: func(b *bench) verdict {
		p, err := b.generate(b.sh, b.key.alg, 22, attr(pkcs11.CKA_MODIFIABLE, false))
		if err != nil {
			return silent(err)
		}
		return pass("%s", code(b.ctx.SetAttributeValue(b.sh, p.priv, []*pkcs11.Attribute{attr(pkcs11.CKA_LABEL, scratch)})))
	},
	523: func(b *bench) verdict {
		p, err := b.generate(b.sh, b.key.alg, 23)
		if err == nil {
			err = b.ctx.DestroyObject(b.sh, p.priv)
		}
		if err != nil {
			return fail("%s", code(err))
		}
		_, err = b.value(p.priv, pkcs11.CKA_LABEL)
		return oneOf(err, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID)
	},
	524: func(b *bench) verdict {
		v, err := b.value(b.key.priv, pkcs11.CKA_KEY_GEN_MECHANISM)
		if err != nil {
			return silent(err)
		}
		return that(bytes.Equal(v, attr(0, uint(pkcs11.CKM_EC_KEY_PAIR_GEN)).Value), "%x", v)
	},
	525: func(b *bench) verdict {
		_, first := b.generate(b.sh, b.key.alg, 25)
		_, second := b.generate(b.sh, b.key.alg, 25)
		if first != nil {
			return fail("first: %s", code(first))
		}
		return pass("%s", code(second))
	},
	526: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			_, err := b.generate(sh, b.key.alg, 26)
			return oneOf(err, pkcs11.CKR_SESSION_READ_ONLY)
		})
	},
	527: func(b *bench) verdict {
		_, err := b.generateOn(b.sh, nil, pair{id: []byte{0x51, 27}})
		return refused(err)
	},
	528: mustBe(pkcs11.CKA_ALWAYS_AUTHENTICATE, "false"),
	529: mustBe(pkcs11.CKA_PRIVATE, "true"),
}

func (b *bench) once(template ...*pkcs11.Attribute) verdict {
	found, err := b.find(b.sh, template...)
	if err != nil {
		return fail("%s", code(err))
	}
	return that(len(found) == 1 && found[0] == b.key.priv, "%d", len(found))
}

var findCases = map[int]func(*bench) verdict{
	601: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			found, _, err := b.ctx.FindObjects(sh, 1)
			if len(found) > 0 {
				return fail("%d objects", len(found))
			}
			return tolerated(err, pkcs11.CKR_OPERATION_NOT_INITIALIZED)
		})
	},
	602: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if err := b.ctx.FindObjectsInit(sh, nil); err != nil {
				return fail("first: %s", code(err))
			}
			return tolerated(b.ctx.FindObjectsInit(sh, nil), pkcs11.CKR_OPERATION_ACTIVE)
		})
	},
	603: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			return tolerated(b.ctx.FindObjectsFinal(sh), pkcs11.CKR_OPERATION_NOT_INITIALIZED)
		})
	},
	604: func(b *bench) verdict {
		found, err := b.find(b.sh, attr(pkcs11.CKA_LABEL, "qcity: no object has this label"))
		return that(err == nil && len(found) == 0, "%d, %s", len(found), code(err))
	},
	605: func(b *bench) verdict {
		found, err := b.find(b.sh)
		return that(err == nil && len(found) <= 10_000, "%s", code(err))
	},
	606: func(b *bench) verdict {
		return b.once(attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_LABEL, scratch))
	},
	607: func(b *bench) verdict {
		return b.once(attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_ID, b.key.id))
	},
	608: func(b *bench) verdict {
		found, err := b.find(b.sh, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC), attr(pkcs11.CKA_TOKEN, true))
		return that(err == nil && slices.Contains(found, b.key.priv), "%s", code(err))
	},
	609: func(b *bench) verdict {
		v, err := b.value(b.key.priv, pkcs11.CKA_EC_PARAMS)
		if err != nil {
			return fail("%s", code(err))
		}
		return that(bytes.Equal(v, oid(b.key.alg)), "%x", v)
	},
	610: func(b *bench) verdict {
		v, err := b.value(b.key.pub, pkcs11.CKA_EC_POINT)
		if err != nil {
			return fail("%s", code(err))
		}
		return that(len(v) == 67 || len(v) == 65, "%d bytes", len(v))
	},
	611: func(b *bench) verdict { return that(b.key.point != worker.PublicKey{}, "yes") },
	612: func(b *bench) verdict { return b.length(b.key.priv, pkcs11.CKA_EC_POINT) },
	613: func(b *bench) verdict { return b.length(b.key.priv, pkcs11.CKA_PUBLIC_KEY_INFO) },
	614: func(b *bench) verdict {
		_, err := b.value(b.key.priv, noCode)
		return oneOf(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
	},
	615: func(b *bench) verdict {
		_, err := b.value(noObject, pkcs11.CKA_LABEL)
		return recoverable(err)
	},
	616: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			found, err := b.private(sh)
			return that(err == nil && len(found) == 1, "%d, %s", len(found), code(err))
		})
	},
}

// length records whether an attribute is answered, and how long the answer is.
func (b *bench) length(h pkcs11.ObjectHandle, kind uint) verdict {
	v, err := b.value(h, kind)
	switch {
	case err != nil:
		return silent(err)
	case len(v) == 0:
		return verdict{result: conformance.NotAnswered, value: "empty"}
	}
	return pass("%s", fmt.Sprintf("%d bytes", len(v)))
}
