// Package pkcs11 is the inside of the worker process: it loads one PKCS#11
// module and answers the requests of package worker with it. It is the only
// package built with cgo. It keeps no state that outlives the process and decides
// no policy. Signatures are made side by side, each in a session of its own;
// everything else has the module for itself.
package pkcs11

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/pkcs11/native"
	"qcitycoin.org/qcity/signer/worker"
)

// Worker answers requests. The zero value is not usable; see NewWorker.
type Worker struct {
	log *slog.Logger
	// alone is held for reading by signatures, for writing by all else. The
	// supervisor keeps them apart too; this is the end that must not be wrong.
	alone    sync.RWMutex
	ctx      *pkcs11.Ctx // nil until opened
	sessions int         // per token
	logins   map[worker.TokenRef]*login
	passed   map[uint]string // slots whose token could not be read, and why
}

// NewWorker returns a Worker without a module.
func NewWorker(log *slog.Logger) *Worker {
	return &Worker{log: log, logins: make(map[worker.TokenRef]*login), passed: make(map[uint]string)}
}

// Handle answers one request; it is the handler for worker.Serve.
func (w *Worker) Handle(req *worker.Request) *worker.Response {
	if req.Op.Parallel() {
		w.alone.RLock()
		defer w.alone.RUnlock()
	} else {
		w.alone.Lock()
		defer w.alone.Unlock()
	}
	resp := new(worker.Response)
	if err := w.dispatch(req, resp); err != nil {
		var e *worker.Error
		if !errors.As(err, &e) {
			e = failure(worker.ErrBadRequest, "%v", err)
		}
		w.log.Warn("request failed", "op", string(req.Op), "kind", string(e.Kind), "function", e.Function, "rv", e.RV.String())
		*resp = worker.Response{Err: e}
	}
	return resp
}

func (w *Worker) dispatch(req *worker.Request, resp *worker.Response) (err error) {
	if w.ctx == nil && req.Op != worker.OpOpen {
		return failure(worker.ErrBadRequest, "%q before %q", req.Op, worker.OpOpen)
	}
	switch req.Op {
	case worker.OpOpen:
		resp.Module, err = w.open(req)
		w.sessions = req.Sessions
	case worker.OpListTokens:
		resp.Tokens, err = w.listTokens()
	case worker.OpListBlanks:
		resp.Tokens, err = w.listBlanks()
	case worker.OpListKeys:
		resp.Keys, err = w.listKeys(req.Token)
	case worker.OpListCertificates:
		resp.Certificates, err = w.listCertificates(req.Token)
	case worker.OpLogin:
		resp.Token, err = w.login(req.Token, req.PIN, req.AtDevice)
	case worker.OpFindKey:
		resp.Key, err = w.findKey(req.Token, req.Key)
	case worker.OpSign:
		resp.Signature, err = w.sign(req.Token, req.Key, req.Digest)
	case worker.OpInitToken:
		resp.Token, err = w.initToken(req.Token.Label, req.SOPIN, req.PIN)
	case worker.OpGenerateKey:
		resp.Key, err = w.generateKey(req.Token, req.Key)
	default:
		err = failure(worker.ErrBadRequest, "unknown operation %q: signer and qcity-p11 are of different versions", req.Op)
	}
	return err
}

// open loads the module, once per process: a module that was finalised and
// initialised again gave old handle numbers to other keys, and signed with
// them. Whoever wants a fresh module starts a fresh process.
func (w *Worker) open(req *worker.Request) (*worker.ModuleInfo, error) {
	path := req.Module
	if req.Protocol != worker.Protocol {
		return nil, failure(worker.ErrBadRequest, "qcity-p11 speaks protocol %d, the signer %d: install both from one release", worker.Protocol, req.Protocol)
	}
	if w.ctx != nil {
		return nil, failure(worker.ErrBadRequest, "the module is open already")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, failure(worker.ErrModule, "PKCS#11 module %s cannot be read: %v; install the HSM's library or correct the path", path, err)
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, failure(worker.ErrModule, "%s is not a PKCS#11 module for this machine, or a library it needs is missing (see ldd)", path)
	}
	if err := native.Initialize(ctx, req.InitArgs); err != nil {
		return nil, returned("C_Initialize", err, "the PKCS#11 module %s does not start: check its configuration and that the device is connected", path)
	}
	info, err := ctx.GetInfo()
	if err != nil {
		return nil, returned("C_GetInfo", err, "the PKCS#11 module %s does not say what it is", path)
	}
	w.ctx = ctx
	return &worker.ModuleInfo{
		Manufacturer: trim(info.ManufacturerID),
		Description:  trim(info.LibraryDescription),
		Version:      version(info.LibraryVersion),
		Cryptoki:     version(info.CryptokiVersion),
	}, nil
}

// Close finalises the module, which ends all sessions at the device. The
// Worker cannot be used afterwards.
func (w *Worker) Close() error {
	w.alone.Lock()
	defer w.alone.Unlock()
	if w.ctx == nil {
		return nil
	}
	if err := w.ctx.Finalize(); err != nil {
		return returned("C_Finalize", err, "the PKCS#11 module did not close")
	}
	return nil
}

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// trim removes the padding of fixed-width fields: blanks by the standard, NUL
// bytes in some modules.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

// secretString views b as a string without a copy that could not be cleared.
// It must not outlive b's content. The library below still makes C copies of
// it; for the user's PIN at login see package native.
func secretString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func failure(k worker.Kind, format string, args ...any) *worker.Error {
	return &worker.Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// returned makes the error for a PKCS#11 call that did not return CKR_OK.
func returned(function string, err error, format string, args ...any) *worker.Error {
	e := failure(worker.ErrReturned, format, args...)
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		e.Message += ": " + err.Error()
		return e
	}
	e.Function, e.RV = function, worker.RV(rv)
	return e
}
