package conformance

import (
	"sync"

	"github.com/miekg/pkcs11"
)

// state opens a session with these flags and reads its state.
func (b *bench) state(flags uint) (uint, error) {
	sh, err := b.ctx.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION|flags)
	if err != nil {
		return 0, err
	}
	defer func() { _ = b.ctx.CloseSession(sh) }()
	info, err := b.ctx.GetSessionInfo(sh)
	return info.State, err
}

func hasState(flags, want uint) func(*bench) verdict {
	return func(b *bench) verdict {
		s, err := b.state(flags)
		if err != nil {
			return fail("%s", code(err))
		}
		return that(s == want, "state %d", s)
	}
}

func (b *bench) alive(sh pkcs11.SessionHandle) error {
	_, err := b.ctx.GetSessionInfo(sh)
	return err
}

// sessions opens n sessions and gives them to f.
func (b *bench) sessions(n int, f func([]pkcs11.SessionHandle, error) verdict) verdict {
	var all []pkcs11.SessionHandle
	var err error
	for len(all) < n && err == nil {
		var sh pkcs11.SessionHandle
		if sh, err = b.ctx.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION); err == nil {
			all = append(all, sh)
		}
	}
	v := f(all, err)
	for _, sh := range all {
		_ = b.ctx.CloseSession(sh)
	}
	return v
}

var sessionCases = map[int]func(*bench) verdict{
	301: hasState(0, pkcs11.CKS_RO_PUBLIC_SESSION),
	302: hasState(pkcs11.CKF_RW_SESSION, pkcs11.CKS_RW_PUBLIC_SESSION),
	303: func(b *bench) verdict {
		_, err := b.ctx.OpenSession(b.slot, 0)
		return tolerated(err, pkcs11.CKR_SESSION_PARALLEL_NOT_SUPPORTED)
	},
	304: func(b *bench) verdict {
		_, err := b.ctx.OpenSession(noSlot, pkcs11.CKF_SERIAL_SESSION)
		return oneOf(err, pkcs11.CKR_SLOT_ID_INVALID)
	},
	305: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if err := b.ctx.CloseSession(sh); err != nil {
				return fail("first time: %s", code(err))
			}
			return oneOf(b.ctx.CloseSession(sh), pkcs11.CKR_SESSION_HANDLE_INVALID)
		})
	},
	306: func(b *bench) verdict { return oneOf(b.alive(noSession), pkcs11.CKR_SESSION_HANDLE_INVALID) },
	307: func(b *bench) verdict {
		return b.sessions(16, func(all []pkcs11.SessionHandle, err error) verdict {
			distinct := make(map[pkcs11.SessionHandle]bool)
			for _, sh := range all {
				distinct[sh] = true
			}
			return that(err == nil && len(distinct) == 16, "%d, %s", len(distinct), code(err))
		})
	},
	308: func(b *bench) verdict {
		return b.fresh(func(sh pkcs11.SessionHandle) verdict {
			var other sync.WaitGroup
			other.Go(func() { _ = b.ctx.CloseSession(sh) })
			other.Wait()
			return oneOf(b.alive(sh), pkcs11.CKR_SESSION_HANDLE_INVALID)
		})
	},
	309: func(b *bench) verdict {
		var first, second pkcs11.SessionHandle
		b.fresh(func(sh pkcs11.SessionHandle) verdict { first = sh; return verdict{} })
		b.fresh(func(sh pkcs11.SessionHandle) verdict { second = sh; return verdict{} })
		return pass("%t", first == second)
	},
	310: func(b *bench) verdict {
		v := b.fresh(func(sh pkcs11.SessionHandle) verdict {
			if err := b.ctx.CloseAllSessions(b.slot); err != nil {
				return fail("%s", code(err))
			}
			return oneOf(b.alive(sh), pkcs11.CKR_SESSION_HANDLE_INVALID)
		})
		b.reopen()
		return v
	},
	311: func(b *bench) verdict {
		return b.sessions(256, func(all []pkcs11.SessionHandle, err error) verdict {
			if err != nil {
				return pass("%d, then %s", len(all), code(err))
			}
			return pass("all open")
		})
	},
	312: func(b *bench) verdict {
		info, err := b.ctx.GetSessionInfo(b.sh)
		return that(err == nil && info.SlotID == b.slot, "%s", code(err))
	},
	313: func(b *bench) verdict {
		return b.fresh(func(pkcs11.SessionHandle) verdict {
			b.fresh(func(pkcs11.SessionHandle) verdict { return verdict{} })
			return that(b.alive(b.sh) == nil, "%s", code(b.alive(b.sh)))
		})
	},
	314: func(b *bench) verdict { return tolerated(b.ctx.CloseAllSessions(noSlot), pkcs11.CKR_SLOT_ID_INVALID) },
}

// reopen replaces a session that a case ended.
func (b *bench) reopen() {
	if sh, err := b.open(); err == nil {
		b.sh = sh
	}
}

// stateOf is the state of the bench's session.
func (b *bench) stateOf(want uint) verdict {
	info, err := b.ctx.GetSessionInfo(b.sh)
	if err != nil {
		return fail("%s", code(err))
	}
	return that(info.State == want, "state %d", info.State)
}
