package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPIN is the longest PIN in bytes; PKCS#11 tokens announce at most 255.
const maxPIN = 255

// PINSource says where a token's PIN comes from. Its text, as it stands in the
// configuration, is one of
//
//	credential:NAME  a credential of the service (systemd LoadCredentialEncrypted=)
//	fd:N             a file descriptor the signer was started with; read once
//	file:PATH        a regular file of ours with mode 0400 or 0600
//	keyring:NAME     a key of type "user" in the kernel's session or user keyring
//	terminal         a person types it where the signer was started
//	device           a person enters it at the token itself
//
// There is no form for a PIN itself, nor for an environment variable: both can be
// read by others and end up in logs and backups.
type PINSource struct {
	kind sourceKind
	name string
}

type sourceKind string

const (
	fromCredential sourceKind = "credential"
	fromFD         sourceKind = "fd"
	fromFile       sourceKind = "file"
	fromKeyring    sourceKind = "keyring"
	fromTerminal   sourceKind = "terminal"
	fromDevice     sourceKind = "device"
)

// pinForms is for messages.
const pinForms = "credential:NAME, fd:N, file:PATH, keyring:NAME, terminal or device"

// ParsePINSource reads the text form. Its errors never repeat what was given,
// which may be a PIN.
func ParsePINSource(s string) (PINSource, error) {
	kind, name, named := strings.Cut(s, ":")
	src := PINSource{sourceKind(kind), name}
	switch src.kind {
	case fromTerminal, fromDevice:
		if named {
			return PINSource{}, fmt.Errorf("%s takes no name", kind)
		}
		return src, nil
	case fromCredential, fromKeyring, fromFile, fromFD:
	case "env", "environment":
		return PINSource{}, errors.New("a PIN is never read from the environment, which other programs can see: use " + pinForms)
	case "":
		return PINSource{}, errors.New("the source of the PIN is missing: use " + pinForms)
	default:
		return PINSource{}, errors.New("this is no source of a PIN; should it be the PIN itself, change that PIN, as it must not be in a configuration or on a command line: use " + pinForms)
	}
	switch {
	case name == "":
		return PINSource{}, fmt.Errorf("%s: what to read is missing", kind)
	case src.kind == fromCredential && (strings.Contains(name, "/") || name == "." || name == ".."):
		return PINSource{}, errors.New("credential: want the name of a credential, without a directory")
	case src.kind == fromFD:
		if n, err := strconv.Atoi(name); err != nil || n < 3 || strconv.Itoa(n) != name {
			return PINSource{}, errors.New("fd: want the number of a descriptor, 3 or higher")
		}
	}
	return src, nil
}

// FilePIN is the source that reads a file.
func FilePIN(path string) PINSource { return PINSource{fromFile, path} }

// Resolve returns the source with a relative path of a file made absolute by
// resolve, for configurations whose paths are relative to something.
func (p PINSource) Resolve(resolve func(string) string) PINSource {
	if p.kind == fromFile {
		p.name = resolve(p.name)
	}
	return p
}

// String returns the text form.
func (p PINSource) String() string {
	if p.name == "" {
		return string(p.kind)
	}
	return string(p.kind) + ":" + p.name
}

// once reports whether reading the source takes the PIN away from it.
func (p PINSource) once() bool { return p.kind == fromFD || p.kind == fromTerminal }

// pinValue is a PIN as it was read.
type pinValue struct {
	source PINSource
	// id tells whether a file was written or touched since; nil for sources that
	// have nothing of the kind. See pinLedger for what takes its place.
	id  *pinFileID
	pin []byte // to be cleared by whoever read it
}

// pinFileID tells a PIN file from one that was written or touched since,
// without telling anything of the PIN. The folder is not part of it: set-up
// programs make a data directory under another name, and owners move it.
type pinFileID struct {
	Name  string `json:"name"`  // without its folder
	Size  int64  `json:"size"`  // bytes
	MTime int64  `json:"mtime"` // nanoseconds since 1970
	Inode uint64 `json:"inode"`
}

func identify(info fs.FileInfo, path string) *pinFileID {
	return &pinFileID{
		Name: filepath.Base(path), Size: info.Size(), MTime: info.ModTime().UnixNano(),
		Inode: info.Sys().(*syscall.Stat_t).Ino,
	}
}

// read reads the PIN, which the caller clears. token is named to a person who is
// asked for it. It is not for fromDevice, which hands nothing over, nor for
// fromFD, see adopt.
func (p PINSource) read(ctx context.Context, token string) (pinValue, error) {
	switch p.kind {
	case fromFile:
		return readPINFile(p)
	case fromCredential:
		return readCredential(p)
	case fromKeyring:
		return readKeyring(p)
	case fromTerminal:
		pin, err := askTerminal(ctx, "PIN of token "+token, false)
		return pinValue{source: p, pin: pin}, err
	}
	return pinValue{}, fmt.Errorf("no PIN can be read from %q", p.kind)
}

func readPINFile(p PINSource) (pinValue, error) {
	f, info, err := openPIN(p.name, "PIN file "+p.name)
	if err != nil {
		return pinValue{}, err
	}
	defer f.Close()
	if err := checkPINFile(info, p.name); err != nil {
		return pinValue{}, err
	}
	pin, err := readPINLine(f, "PIN file "+p.name)
	if err != nil {
		return pinValue{}, err
	}
	return pinValue{p, identify(info, p.name), pin}, nil
}

func openPIN(path, what string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, nil, fmt.Errorf("%s is a symbolic link: name the file itself", what)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening the %s: %w", what, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: write the PIN into a file of its own", what)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func checkPINFile(info fs.FileInfo, path string) error {
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != uint32(os.Geteuid()) {
		return fmt.Errorf("PIN file %s belongs to user %d: type  chown %d %s", path, uid, os.Geteuid(), path)
	}
	if mode := info.Mode().Perm(); mode != 0o400 && mode != 0o600 {
		return fmt.Errorf("PIN file %s has mode %04o, others might read it: type  chmod 400 %s", path, mode, path)
	}
	return nil
}

// readCredential reads what systemd decrypted for this service alone. The file
// is made anew at each start, so that its times say nothing about the PIN.
func readCredential(p PINSource) (pinValue, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return pinValue{}, fmt.Errorf("credential %s: this service was given none: add  LoadCredentialEncrypted=%s  to its unit, or start it with systemd", p.name, p.name)
	}
	what := "credential " + p.name
	f, info, err := openPIN(filepath.Join(dir, p.name), what)
	if err != nil {
		return pinValue{}, err
	}
	defer f.Close()
	if err := checkCredential(info, os.Geteuid(), what); err != nil {
		return pinValue{}, err
	}
	pin, err := readPINLine(f, what)
	return pinValue{source: p, pin: pin}, err
}

// checkCredential takes what systemd makes: a file of ours, or, on file systems
// with access lists, one of root's whose list shows as the group's right to read
// (systemd.exec(5), LoadCredential=).
func checkCredential(info fs.FileInfo, euid int, what string) error {
	uid, mode := info.Sys().(*syscall.Stat_t).Uid, info.Mode().Perm()
	ours := uid == uint32(euid) && (mode == 0o400 || mode == 0o600)
	if handed := uid == 0 && mode == 0o440; !ours && !handed {
		return fmt.Errorf("%s belongs to user %d with mode %04o, others might read it: let systemd make it", what, uid, mode)
	}
	return nil
}

// adopt takes over the descriptor this process was started with, for readDescriptor.
// It must come before a child is started. A descriptor of our own, which a wrong
// number may name, is closed on exec, and one that we got has not been: reading
// the journal as a PIN, and closing it, would be two disasters.
func (p PINSource) adopt() (*os.File, error) {
	n, err := strconv.Atoi(p.name)
	if err != nil {
		return nil, fmt.Errorf("file descriptor of a PIN: %w", err)
	}
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return nil, fmt.Errorf("file descriptor %d is none that this process was started with", n)
	}
	unix.CloseOnExec(n)
	return os.NewFile(uintptr(n), "file descriptor "+p.name), nil
}

// readDescriptor reads to the end, and closes it: it works once.
func readDescriptor(p PINSource, f *os.File) (pinValue, error) {
	defer f.Close()
	pin, err := readPINLine(f, f.Name())
	return pinValue{source: p, pin: pin}, err
}

// readKeyring looks where a session's and then where a user's keys are.
func readKeyring(p PINSource) (pinValue, error) {
	var id int
	var err error
	for _, ring := range []int{unix.KEY_SPEC_PROCESS_KEYRING, unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING} {
		if id, err = unix.KeyctlSearch(ring, "user", p.name, 0); err == nil {
			break
		}
	}
	if err != nil {
		return pinValue{}, fmt.Errorf("keyring: no key %q of type user can be found (%w): type  keyctl padd user %s @u", p.name, err, p.name)
	}
	buf := make([]byte, maxPIN+2)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
	if err != nil {
		clear(buf)
		return pinValue{}, fmt.Errorf("keyring: reading key %q: %w", p.name, err)
	}
	pin, err := onePIN(buf, min(n, len(buf)), "key "+p.name)
	return pinValue{source: p, pin: pin}, err
}

// readPINLine reads a PIN and nothing else.
func readPINLine(r io.Reader, what string) ([]byte, error) {
	buf := make([]byte, maxPIN+2)
	n, err := io.ReadFull(r, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(buf)
		return nil, fmt.Errorf("reading the %s: %w", what, err)
	}
	return onePIN(buf, n, what)
}

// onePIN returns the one line in the first n bytes of buf, or clears it.
func onePIN(buf []byte, n int, what string) ([]byte, error) {
	pin := bytes.TrimSuffix(buf[:n], []byte("\n"))
	if len(pin) == 0 || len(pin) > maxPIN || bytes.ContainsAny(pin, "\r\n\x00") {
		clear(buf)
		return nil, fmt.Errorf("%s must hold one line of 1 to %d characters, the PIN, and nothing else", what, maxPIN)
	}
	return pin, nil
}
