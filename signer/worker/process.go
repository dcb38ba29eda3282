package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one generation of the worker.
type process struct {
	conn   *os.File
	cmd    *exec.Cmd
	module ModuleInfo
	nextID uint64
	// loggedIn holds the tokens this generation has logged in to.
	loggedIn map[TokenRef]bool

	done    chan struct{} // closed when the process has been waited for
	waitErr error         // valid once done is closed
}

// startProcess starts the binary with one end of a fresh socket pair.
func startProcess(binary string, env []string, log *slog.Logger) (*process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, newError(ErrStart, "cannot make a socket pair for the PKCS#11 worker: %v", err)
	}
	// Only our end is non-blocking: that is what makes deadlines work on it.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return nil, newError(ErrStart, "cannot prepare the socket of the PKCS#11 worker: %v", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "worker socket"), os.NewFile(uintptr(pair[1]), "worker socket (child)")
	defer theirs.Close()

	cmd := exec.Command(binary)
	cmd.Env = env
	cmd.ExtraFiles = []*os.File{theirs} // becomes SocketFD
	cmd.Stderr = &lineLogger{log: log}
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A group of its own keeps a terminal's Ctrl-C away from the worker: the
		// daemon decides when it ends. If the daemon dies the worker is asked
		// with SIGTERM, not killed, so that it can finish a login first.
		Setpgid:   true,
		Pdeathsig: syscall.SIGTERM,
	}
	p := &process{conn: ours, cmd: cmd, loggedIn: make(map[TokenRef]bool), done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		ours.Close()
		return nil, newError(ErrStart, "cannot start the PKCS#11 worker %s: %v; build it with \"make build\" or correct its path", binary, err)
	}
	return p, nil
}

// run owns the thread that forks. It stays until the child has ended, because
// the kernel takes the end of that thread for the end of the parent, and is
// never unlocked, because it carries no_new_privs, which the child inherits.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		started <- fmt.Errorf("set no_new_privs: %w", err)
		return
	}
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.waitErr = p.cmd.Wait()
	close(p.done)
}

// call sends req and waits for its answer until timeout has passed. An answer
// that is an error is returned as that *Error; anything that makes the worker
// unusable as ErrDeadline, ErrLost or ErrProtocol.
func (p *process) call(req *Request, timeout time.Duration) (*Response, error) {
	p.nextID++
	req.ID = p.nextID
	if err := p.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, p.failure(req.Op, timeout, err)
	}
	if err := WriteRequest(p.conn, req); err != nil {
		return nil, p.failure(req.Op, timeout, err)
	}
	resp, err := ReadResponse(p.conn)
	if err != nil {
		return nil, p.failure(req.Op, timeout, err)
	}
	if resp.ID != req.ID {
		return nil, newError(ErrProtocol, "PKCS#11 worker answered request %d instead of %d", resp.ID, req.ID)
	}
	if resp.Err != nil {
		return nil, resp.Err
	}
	return resp, nil
}

func (p *process) failure(op Op, timeout time.Duration, err error) *Error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newError(ErrDeadline, "the PKCS#11 module did not finish %q within %s: it hangs or its device is out of reach", op, timeout)
	}
	return newError(ErrLost, "the PKCS#11 worker was lost during %q: %v", op, err)
}

// usable reports whether the worker can be asked something: it runs, and its
// socket is silent. Closed means that it died while idle; data that nobody
// asked for means that the two sides no longer agree. The socket is looked at
// because it shows the death before the process has been waited for.
func (p *process) usable() bool {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		silent = n == 0 && err == nil || errors.Is(err, unix.EINTR)
	})
	return err == nil && silent
}

// killWait bounds the wait for a killed child. A process stuck in the kernel
// cannot be killed; it is left behind rather than taking the daemon with it.
const killWait = 5 * time.Second

// kill ends the child at once. Never called during a critical operation that
// is still within its deadline.
func (p *process) kill() string {
	_ = p.cmd.Process.Kill() // fails only when it has already ended
	return p.await(killWait)
}

// stop lets the child end by itself, then kills it.
func (p *process) stop(grace time.Duration) {
	p.conn.Close()
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
	}
}

// await closes our end, waits for the child and says how it ended.
func (p *process) await(limit time.Duration) string {
	p.conn.Close()
	select {
	case <-p.done:
	case <-time.After(limit):
		return "still there after SIGKILL"
	}
	if p.waitErr != nil {
		return p.waitErr.Error()
	}
	return "exit status 0"
}

// lineLogger passes the worker's standard error to the log, line by line.
// A module may print without end, so a line is cut at maxLine bytes.
type lineLogger struct {
	log *slog.Logger
	buf []byte
}

const maxLine = 1024

func (l *lineLogger) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		line, rest, found := bytes.Cut(b, []byte{'\n'})
		if room := maxLine - len(l.buf); room > 0 {
			l.buf = append(l.buf, line[:min(room, len(line))]...)
		}
		b = rest
		if found {
			l.log.Log(context.Background(), slog.LevelInfo, "pkcs11 worker", "says", string(l.buf))
			l.buf = l.buf[:0]
		}
	}
	return n, nil
}
