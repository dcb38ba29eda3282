//go:build amd64 || arm64

package hw

const canChain = true

// addChain runs rounds times 64 additions, each of which needs the result of the
// one before and therefore takes one core cycle, and returns their number.
// Constants are added from a register: recent Intel cores add small immediate
// numbers without spending a cycle.
//
//go:noescape
func addChain(rounds uintptr) (adds uintptr)
