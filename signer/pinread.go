package signer

import "context"

// ReadPINFile reads a PIN file by the rules of the signer itself: a regular file
// of ours, mode 0400 or 0600, one line. The caller clears the PIN.
func ReadPINFile(path string) ([]byte, error) {
	v, err := FilePIN(path).read(context.Background(), "")
	return v.pin, err
}
