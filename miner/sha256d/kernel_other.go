//go:build !amd64 && !arm64

package sha256d

// vectorKernels returns the kernels written for this architecture.
func vectorKernels() []Kernel { return nil }
