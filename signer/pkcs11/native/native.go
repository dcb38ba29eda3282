// Package native calls the functions of a PKCS#11 module that the library's Go
// side does not offer in the form that is needed.
package native

/*
#include <stdlib.h>

typedef unsigned long ul;
struct list { unsigned char version[2]; void *fn[68]; };

// What pkcs11.Ctx points to. The list must be the one that the library got: a
// module may make a new instance, which is not initialised, each time it is asked
// for its functions; p11-kit's client does.
struct ctx { void *handle; struct list *functions; };

// login calls C_Login, which is number 18 in every version of the list.
static ul login(struct list *l, ul session, ul user, unsigned char *pin, ul len)
{
	return ((ul (*)(ul, ul, void *, ul))l->fn[18])(session, user, pin, len);
}
*/
import "C"

import (
	"unsafe"

	"github.com/miekg/pkcs11"
)

// Functions is the CK_FUNCTION_LIST of a module: a two-byte version, then the
// functions in the order of the standard (PKCS#11 v2.40, 68 of them).
func Functions(ctx *pkcs11.Ctx) unsafe.Pointer {
	// The C half of the library's context is its only field.
	return unsafe.Pointer((*(**C.struct_ctx)(unsafe.Pointer(ctx))).functions)
}

// Login logs the user in with the PIN where it lies: the library's own Login
// copies the PIN into C memory and frees it without clearing it, and this is the
// one PIN that is used day after day. Without a PIN the token asks for it itself.
func Login(ctx *pkcs11.Ctx, sh pkcs11.SessionHandle, pin []byte) error {
	rv := C.login((*C.struct_list)(Functions(ctx)), C.ul(sh), pkcs11.CKU_USER, (*C.uchar)(unsafe.Pointer(unsafe.SliceData(pin))), C.ul(len(pin)))
	if rv != pkcs11.CKR_OK {
		return pkcs11.Error(rv)
	}
	return nil
}

// Initialize calls C_Initialize, with the module's own string if it wants one.
// The string must outlive the call only, but some modules keep it: it is not
// freed.
func Initialize(ctx *pkcs11.Ctx, args string) error {
	if args == "" {
		return ctx.Initialize()
	}
	return ctx.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(C.CString(args))))
}
