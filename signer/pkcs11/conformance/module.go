package conformance

/*
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long ul;
struct list { unsigned char version[2]; void *fn[68]; };
struct mechanism { ul type; void *param; ul len; };
enum { LOGIN = 18, SIGN_INIT = 42, SIGN = 43 };

// What pkcs11.Ctx points to. The list must be the one that the library got: a
// module may make a new instance, which is not initialised, each time it is asked
// for its functions; p11-kit's client does.
struct ctx { void *handle; struct list *functions; };

// absent counts the functions of PKCS#11 v2 that are missing.
static int absent(struct ctx *c)
{
	struct list *l = c->functions;
	int n = 0, i;
	for (i = 0; l && i < 68; i++)
		n += l->fn[i] == NULL;
	return l ? n : -1;
}

static ul login(struct ctx *c, ul session, unsigned char *pin, ul len)
{
	struct list *l = c->functions;
	return l ? ((ul (*)(ul, ul, void *, ul))l->fn[LOGIN])(session, 1, pin, len) : 5;
}

// fork_sign tries to sign in a forked child and returns its code, or -1.
static long fork_sign(struct ctx *c, ul session, ul key)
{
	struct list *l = c->functions;
	int fd[2];
	long code = -1;
	pid_t child;
	if (!l || pipe(fd) != 0)
		return -1;
	if ((child = fork()) == 0) {
		struct mechanism m = { 0x1041, NULL, 0 }; // CKM_ECDSA
		unsigned char digest[32] = { 1 }, sig[256];
		ul len = sizeof sig;
		alarm(2); // a lock that another thread held is never released here
		code = ((ul (*)(ul, void *, ul))l->fn[SIGN_INIT])(session, &m, key);
		if (code == 0)
			code = ((ul (*)(ul, void *, ul, void *, ul *))l->fn[SIGN])(session, digest, sizeof digest, sig, &len);
		_exit(write(fd[1], &code, sizeof code) != sizeof code);
	}
	close(fd[1]);
	if (child < 0 || read(fd[0], &code, sizeof code) != sizeof code)
		code = -1;
	close(fd[0]);
	if (child > 0)
		waitpid(child, NULL, 0);
	return code;
}
*/
import "C"

import (
	"unsafe"

	"github.com/miekg/pkcs11"
)

// native is the C half of the library's context, its only field.
func (b *bench) native() *C.struct_ctx {
	return *(**C.struct_ctx)(unsafe.Pointer(b.ctx))
}

// login logs the user in with the PIN where it lies: the library's own Login
// leaves a copy in C memory.
func (b *bench) login(sh pkcs11.SessionHandle, pin []byte) error {
	rv := C.login(b.native(), C.ul(sh), (*C.uchar)(unsafe.Pointer(unsafe.SliceData(pin))), C.ul(len(pin)))
	if rv != pkcs11.CKR_OK {
		return pkcs11.Error(rv)
	}
	return nil
}

// absent is the number of functions missing from the list, -1 without a list.
func (b *bench) absent() int {
	return int(C.absent(b.native()))
}

// forkSign returns what signing in a forked child returned; -1 if it died.
func (b *bench) forkSign(sh pkcs11.SessionHandle, key pkcs11.ObjectHandle) int {
	return int(C.fork_sign(b.native(), C.ul(sh), C.ul(key)))
}

// initialise calls C_Initialize, with the module's own string if it wants one.
// The string must outlive the call only, but some modules keep it: it is not
// freed.
func (b *bench) initialise() error {
	if b.req.InitArgs == "" {
		return b.ctx.Initialize()
	}
	return b.ctx.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(C.CString(b.req.InitArgs))))
}
