//go:build !linux

package bench

import (
	"os/exec"
	"syscall"
)

// ownGroup gives a process a group of its own: Ctrl-C on the terminal reaches
// this process alone, and all that the other starts can be ended at once.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
