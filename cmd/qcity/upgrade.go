package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qcitycoin.org/qcity/stratum/server"
)

// An upgrade replaces the program under a running box: SIGUSR2 makes it execute
// its own file, which may have been replaced, in the same process. Miners keep
// their connections, their jobs and their accounts; what they send meanwhile
// waits in the sockets.

// handoverVariable names, in the environment of the program that follows, the
// descriptor of a file with a succession in it.
const handoverVariable = "QCITY_HANDOVER"

// succession is what a program leaves to the one that follows, in gob encoding.
type succession struct {
	Stratum server.Handover
	Work    []byte // the node's templates: solutions of jobs that are out
}

// errUpgrade ends everything a box runs so that another program can go on.
var errUpgrade = errors.New("making way for another program")

// program is the file this process was started from, before anybody replaces it.
var program = os.Executable

// upgradeSignals tells when another program is to take over.
func upgradeSignals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR2)
	return c, func() { signal.Stop(c) }
}

// checkSuccessor makes sure that the program at path can run here, and with this
// configuration: what runs is given up only for that.
func checkSuccessor(ctx context.Context, path, config string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	said, err := exec.CommandContext(ctx, path, "run", "--check", "--config", config).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s cannot take over: %w: %s", path, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// succeed executes the program at path in this process. It returns only if that
// fails; everything is as before then.
func succeed(path string, s *succession, log *slog.Logger) error {
	f, err := os.CreateTemp("", "qcity-handover-*")
	if err != nil {
		return err
	}
	defer f.Close()
	_ = os.Remove(f.Name()) // the descriptor is enough
	if err := gob.NewEncoder(f).Encode(s); err != nil {
		return fmt.Errorf("write down what is handed over: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	inherit := append([]int{int(f.Fd())}, s.Stratum.FDs...)
	for _, fd := range inherit {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("let a connection survive: %w", err)
		}
	}
	log.Info("another program takes over", "program", path, "connections", max(len(s.Stratum.FDs)-1, 0))
	env := append(os.Environ(), handoverVariable+"="+strconv.Itoa(inherit[0]))
	err = unix.Exec(path, os.Args, env)
	for _, fd := range inherit {
		unix.CloseOnExec(fd)
	}
	return fmt.Errorf("start %s: %w", path, err)
}

// inheritance returns what the program before left, nil if there was none.
func inheritance() (*succession, error) {
	text, ok := os.LookupEnv(handoverVariable)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(handoverVariable) // not for programs that this one starts
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is set for a program that follows another; unset it", handoverVariable, text)
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	var s succession
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("%s=%d does not hold what another program left: %w", handoverVariable, fd, err)
	}
	for _, fd := range s.Stratum.FDs {
		unix.CloseOnExec(fd)
	}
	return &s, nil
}

// listener returns the inherited Stratum listener if it is on the wanted
// address. Otherwise that port is given up.
func (s *succession) listener(address string) (net.Listener, error) {
	if s == nil || len(s.Stratum.FDs) == 0 {
		return nil, nil
	}
	l, err := server.ListenerOf(s.Stratum.FDs[0])
	if err != nil {
		return nil, fmt.Errorf("take over the Stratum port: %w", err)
	}
	if !sameAddress(l.Addr(), address) {
		_ = l.Close()
		return nil, nil
	}
	return l, nil
}

func sameAddress(have net.Addr, want string) bool {
	a, ok := have.(*net.TCPAddr)
	if !ok {
		return false
	}
	b, err := net.ResolveTCPAddr("tcp", want)
	unspecified := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return err == nil && (b.Port == 0 || a.Port == b.Port) && (a.IP.Equal(b.IP) || unspecified(a.IP) && unspecified(b.IP))
}
