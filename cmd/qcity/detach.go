package main

import (
	"os/exec"
	"syscall"
)

// detach gives a child its own process group, so that Ctrl-C on the terminal
// reaches this process alone and the order of the shutdown is ours.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
