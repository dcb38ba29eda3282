package native_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/miekg/pkcs11"

	"qcitycoin.org/qcity/signer/pkcs11/native"
	"qcitycoin.org/qcity/signer/worker"
)

// TestFunctions: what is taken out of the library's context is a list of
// functions, which begins with the version that the module tells by C_GetInfo. It
// fails if the library keeps its context in another way one day.
func TestFunctions(t *testing.T) {
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "softhsm2.conf")
	if err := os.WriteFile(conf, []byte(worker.SoftHSMConf(filepath.Dir(conf))), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	ctx := pkcs11.New(module)
	if ctx == nil {
		t.Fatalf("%s is not loaded", module)
	}
	defer ctx.Destroy()
	if err := native.Login(ctx, 1, []byte("pin")); err != pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		t.Errorf("login before C_Initialize: %v", err)
	}
	if err := native.Initialize(ctx, ""); err != nil {
		t.Fatal(err)
	}
	info, err := ctx.GetInfo()
	if err != nil {
		t.Fatal(err)
	}
	if list := *(*[2]byte)(native.Functions(ctx)); list != [2]byte{info.CryptokiVersion.Major, info.CryptokiVersion.Minor} {
		t.Errorf("the list begins with version %v, the module says %v", list, info.CryptokiVersion)
	}
	if err := native.Login(ctx, 1, []byte("pin")); err != pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID) {
		t.Errorf("login without a session: %v", err)
	}
	if err := ctx.Finalize(); err != nil {
		t.Error(err)
	}
}
