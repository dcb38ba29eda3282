// Command qcity-p11 is the PKCS#11 worker: it loads one HSM library and signs
// for the signer daemon, which starts it and holds the other end of its only
// connection, a socket on descriptor 3. It has no flags and is not started by
// hand. It ends when that socket closes or its parent dies, but not in the
// middle of a login.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	probe "qcitycoin.org/qcity/signer/conformance"
	"qcitycoin.org/qcity/signer/pkcs11"
	"qcitycoin.org/qcity/signer/pkcs11/conformance"
	"qcitycoin.org/qcity/signer/worker"
)

const (
	// loginLinger is how long a login may go on after the daemon is gone.
	loginLinger = 30 * time.Second
	// openFiles is enough for worker.MaxParallel connections of a network HSM.
	openFiles = 512
	// closeLimit is how long the module may take to close its sessions.
	closeLimit = 2 * time.Second
)

func main() {
	// What Go prints when a module crashes has words of memory in it, and ends in
	// the signer's log. The reason stays.
	debug.SetTraceback("none")
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log); err != nil {
		log.Error("qcity-p11 stopped", "err", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) error {
	if len(os.Args) == 2 && os.Args[1] == probe.Mode {
		return conformance.Main()
	}
	// A broken standard error, or a Ctrl-C meant for the daemon, must not end
	// the process: it might be logging in.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGINT, syscall.SIGHUP)
	// SIGTERM is what the kernel sends when the parent dies.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	socket, err := openSocket()
	if err != nil {
		return err
	}
	if err := harden(log); err != nil {
		return err
	}
	w := pkcs11.NewWorker(log)
	err = worker.Serve(ctx, socket, w.Handle, loginLinger)
	if !errors.Is(err, worker.ErrOrphaned) {
		return err
	}
	closeModule(log, w)
	return nil
}

// openSocket takes over the connection and keeps it from programs the module
// may start.
func openSocket() (*os.File, error) {
	kind, err := unix.GetsockoptInt(worker.SocketFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return nil, errors.New("descriptor 3 is not a socket: qcity-p11 is started by the signer, not by hand")
	}
	unix.CloseOnExec(worker.SocketFD)
	return os.NewFile(worker.SocketFD, "signer socket"), nil
}

// harden keeps PINs and whatever the module holds out of core dumps and away
// from debuggers of the same user, and makes sure that no program started from
// here gains rights. no_new_privs belongs to each thread and is therefore set
// by the signer before the first thread exists, with the rest of the sandbox;
// here it is only checked.
func harden(log *slog.Logger) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps and tracing: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set the core size limit to 0: %w", err)
	}
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("read no_new_privs: %w", err)
	}
	if set != 1 {
		return errors.New("no_new_privs is not set: qcity-p11 is started by the signer, not by hand")
	}
	// Before Go's own view of the limit, which a program started from here gets.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: openFiles, Max: openFiles}); err != nil {
		log.Warn("sandbox: the limit of open files is not set", "err", err)
	}
	return nil
}

// closeModule gives the module a moment to end its sessions at the device. If
// a call still hangs in it, or closing hangs, the process just exits.
func closeModule(log *slog.Logger, w *pkcs11.Worker) {
	done := make(chan error, 1)
	go func() { done <- w.Close() }()
	select {
	case err := <-done:
		if err != nil {
			log.Warn("module not closed", "err", err)
		}
	case <-time.After(closeLimit):
		log.Warn("module did not close in time", "limit", closeLimit)
	}
}
