package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one generation of the worker.
type process struct {
	conn   *os.File
	cmd    *exec.Cmd
	module ModuleInfo
	// loggedIn holds the tokens this generation has logged in to, checked the keys
	// it was seen to hold. Both change only while nothing else runs.
	loggedIn map[TokenRef]bool
	checked  map[KeyRef]bool
	// retired: it was ended on purpose, and no failure is to be booked.
	retired atomic.Bool
	// quiet: what it says is not logged.
	quiet atomic.Bool

	writing sync.Mutex // one frame at a time
	mu      sync.Mutex // guards what follows
	nextID  uint64
	pending map[uint64]chan<- answer
	fault   *Error // why nothing more can be asked, nil while it can

	done    chan struct{} // closed when the process has been waited for
	waitErr error         // valid once done is closed
}

// answer is what a call waits for.
type answer struct {
	resp *Response
	err  *Error
}

// startProcess starts the binary with one end of a fresh socket pair.
func startProcess(binary string, env []string, box *Sandbox, quiet bool, log *slog.Logger) (*process, error) {
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
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A group of its own keeps a terminal's Ctrl-C away from the worker: the
		// daemon decides when it ends. If the daemon dies the worker is asked
		// with SIGTERM, not killed, so that it can finish a login first.
		Setpgid:   true,
		Pdeathsig: syscall.SIGTERM,
	}
	p := &process{
		conn: ours, cmd: cmd, done: make(chan struct{}),
		loggedIn: make(map[TokenRef]bool), checked: make(map[KeyRef]bool), pending: make(map[uint64]chan<- answer),
	}
	p.quiet.Store(quiet)
	cmd.Stderr = &lineLogger{log: log, quiet: &p.quiet}
	started := make(chan error, 1)
	go p.run(box, log, started)
	if err := <-started; err != nil {
		ours.Close()
		return nil, newError(ErrStart, "cannot start the PKCS#11 worker %s: %v; build it with \"make build\" or correct its path", binary, err)
	}
	go p.read()
	return p, nil
}

// run owns the thread that forks. It stays until the child has ended, because
// the kernel takes the end of that thread for the end of the parent, and is
// never unlocked, because it carries no_new_privs and the sandbox, which the
// child inherits.
func (p *process) run(box *Sandbox, log *slog.Logger, started chan<- error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		started <- fmt.Errorf("set no_new_privs: %w", err)
		return
	}
	// What the daemon holds open, also what it was started with, is not for the
	// child: only the descriptors that are handed over on purpose survive exec.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		logLacking(log, "descriptors the signer was started with may stay open in it (Linux 5.11 closes them)", err)
	}
	if err := box.restrictThread(log); err != nil {
		started <- err
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
// unusable as ErrDeadline, ErrLost or ErrProtocol. After ErrDeadline the caller
// must end the worker: its answer may still come, and nobody waits for it.
func (p *process) call(req *Request, timeout time.Duration) (*Response, error) {
	arrived := make(chan answer, 1)
	id, fault := p.enrol(arrived)
	if fault != nil {
		return nil, fault
	}
	defer p.forget(id)
	req.ID = id
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	if err := p.send(req, timeout); err != nil {
		return nil, p.failure(req.Op, timeout, err)
	}
	select {
	case a := <-arrived:
		if a.err != nil {
			return nil, newError(a.err.Kind, "during %q: %s", req.Op, a.err.Message)
		}
		if a.resp.Err != nil {
			return nil, a.resp.Err
		}
		return a.resp, nil
	case <-timer.C:
		return nil, p.failure(req.Op, timeout, os.ErrDeadlineExceeded)
	}
}

func (p *process) enrol(arrived chan<- answer) (uint64, *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		return 0, p.fault
	}
	p.nextID++
	p.pending[p.nextID] = arrived
	return p.nextID, nil
}

func (p *process) forget(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, id)
}

func (p *process) send(req *Request, timeout time.Duration) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	if err := p.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	return WriteRequest(p.conn, req)
}

// read hands every answer to the call that waits for it, until the worker is
// lost or answers what nobody asked. Then all calls under way fail.
func (p *process) read() {
	for {
		resp, err := ReadResponse(p.conn)
		if err != nil {
			p.fail(newError(ErrLost, "the PKCS#11 worker was lost: %v", err))
			return
		}
		if !p.deliver(resp) {
			p.fail(newError(ErrProtocol, "the PKCS#11 worker answered request %d, which is not under way", resp.ID))
			return
		}
	}
}

func (p *process) deliver(resp *Response) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	arrived, ok := p.pending[resp.ID]
	if ok {
		delete(p.pending, resp.ID)
		arrived <- answer{resp: resp}
	}
	return ok
}

func (p *process) fail(fault *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
	for _, arrived := range p.pending {
		arrived <- answer{err: fault}
	}
	clear(p.pending)
}

func (p *process) failure(op Op, timeout time.Duration, err error) *Error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newError(ErrDeadline, "the PKCS#11 module did not finish %q within %s: it hangs or its device is out of reach", op, timeout)
	}
	return newError(ErrLost, "the PKCS#11 worker was lost during %q: %v", op, err)
}

// usable reports whether the worker can be asked something. The socket is
// looked at because it shows a death before the process has been waited for,
// and before read has come to it.
func (p *process) usable() bool {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault != nil {
		return false
	}
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		alive = n == 0 && err == nil || errors.Is(err, unix.EINTR)
	})
	return err == nil && alive
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
	log   *slog.Logger
	quiet *atomic.Bool
	buf   []byte
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
			if !l.quiet.Load() {
				l.log.Log(context.Background(), slog.LevelInfo, "pkcs11 worker", "says", string(l.buf))
			}
			l.buf = l.buf[:0]
		}
	}
	return n, nil
}
