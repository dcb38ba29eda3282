//go:build unix

package probe

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// The faults are real ones, raised by the CPU or the memory management.

// illegal runs bytes that are no instruction.
func illegal() {
	code, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	if runtime.GOARCH == "amd64" { // UD2; elsewhere zeroes are none
		copy(code, []byte{0x0f, 0x0b})
	}
	if err := syscall.Mprotect(code, syscall.PROT_READ|syscall.PROT_EXEC); err != nil {
		panic(err)
	}
	entry := &code[0]
	closure := &entry // what a function value points to
	(*(*func())(unsafe.Pointer(&closure)))()
}

// forbidden reads memory that nobody may read.
func forbidden() {
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	sink = page[0]
}

// absent reads a page of a file behind its end.
func absent() {
	f, err := os.CreateTemp("", "empty")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		panic(err)
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, os.Getpagesize(), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	sink = page[0]
}

// killed is ended from outside.
func killed() {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}

var sink byte
