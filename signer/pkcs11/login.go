package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

typedef unsigned long rv_t;
typedef rv_t (*get_list_fn)(void **);
typedef rv_t (*login_fn)(unsigned long session, unsigned long user, unsigned char *pin, unsigned long len);

// CK_FUNCTION_LIST: a two-byte version, then the functions in the order of the
// standard, the same in every version of it. C_Login is number 18.
struct function_list { unsigned char version[2]; void *fn[19]; };

// login calls C_Login of a module that is loaded already.
static rv_t login(const char *path, unsigned long session, unsigned long user, unsigned char *pin, unsigned long len)
{
	struct function_list *list = NULL;
	void *lib = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
	get_list_fn get = lib ? (get_list_fn)dlsym(lib, "C_GetFunctionList") : NULL;
	rv_t rv = 5; // CKR_GENERAL_ERROR
	if (get && get((void **)&list) == 0 && list && list->fn[18])
		rv = ((login_fn)list->fn[18])(session, user, pin, len);
	if (lib)
		dlclose(lib); // gives back the reference taken above
	return rv;
}
*/
import "C"

import (
	"unsafe"

	"github.com/miekg/pkcs11"
)

// userLogin calls C_Login with the PIN where it lies. The library's own Login
// copies the PIN into C memory and frees it without clearing it, and this is
// the one PIN that is used day after day.
func (w *Worker) userLogin(sh pkcs11.SessionHandle, pin []byte) error {
	path := C.CString(w.path)
	defer C.free(unsafe.Pointer(path))
	rv := C.login(path, C.ulong(sh), pkcs11.CKU_USER, (*C.uchar)(unsafe.Pointer(unsafe.SliceData(pin))), C.ulong(len(pin)))
	if rv != pkcs11.CKR_OK {
		return pkcs11.Error(rv)
	}
	return nil
}
