package signer

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestPeers(t *testing.T) {
	b := newBench(t)
	own := uint32(os.Geteuid())
	for _, c := range []struct {
		name string
		uid  uint32
		uids []uint32
		err  error
		want error
	}{
		{"ourselves", own, nil, nil, nil},
		{"root", 0, nil, nil, nil},
		{"a stranger", own + 5, nil, nil, ErrPeer},
		{"a listed user", own + 5, []uint32{own + 4, own + 5}, nil, nil},
		{"another stranger", own + 6, []uint32{own + 5}, nil, ErrPeer},
		{"nobody knows", own, nil, errors.New("no credentials"), ErrPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := b.daemon(t, func(sc *ServerConfig, s *Server) {
				sc.UIDs = c.uids
				s.peer = func(*net.UnixConn) (uint32, error) { return c.uid, c.err }
			})
			_, err := newTestClient(t, d, b.network.ID).Status(patience(t))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestPeerCredentials asks the kernel about a connection of our own.
func TestPeerCredentials(t *testing.T) {
	l, err := listen(socketPath(t), false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if uid, err := peerUID(other); err != nil || uid != uint32(os.Geteuid()) {
		t.Fatalf("uid %d, %v", uid, err)
	}
}

func TestListen(t *testing.T) {
	socket := socketPath(t)
	l, err := listen(socket, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(socket, false); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Fatalf("beside a live signer: %v", err)
	}
	// Die without cleaning up.
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = listen(socket, false); err != nil {
		t.Fatalf("after a dead signer: %v", err)
	}
	l.Close()

	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(socket, false); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Fatalf("over a file: %v", err)
	}
	if _, err := listen("/"+strings.Repeat("x", 200), false); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Fatalf("long path: %v", err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(open+"/s", false); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Fatalf("open directory: %v", err)
	}
	l, err = listen(open+"/s", true)
	if err != nil {
		t.Fatalf("open directory with other users: %v", err)
	}
	l.Close()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(open+"/s", true); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Fatalf("writable directory: %v", err)
	}
}

// TestForeignUser connects as another user, which only root can arrange.
func TestForeignUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user; TestPeers covers the decision")
	}
	b := newBench(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = d[:strings.LastIndex(d, "/")] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := NewServer(ServerConfig{Socket: dir + "/s", Network: b.network.ID, UIDs: []uint32{12345}, Backend: b.service, Log: quiet()})
	b.runServer(t, s)
	for uid, want := range map[uint32]string{12345: "greeted", 12346: string(ErrPeer)} {
		exe := dir + "/dial"
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(exe, self, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe)
		cmd.Env = []string{dialEnv + "=" + dir + "/s", dialNetEnv + "=" + b.network.ID.String()}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Fatalf("user %d: %q, %v; want %q", uid, out, err, want)
		}
	}
}
