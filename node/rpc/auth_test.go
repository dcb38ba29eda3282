package rpc_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node"
)

const count = `{"method":"getblockcount"}`

func TestCookie(t *testing.T) {
	r := start(t, func(c *node.Config) {
		// A stale cookie that everybody may read.
		if err := os.WriteFile(c.Dir+"/"+node.CookieFile, []byte("__cookie__:stale"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	info, err := os.Stat(r.cookieFile)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("cookie's mode %v (err %v), want 0600", info.Mode(), err)
	}
	user, secret, _ := strings.Cut(r.cookie, ":")
	if user != "__cookie__" || len(secret) != 64 {
		t.Errorf("cookie %q", r.cookie)
	}
	if list, err := os.ReadDir(strings.TrimSuffix(r.cookieFile, node.CookieFile)); err != nil || strings.Contains(fmt.Sprint(list), ".new") {
		t.Errorf("directory holds %v (%v)", list, err)
	}
	for _, c := range []struct {
		name, cookie string
		status       int
	}{
		{"right", r.cookie, 200},
		{"none", "", 401},
		{"wrong password", "__cookie__:" + strings.Repeat("0", 64), 401},
		{"wrong user", "admin:" + secret, 401},
		{"stale", "__cookie__:stale", 401},
		{"empty password", "__cookie__:", 401},
		{"longer", r.cookie + "0", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := *r
			other.cookie = c.cookie
			status, body := other.send(http.MethodPost, count, nil)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if c.status == 401 && (!strings.Contains(body, r.cookieFile) || strings.Contains(body, secret)) {
				t.Errorf("body %q", body)
			}
		})
	}
	t.Run("another scheme", func(t *testing.T) {
		if status, _ := r.send(http.MethodPost, count, http.Header{"Authorization": {"Bearer " + secret}}); status != 401 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("host is of no account", func(t *testing.T) {
		for cookie, want := range map[string]string{r.cookie: "200", "x:y": "401"} {
			if got := raw(t, r, "POST", "evil.example", cookie, count, len(count)); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
				t.Errorf("cookie %q: %q", cookie, got)
			}
		}
	})
}

func TestOtherMethods(t *testing.T) {
	r := start(t)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodOptions, http.MethodDelete} {
		if status, body := r.send(method, "", nil); status != 405 || !strings.Contains(body, "POST") {
			t.Errorf("%s: %d %q", method, status, body)
		}
	}
}

// raw sends a request by hand and returns the answer up to the end of the
// connection. When announced is more than the body has, the rest never comes.
func raw(t *testing.T, r *rig, method, host, cookie, body string, announced int) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	user, password, _ := strings.Cut(cookie, ":")
	req, _ := http.NewRequest(method, r.url, nil)
	req.SetBasicAuth(user, password)
	fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		method, host, req.Header.Get("Authorization"), announced, body)
	if announced > len(body) {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(bufio.NewReader(c))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return string(b)
}

func TestBodyLimits(t *testing.T) {
	r := start(t)
	limit := 2*int(r.net.MaxBlockBytes) + 64<<10
	pad := func(n int) string { return count + strings.Repeat(" ", n-len(count)) }
	t.Run("largest", func(t *testing.T) {
		if status, _ := r.send(http.MethodPost, pad(limit), nil); status != 200 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("one more", func(t *testing.T) {
		if status, body := r.send(http.MethodPost, pad(limit+1), nil); status != 413 || !strings.Contains(body, fmt.Sprint(limit)) {
			t.Errorf("status %d, %q", status, body)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		got := raw(t, r, "POST", "localhost", r.cookie, count, len(count)+100)
		if !strings.HasPrefix(got, "HTTP/1.1 400") || !strings.Contains(got, "cut off") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("large body without cookie is not read", func(t *testing.T) {
		// The announced gigabyte never comes, yet there is an answer.
		if got := raw(t, r, "POST", "localhost", "a:b", count, 1<<30); !strings.HasPrefix(got, "HTTP/1.1 401") {
			t.Errorf("got %q", got)
		}
	})
}
