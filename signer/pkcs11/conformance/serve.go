// Package conformance asks the questions of signer/conformance to a PKCS#11
// module loaded into this process, which a bad module may take down with it.
package conformance

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/pkcs11/native"
	"qcitycoin.org/qcity/signer/worker"
)

// bench is a module on the bench: the token, and what the cases share.
type bench struct {
	ctx  *pkcs11.Ctx
	req  conformance.Request
	pin  []byte
	slot uint
	// sh is a read-write session, logged in if a case of the process needs it.
	sh  pkcs11.SessionHandle
	key pair // if a case needs it
	say func(conformance.Answer)
	// gone: nobody waits for answers any more.
	gone bool
	// flagAfter is what case 409 learned for 410: one wrong PIN serves both.
	flagAfter verdict
}

// errPIN says that a login failed: the token may have counted a try.
var errPIN = errors.New("login failed")

// Main is the whole life of a probing process: a request with a PIN comes in
// on the socket, answers go out, line by line.
func Main() error {
	kind, err := unix.GetsockoptInt(conformance.SocketFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return errors.New("descriptor 3 is not a socket: this is started by qcity hsm, not by hand")
	}
	unix.CloseOnExec(conformance.SocketFD)
	// A Ctrl-C is meant for the program that listens. This one may be logging in: it
	// ends when nobody listens any more, between two cases, and leaves nothing behind.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGINT, syscall.SIGHUP)
	// PINs stay out of core dumps and away from debuggers.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	conn := os.NewFile(conformance.SocketFD, "probe")
	defer conn.Close()
	b := new(bench)
	b.say = func(a conformance.Answer) {
		if err := json.NewEncoder(conn).Encode(a); err != nil {
			b.gone = true
		}
	}
	if b.req, b.pin, err = readRequest(conn); err != nil {
		return err
	}
	defer clear(b.pin)
	if err := b.serve(); err != nil {
		b.say(conformance.Answer{Err: err.Error(), PINRefused: errors.Is(err, errPIN)})
	}
	return nil
}

func readRequest(r io.Reader) (req conformance.Request, pin []byte, err error) {
	in := bufio.NewReader(r)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return req, nil, err
	}
	if err := json.Unmarshal(line, &req); err != nil {
		return req, nil, err
	}
	var n [2]byte
	if _, err := io.ReadFull(in, n[:]); err != nil {
		return req, nil, err
	}
	pin = make([]byte, int(n[0])<<8|int(n[1]))
	_, err = io.ReadFull(in, pin)
	return req, pin, err
}

func (b *bench) serve() error {
	if _, err := os.Stat(b.req.Module); err != nil {
		return fmt.Errorf("the PKCS#11 module cannot be read: %w; install the HSM's library or correct the path", err)
	}
	if b.ctx = pkcs11.New(b.req.Module); b.ctx == nil {
		return fmt.Errorf("%s is not a PKCS#11 module for this machine, or a library it needs is missing (see ldd)", b.req.Module)
	}
	var needs conformance.Need
	for _, n := range b.req.Cases {
		c, err := conformance.Lookup(n)
		if err != nil {
			return err
		}
		needs |= c.Needs
	}
	if needs&conformance.Bare == 0 {
		if err := native.Initialize(b.ctx, b.req.InitArgs); err != nil {
			return fmt.Errorf("the module %s does not start (C_Initialize: %s): check its configuration and that the device is connected", b.req.Module, code(err))
		}
	}
	if b.req.Label == "" && b.req.Serial == "" {
		tokens, err := b.tokens()
		b.say(conformance.Answer{Tokens: tokens})
		return err
	}
	if needs&conformance.Bare == 0 {
		if err := b.prepare(needs); err != nil {
			return err
		}
	}
	for _, n := range b.req.Cases {
		if b.gone {
			break
		}
		v := answers[n](b)
		b.say(conformance.Answer{Outcome: &conformance.Outcome{Number: n, Result: v.result, Value: v.value, Note: v.note}})
	}
	b.tidy(needs)
	return nil
}

// prepare opens a session, logs in and makes the scratch key, as needed.
func (b *bench) prepare(needs conformance.Need) (err error) {
	slots, err := b.ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("the module does not list its slots (C_GetSlotList: %s)", code(err))
	}
	found := false
	for _, s := range slots {
		t, err := b.ctx.GetTokenInfo(s)
		if err == nil && trim(t.Label) == b.req.Label && trim(t.SerialNumber) == b.req.Serial {
			b.slot, found = s, true
		}
	}
	if !found {
		return fmt.Errorf("the token %q is not there any more", b.req.Label)
	}
	if b.sh, err = b.open(); err != nil {
		return fmt.Errorf("the token opens no session for writing (C_OpenSession: %s)", code(err))
	}
	if needs&conformance.Login != 0 {
		if err := native.Login(b.ctx, b.sh, b.pin); err != nil {
			return fmt.Errorf("%w (C_Login: %s)", errPIN, code(err))
		}
		b.say(conformance.Answer{LoggedIn: true})
	}
	if needs&conformance.Key != 0 {
		b.sweep()
		if err := b.makeScratch(); err != nil {
			return err
		}
		b.say(conformance.Answer{Curve: b.key.alg.String()})
	}
	return nil
}

// tidy destroys what was made. Errors have been outcomes, if they matter.
func (b *bench) tidy(needs conformance.Need) {
	if needs&conformance.Key != 0 {
		b.relogin()
		b.sweep()
	}
	_ = b.ctx.Finalize()
}

func (b *bench) open() (pkcs11.SessionHandle, error) {
	return b.ctx.OpenSession(b.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
}

// relogin brings the bench's session back after a case that ended it.
func (b *bench) relogin() {
	if info, err := b.ctx.GetSessionInfo(b.sh); err == nil && info.State == pkcs11.CKS_RW_USER_FUNCTIONS {
		return
	}
	if sh, err := b.open(); err == nil {
		b.sh = sh
		_ = native.Login(b.ctx, sh, b.pin)
	}
}

// tokens lists the initialised ones.
func (b *bench) tokens() ([]conformance.Token, error) {
	slots, err := b.ctx.GetSlotList(true)
	if err != nil {
		return nil, fmt.Errorf("the module does not list its slots (C_GetSlotList: %s)", code(err))
	}
	info, err := b.ctx.GetInfo()
	if err != nil {
		return nil, fmt.Errorf("the module does not say what it is (C_GetInfo: %s)", code(err))
	}
	var out []conformance.Token
	for _, s := range slots {
		t, err := b.ctx.GetTokenInfo(s)
		if err != nil || t.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		out = append(out, conformance.Token{
			Label: trim(t.Label), Serial: trim(t.SerialNumber), Manufacturer: trim(t.ManufacturerID), Model: trim(t.Model),
			Firmware: fmt.Sprintf("%d.%d", t.FirmwareVersion.Major, t.FirmwareVersion.Minor), PIN: pinState(t.Flags),
			Sessions: sessions(t.SessionCount, t.MaxSessionCount), Secp256k1: b.hasSecp256k1(s),
			Module: trim(info.LibraryDescription), Version: fmt.Sprintf("%d.%d", info.LibraryVersion.Major, info.LibraryVersion.Minor),
		})
	}
	return out, nil
}

// sessions says how many are open, of how many. CK_EFFECTIVELY_INFINITE is 0.
func sessions(open, most uint) string {
	if most == 0 {
		return limit(open) + ", no limit"
	}
	return limit(open) + " of " + limit(most)
}

// hasSecp256k1 is "yes" if a public key on the curve lies open. The standard
// has no way to ask which curves a token offers.
func (b *bench) hasSecp256k1(slot uint) string {
	sh, err := b.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return ""
	}
	defer func() { _ = b.ctx.CloseSession(sh) }()
	found, err := b.find(sh, attr(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), attr(pkcs11.CKA_EC_PARAMS, oid(worker.Secp256k1)))
	if err == nil && len(found) > 0 {
		return "yes"
	}
	return ""
}

func pinState(flags uint) string {
	for _, f := range [...]struct {
		flag uint
		name string
	}{
		{pkcs11.CKF_USER_PIN_LOCKED, "locked"},
		{pkcs11.CKF_USER_PIN_FINAL_TRY, "final"},
		{pkcs11.CKF_USER_PIN_TO_BE_CHANGED, "expired"},
		{pkcs11.CKF_USER_PIN_COUNT_LOW, "low"},
	} {
		if flags&f.flag != 0 {
			return f.name
		}
	}
	if flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0 {
		return "not set"
	}
	return "ok"
}

// limit writes a session count: 0 means no limit for a maximum.
func limit(n uint) string {
	if n == pkcs11.CK_UNAVAILABLE_INFORMATION || n == 0xffffffff {
		return "?"
	}
	return fmt.Sprint(n)
}

func trim(s string) string { return strings.TrimRight(s, " \x00") }

// code names what a call returned.
func code(err error) string {
	var rv pkcs11.Error
	switch {
	case err == nil:
		return worker.RVOK.String()
	case errors.As(err, &rv):
		return worker.RV(rv).String()
	}
	return err.Error()
}
