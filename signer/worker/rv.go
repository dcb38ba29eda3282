package worker

import "fmt"

// RV is a PKCS#11 return value (CK_RV). The codes are all those of PKCS#11 v3.2
// (CKR_ in pkcs11t.h), which has those of every earlier version.
type RV uint64

// The codes this code base names.
const (
	RVOK                  RV = 0x000
	RVHostMemory          RV = 0x002
	RVGeneralError        RV = 0x005
	RVArgumentsBad        RV = 0x007
	RVDeviceError         RV = 0x030
	RVDeviceRemoved       RV = 0x032
	RVKeyHandleInvalid    RV = 0x060
	RVObjectHandleInvalid RV = 0x082
	RVPINIncorrect        RV = 0x0a0
	RVPINInvalid          RV = 0x0a1
	RVPINLenRange         RV = 0x0a2
	RVPINExpired          RV = 0x0a3
	RVPINLocked           RV = 0x0a4
	RVTokenNotPresent     RV = 0x0e0
	RVUserAlreadyLoggedIn RV = 0x100
	RVUserNotLoggedIn     RV = 0x101
	RVUserPINNotInit      RV = 0x102
	RVDomainParamsInvalid RV = 0x130
	RVCurveNotSupported   RV = 0x140
	RVPINTooWeak          RV = 0x1b8
	RVSessionCount        RV = 0x0b1
	// RVVendor is where the codes begin whose meaning vendors choose.
	RVVendor RV = 0x80000000
)

// String returns the name in the standard, or the code in hex: "vendor code
// 0x8…" from 0x80000000 on, "unknown code 0x…" otherwise.
func (rv RV) String() string {
	if info, ok := lookupRV(rv); ok {
		return "CKR_" + info.name
	}
	if rv >= RVVendor {
		return fmt.Sprintf("vendor code %#x", uint64(rv))
	}
	return fmt.Sprintf("unknown code %#x", uint64(rv))
}

// Class returns what may be done about the code. Vendor and unknown codes are
// ClassRestart: a new process is cheap and the only remedy that needs no
// knowledge of the module.
func (rv RV) Class() Class {
	if info, ok := lookupRV(rv); ok {
		return info.class
	}
	return ClassRestart
}

type rvInfo struct {
	name  string
	class Class
}

// lookupRV is a switch, not a map, so that the table cannot be changed. The
// classes follow what five software tokens returned in experiments, not only
// the standard's words; NSS, for one, says HOST_MEMORY when it is logged out.
func lookupRV(rv RV) (rvInfo, bool) {
	for _, group := range [...]func(RV) (rvInfo, bool){rvGeneral, rvKeyAndData, rvPINAndSession, rvTokenAndUser, rvLate} {
		if info, ok := group(rv); ok {
			return info, true
		}
	}
	return rvInfo{}, false
}

func rvGeneral(rv RV) (rvInfo, bool) {
	switch rv {
	case 0x00:
		return rvInfo{"OK", ClassStop}, true
	case 0x01:
		return rvInfo{"CANCEL", ClassRestart}, true
	case 0x02:
		return rvInfo{"HOST_MEMORY", ClassReFind}, true
	case 0x03:
		return rvInfo{"SLOT_ID_INVALID", ClassRestart}, true
	case 0x05:
		return rvInfo{"GENERAL_ERROR", ClassRestart}, true
	case 0x06:
		return rvInfo{"FUNCTION_FAILED", ClassRestart}, true
	case 0x07:
		return rvInfo{"ARGUMENTS_BAD", ClassStop}, true
	case 0x08:
		return rvInfo{"NO_EVENT", ClassRestart}, true
	case 0x09:
		return rvInfo{"NEED_TO_CREATE_THREADS", ClassStop}, true
	case 0x0a:
		return rvInfo{"CANT_LOCK", ClassRestart}, true
	case 0x10:
		return rvInfo{"ATTRIBUTE_READ_ONLY", ClassStop}, true
	case 0x11:
		return rvInfo{"ATTRIBUTE_SENSITIVE", ClassStop}, true
	case 0x12:
		return rvInfo{"ATTRIBUTE_TYPE_INVALID", ClassStop}, true
	case 0x13:
		return rvInfo{"ATTRIBUTE_VALUE_INVALID", ClassStop}, true
	case 0x1b:
		return rvInfo{"ACTION_PROHIBITED", ClassStop}, true
	}
	return rvInfo{}, false
}

func rvKeyAndData(rv RV) (rvInfo, bool) {
	switch rv {
	case 0x20:
		return rvInfo{"DATA_INVALID", ClassStop}, true
	case 0x21:
		return rvInfo{"DATA_LEN_RANGE", ClassStop}, true
	case 0x30:
		return rvInfo{"DEVICE_ERROR", ClassRestart}, true
	case 0x31:
		return rvInfo{"DEVICE_MEMORY", ClassRestart}, true
	case 0x32:
		return rvInfo{"DEVICE_REMOVED", ClassRestart}, true
	case 0x40:
		return rvInfo{"ENCRYPTED_DATA_INVALID", ClassStop}, true
	case 0x41:
		return rvInfo{"ENCRYPTED_DATA_LEN_RANGE", ClassStop}, true
	case 0x42:
		return rvInfo{"AEAD_DECRYPT_FAILED", ClassStop}, true
	case 0x50:
		return rvInfo{"FUNCTION_CANCELED", ClassRestart}, true
	case 0x51:
		return rvInfo{"FUNCTION_NOT_PARALLEL", ClassRestart}, true
	case 0x54:
		return rvInfo{"FUNCTION_NOT_SUPPORTED", ClassStop}, true
	case 0x60:
		return rvInfo{"KEY_HANDLE_INVALID", ClassReFind}, true
	case 0x62:
		return rvInfo{"KEY_SIZE_RANGE", ClassStop}, true
	case 0x63:
		return rvInfo{"KEY_TYPE_INCONSISTENT", ClassStop}, true
	case 0x64:
		return rvInfo{"KEY_NOT_NEEDED", ClassStop}, true
	case 0x65:
		return rvInfo{"KEY_CHANGED", ClassStop}, true
	case 0x66:
		return rvInfo{"KEY_NEEDED", ClassStop}, true
	case 0x67:
		return rvInfo{"KEY_INDIGESTIBLE", ClassStop}, true
	case 0x68:
		return rvInfo{"KEY_FUNCTION_NOT_PERMITTED", ClassStop}, true
	case 0x69:
		return rvInfo{"KEY_NOT_WRAPPABLE", ClassStop}, true
	case 0x6a:
		return rvInfo{"KEY_UNEXTRACTABLE", ClassStop}, true
	case 0x70:
		return rvInfo{"MECHANISM_INVALID", ClassStop}, true
	case 0x71:
		return rvInfo{"MECHANISM_PARAM_INVALID", ClassStop}, true
	case 0x82:
		return rvInfo{"OBJECT_HANDLE_INVALID", ClassReFind}, true
	case 0x90:
		return rvInfo{"OPERATION_ACTIVE", ClassNewSession}, true
	case 0x91:
		return rvInfo{"OPERATION_NOT_INITIALIZED", ClassNewSession}, true
	}
	return rvInfo{}, false
}

func rvPINAndSession(rv RV) (rvInfo, bool) {
	switch rv {
	case 0xa0:
		return rvInfo{"PIN_INCORRECT", ClassStop}, true
	case 0xa1:
		return rvInfo{"PIN_INVALID", ClassStop}, true
	case 0xa2:
		return rvInfo{"PIN_LEN_RANGE", ClassStop}, true
	case 0xa3:
		return rvInfo{"PIN_EXPIRED", ClassStop}, true
	case 0xa4:
		return rvInfo{"PIN_LOCKED", ClassStop}, true
	case 0xb0:
		return rvInfo{"SESSION_CLOSED", ClassNewSession}, true
	case 0xb1:
		return rvInfo{"SESSION_COUNT", ClassNewSession}, true
	case 0xb3:
		return rvInfo{"SESSION_HANDLE_INVALID", ClassNewSession}, true
	case 0xb4:
		return rvInfo{"SESSION_PARALLEL_NOT_SUPPORTED", ClassStop}, true
	case 0xb5:
		return rvInfo{"SESSION_READ_ONLY", ClassStop}, true
	case 0xb6:
		return rvInfo{"SESSION_EXISTS", ClassStop}, true
	case 0xb7:
		return rvInfo{"SESSION_READ_ONLY_EXISTS", ClassStop}, true
	case 0xb8:
		return rvInfo{"SESSION_READ_WRITE_SO_EXISTS", ClassStop}, true
	case 0xc0:
		return rvInfo{"SIGNATURE_INVALID", ClassStop}, true
	case 0xc1:
		return rvInfo{"SIGNATURE_LEN_RANGE", ClassStop}, true
	case 0xd0:
		return rvInfo{"TEMPLATE_INCOMPLETE", ClassStop}, true
	case 0xd1:
		return rvInfo{"TEMPLATE_INCONSISTENT", ClassStop}, true
	}
	return rvInfo{}, false
}

func rvTokenAndUser(rv RV) (rvInfo, bool) {
	switch rv {
	case 0xe0:
		return rvInfo{"TOKEN_NOT_PRESENT", ClassRestart}, true
	case 0xe1:
		return rvInfo{"TOKEN_NOT_RECOGNIZED", ClassRestart}, true
	case 0xe2:
		return rvInfo{"TOKEN_WRITE_PROTECTED", ClassStop}, true
	case 0xf0:
		return rvInfo{"UNWRAPPING_KEY_HANDLE_INVALID", ClassStop}, true
	case 0xf1:
		return rvInfo{"UNWRAPPING_KEY_SIZE_RANGE", ClassStop}, true
	case 0xf2:
		return rvInfo{"UNWRAPPING_KEY_TYPE_INCONSISTENT", ClassStop}, true
	case 0x100:
		return rvInfo{"USER_ALREADY_LOGGED_IN", ClassRestart}, true
	case 0x101:
		return rvInfo{"USER_NOT_LOGGED_IN", ClassReFind}, true
	case 0x102:
		return rvInfo{"USER_PIN_NOT_INITIALIZED", ClassStop}, true
	case 0x103:
		return rvInfo{"USER_TYPE_INVALID", ClassStop}, true
	case 0x104:
		return rvInfo{"USER_ANOTHER_ALREADY_LOGGED_IN", ClassRestart}, true
	case 0x105:
		return rvInfo{"USER_TOO_MANY_TYPES", ClassRestart}, true
	case 0x110:
		return rvInfo{"WRAPPED_KEY_INVALID", ClassStop}, true
	case 0x112:
		return rvInfo{"WRAPPED_KEY_LEN_RANGE", ClassStop}, true
	case 0x113:
		return rvInfo{"WRAPPING_KEY_HANDLE_INVALID", ClassStop}, true
	case 0x114:
		return rvInfo{"WRAPPING_KEY_SIZE_RANGE", ClassStop}, true
	case 0x115:
		return rvInfo{"WRAPPING_KEY_TYPE_INCONSISTENT", ClassStop}, true
	}
	return rvInfo{}, false
}

func rvLate(rv RV) (rvInfo, bool) {
	switch rv {
	case 0x120:
		return rvInfo{"RANDOM_SEED_NOT_SUPPORTED", ClassStop}, true
	case 0x121:
		return rvInfo{"RANDOM_NO_RNG", ClassStop}, true
	case 0x130:
		return rvInfo{"DOMAIN_PARAMS_INVALID", ClassStop}, true
	case 0x140:
		return rvInfo{"CURVE_NOT_SUPPORTED", ClassStop}, true
	case 0x150:
		return rvInfo{"BUFFER_TOO_SMALL", ClassRestart}, true
	case 0x160:
		return rvInfo{"SAVED_STATE_INVALID", ClassRestart}, true
	case 0x170:
		return rvInfo{"INFORMATION_SENSITIVE", ClassStop}, true
	case 0x180:
		return rvInfo{"STATE_UNSAVEABLE", ClassRestart}, true
	case 0x190:
		return rvInfo{"CRYPTOKI_NOT_INITIALIZED", ClassRestart}, true
	case 0x191:
		return rvInfo{"CRYPTOKI_ALREADY_INITIALIZED", ClassRestart}, true
	case 0x1a0:
		return rvInfo{"MUTEX_BAD", ClassRestart}, true
	case 0x1a1:
		return rvInfo{"MUTEX_NOT_LOCKED", ClassRestart}, true
	case 0x1b0:
		return rvInfo{"NEW_PIN_MODE", ClassStop}, true
	case 0x1b1:
		return rvInfo{"NEXT_OTP", ClassStop}, true
	case 0x1b5:
		return rvInfo{"EXCEEDED_MAX_ITERATIONS", ClassRestart}, true
	case 0x1b6:
		return rvInfo{"FIPS_SELF_TEST_FAILED", ClassStop}, true
	case 0x1b7:
		return rvInfo{"LIBRARY_LOAD_FAILED", ClassRestart}, true
	case 0x1b8:
		return rvInfo{"PIN_TOO_WEAK", ClassStop}, true
	case 0x1b9:
		return rvInfo{"PUBLIC_KEY_INVALID", ClassStop}, true
	case 0x200:
		return rvInfo{"FUNCTION_REJECTED", ClassStop}, true
	case 0x201:
		return rvInfo{"TOKEN_RESOURCE_EXCEEDED", ClassRestart}, true
	case 0x202:
		return rvInfo{"OPERATION_CANCEL_FAILED", ClassNewSession}, true
	case 0x203:
		return rvInfo{"KEY_EXHAUSTED", ClassStop}, true
	case 0x204: // nothing here is asked for asynchronously
		return rvInfo{"PENDING", ClassRestart}, true
	case 0x205:
		return rvInfo{"SESSION_ASYNC_NOT_SUPPORTED", ClassStop}, true
	case 0x206:
		return rvInfo{"SEED_RANDOM_REQUIRED", ClassStop}, true
	case 0x207:
		return rvInfo{"OPERATION_NOT_VALIDATED", ClassStop}, true
	case 0x208:
		return rvInfo{"TOKEN_NOT_INITIALIZED", ClassStop}, true
	case 0x209:
		return rvInfo{"PARAMETER_SET_NOT_SUPPORTED", ClassStop}, true
	}
	return rvInfo{}, false
}
