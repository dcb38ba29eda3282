package conformance

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/pkcs11/native"
)

// answers holds how each case of the table is asked.
var answers = merge(moduleCases, slotCases, sessionCases, loginCases, keyCases, findCases, signCases, misuseCases, lifeCases)

func merge(parts ...map[int]func(*bench) verdict) map[int]func(*bench) verdict {
	all := make(map[int]func(*bench) verdict)
	for _, p := range parts {
		for n, f := range p {
			if all[n] != nil {
				panic(fmt.Sprintf("two answers to case %d", n))
			}
			all[n] = f
		}
	}
	return all
}

var moduleCases = map[int]func(*bench) verdict{
	101: func(*bench) verdict { return pass("CKR_OK") }, // the process would not be here
	102: func(b *bench) verdict {
		i, err := b.ctx.GetInfo()
		v := i.CryptokiVersion
		return that(err == nil && (v.Major == 2 && v.Minor >= 20 || v.Major == 3), "%d.%d", v.Major, v.Minor)
	},
	103: func(b *bench) verdict {
		i, err := b.ctx.GetInfo()
		return that(err == nil && trim(i.ManufacturerID) != "" && trim(i.LibraryDescription) != "", "%s, %s", trim(i.ManufacturerID), trim(i.LibraryDescription))
	},
	104: func(b *bench) verdict {
		return oneOf(native.Initialize(b.ctx, b.req.InitArgs), pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)
	},
	105: func(b *bench) verdict {
		slots, err := b.ctx.GetSlotList(false)
		if err == nil && len(slots) > 0 {
			return fail("%d slots", len(slots))
		}
		return tolerated(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	},
	106: func(b *bench) verdict {
		if err := b.ctx.Finalize(); err != nil {
			return fail("C_Finalize: %s", code(err))
		}
		_, err := b.ctx.GetSessionInfo(b.sh)
		return refused(err)
	},
	107: func(b *bench) verdict { n := b.absent(); return that(n == 0, "%d missing", n) },
	108: func(b *bench) verdict {
		if err := b.ctx.Finalize(); err != nil {
			return fail("C_Finalize: %s", code(err))
		}
		return tolerated(b.ctx.Finalize(), pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	},
}

// ofToken makes a case of a judgement about the token's info.
func ofToken(judge func(pkcs11.TokenInfo) verdict) func(*bench) verdict {
	return func(b *bench) verdict {
		t, err := b.ctx.GetTokenInfo(b.slot)
		if err != nil {
			return fail("C_GetTokenInfo: %s", code(err))
		}
		return judge(t)
	}
}

func flagSet(flag uint) func(*bench) verdict {
	return ofToken(func(t pkcs11.TokenInfo) verdict { return that(t.Flags&flag != 0, "%t", t.Flags&flag != 0) })
}

func flagRecorded(flag uint) func(*bench) verdict {
	return ofToken(func(t pkcs11.TokenInfo) verdict { return pass("%t", t.Flags&flag != 0) })
}

func flagsClear(flags uint) func(*bench) verdict {
	return ofToken(func(t pkcs11.TokenInfo) verdict { return that(t.Flags&flags == 0, "flags %#x", t.Flags&flags) })
}

var slotCases = map[int]func(*bench) verdict{
	201: func(b *bench) verdict { s, err := b.ctx.GetSlotList(true); return that(len(s) > 0, "%s", code(err)) },
	202: func(b *bench) verdict {
		all, err := b.ctx.GetSlotList(false)
		if err != nil {
			return fail("%s", code(err))
		}
		for _, s := range all {
			if s == b.slot {
				return pass("yes")
			}
		}
		return fail("no")
	},
	203: func(b *bench) verdict {
		s, err := b.ctx.GetSlotInfo(b.slot)
		return that(err == nil && s.Flags&pkcs11.CKF_TOKEN_PRESENT != 0, "%s", code(err))
	},
	204: func(b *bench) verdict {
		_, err := b.ctx.GetSlotInfo(noSlot)
		return oneOf(err, pkcs11.CKR_SLOT_ID_INVALID)
	},
	205: func(b *bench) verdict {
		_, err := b.ctx.GetTokenInfo(noSlot)
		return oneOf(err, pkcs11.CKR_SLOT_ID_INVALID)
	},
	206: func(b *bench) verdict {
		tokens, err := b.tokens()
		n := 0
		for _, t := range tokens {
			if t.Label == b.req.Label && t.Serial == b.req.Serial {
				n++
			}
		}
		return that(err == nil && n == 1, "%d", n)
	},
	207: ofToken(func(t pkcs11.TokenInfo) verdict {
		if bytes.ContainsRune([]byte(t.Label), 0) {
			return verdict{conformance.NotAnswered, "NUL", "not as the standard has it; understood all the same"}
		}
		return pass("blanks")
	}),
	208: ofToken(func(t pkcs11.TokenInfo) verdict {
		if trim(t.SerialNumber) == "" {
			return fail("empty")
		}
		return pass("given")
	}),
	209: ofToken(func(t pkcs11.TokenInfo) verdict {
		return that(trim(t.ManufacturerID) != "" && trim(t.Model) != "", "%s, %s", trim(t.ManufacturerID), trim(t.Model))
	}),
	210: flagSet(pkcs11.CKF_TOKEN_INITIALIZED),
	211: flagSet(pkcs11.CKF_LOGIN_REQUIRED),
	212: flagSet(pkcs11.CKF_USER_PIN_INITIALIZED),
	213: flagsClear(pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_LOCKED | pkcs11.CKF_USER_PIN_TO_BE_CHANGED),
	214: flagsClear(pkcs11.CKF_SO_PIN_FINAL_TRY | pkcs11.CKF_SO_PIN_LOCKED),
	215: ofToken(func(t pkcs11.TokenInfo) verdict {
		if t.MinPinLen == 0 {
			return verdict{result: conformance.NotAnswered, value: fmt.Sprintf("0 to %d", t.MaxPinLen)}
		}
		return that(t.MinPinLen <= t.MaxPinLen, "%d to %d", t.MinPinLen, t.MaxPinLen)
	}),
	216: flagRecorded(pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH),
	217: flagRecorded(pkcs11.CKF_WRITE_PROTECTED),
	218: func(b *bench) verdict {
		x, err := b.ctx.GenerateRandom(b.sh, 32)
		if err != nil {
			return silent(err)
		}
		y, err := b.ctx.GenerateRandom(b.sh, 32)
		return that(err == nil && !bytes.Equal(x, y) && !bytes.Equal(x, make([]byte, 32)), "%s", code(err))
	},
	219: ofToken(func(t pkcs11.TokenInfo) verdict {
		switch t.MaxSessionCount {
		case 0:
			return pass("none")
		case pkcs11.CK_UNAVAILABLE_INFORMATION:
			return verdict{result: conformance.NotAnswered}
		}
		return pass("%d", t.MaxSessionCount)
	}),
	220: ofToken(func(t pkcs11.TokenInfo) verdict {
		return pass("%d.%d, %d.%d", t.FirmwareVersion.Major, t.FirmwareVersion.Minor, t.HardwareVersion.Major, t.HardwareVersion.Minor)
	}),
	221: func(b *bench) verdict {
		found, err := b.find(b.sh, attr(pkcs11.CKA_CLASS, pkcs11.CKO_HW_FEATURE))
		if err != nil {
			return silent(err)
		}
		return pass("%t", len(found) > 0)
	},
}

var loginCases = map[int]func(*bench) verdict{
	401: func(*bench) verdict { return pass("CKR_OK") }, // the process would not be here
	402: func(b *bench) verdict {
		ro, err := b.state(0)
		if err != nil {
			return fail("%s", code(err))
		}
		v := b.stateOf(pkcs11.CKS_RW_USER_FUNCTIONS)
		return that(ro == pkcs11.CKS_RO_USER_FUNCTIONS && v.result == conformance.Pass, "RO %d, RW %s", ro, v.value)
	},
	403: hasState(pkcs11.CKF_RW_SESSION, pkcs11.CKS_RW_USER_FUNCTIONS),
	404: func(b *bench) verdict {
		return oneOf(native.Login(b.ctx, b.sh, b.pin), pkcs11.CKR_USER_ALREADY_LOGGED_IN)
	},
	405: func(b *bench) verdict {
		if err := b.ctx.Logout(b.sh); err != nil {
			return fail("%s", code(err))
		}
		return b.stateOf(pkcs11.CKS_RW_PUBLIC_SESSION)
	},
	406: func(b *bench) verdict {
		if err := b.ctx.Logout(b.sh); err != nil {
			return fail("first time: %s", code(err))
		}
		return tolerated(b.ctx.Logout(b.sh), pkcs11.CKR_USER_NOT_LOGGED_IN)
	},
	407: func(b *bench) verdict {
		if err := b.ctx.CloseSession(b.sh); err != nil {
			return fail("%s", code(err))
		}
		b.reopen()
		return b.stateOf(pkcs11.CKS_RW_PUBLIC_SESSION)
	},
	408: func(b *bench) verdict {
		return oneOf(native.Login(b.ctx, noSession, b.pin), pkcs11.CKR_SESSION_HANDLE_INVALID)
	},
	409: func(b *bench) (v verdict) { v, b.flagAfter = b.wrongPIN(); return v },
	410: func(b *bench) verdict {
		if b.flagAfter.result == "" {
			return fail("409 did not come to it")
		}
		return b.flagAfter
	},
	411: func(b *bench) verdict {
		if err := b.ctx.Logout(b.sh); err != nil {
			return fail("C_Logout: %s", code(err))
		}
		before, err := b.private(b.sh)
		if err != nil {
			return fail("search: %s", code(err))
		}
		if err := native.Login(b.ctx, b.sh, b.pin); err != nil {
			return fail("C_Login: %s", code(err))
		}
		after, err := b.private(b.sh)
		return that(err == nil && len(before) == 0 && len(after) == 1, "%d before, %d after", len(before), len(after))
	},
	412: func(b *bench) verdict {
		if err := b.ctx.Logout(b.sh); err != nil {
			return fail("C_Logout: %s", code(err))
		}
		codes := make([]error, 8)
		var all sync.WaitGroup
		for i := range codes {
			all.Go(func() { codes[i] = native.Login(b.ctx, b.sh, b.pin) })
		}
		all.Wait()
		ok, already := 0, 0
		for _, err := range codes {
			switch code(err) {
			case "CKR_OK":
				ok++
			case "CKR_USER_ALREADY_LOGGED_IN":
				already++
			}
		}
		return that(ok > 0 && ok+already == 8, "%d succeeded, %d already logged in", ok, already)
	},
}

// wrongPIN tries one wrong PIN and then the right one.
func (b *bench) wrongPIN() (answer, flag verdict) {
	if err := b.ctx.Logout(b.sh); err != nil {
		v := fail("C_Logout: %s", code(err))
		return v, v
	}
	wrong := bytes.Clone(b.pin)
	defer clear(wrong)
	wrong[len(wrong)-1] ^= 1
	first := native.Login(b.ctx, b.sh, wrong)
	info, err := b.ctx.GetTokenInfo(b.slot)
	if err != nil {
		flag = fail("C_GetTokenInfo: %s", code(err))
	} else {
		flag = pass("%t", info.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0)
	}
	if err := native.Login(b.ctx, b.sh, b.pin); err != nil {
		return fail("%s, and the right PIN %s", code(first), code(err)), flag
	}
	return oneOf(first, pkcs11.CKR_PIN_INCORRECT), flag
}

// private finds the scratch key's private half.
func (b *bench) private(sh pkcs11.SessionHandle) ([]pkcs11.ObjectHandle, error) {
	return b.find(sh, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), attr(pkcs11.CKA_ID, b.key.id))
}
