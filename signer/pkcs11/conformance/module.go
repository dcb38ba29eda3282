package conformance

/*
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long ul;
struct list { unsigned char version[2]; void *fn[68]; };
struct mechanism { ul type; void *param; ul len; };
enum { SIGN_INIT = 42, SIGN = 43 };

// absent counts the functions of PKCS#11 v2 that are missing.
static int absent(struct list *l)
{
	int n = 0, i;
	for (i = 0; i < 68; i++)
		n += l->fn[i] == NULL;
	return n;
}

// fork_sign tries to sign in a forked child and returns its code, or -1.
static long fork_sign(struct list *l, ul session, ul key)
{
	int fd[2];
	long code = -1;
	pid_t child;
	if (pipe(fd) != 0)
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
	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/pkcs11/native"
)

func (b *bench) functions() *C.struct_list { return (*C.struct_list)(native.Functions(b.ctx)) }

// absent is the number of functions missing from the list.
func (b *bench) absent() int { return int(C.absent(b.functions())) }

// forkSign returns what signing in a forked child returned; -1 if it died.
func (b *bench) forkSign(sh pkcs11.SessionHandle, key pkcs11.ObjectHandle) int {
	return int(C.fork_sign(b.functions(), C.ul(sh), C.ul(key)))
}
