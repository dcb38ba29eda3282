package port

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen serves an echo: each line comes back behind the kind of the
// connection; "bye" ends it.
func listen(t *testing.T, cfg Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			socket, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = socket.SetDeadline(time.Now().Add(30 * time.Second))
				o, err := Open(socket, cfg)
				defer HangUp(o.Conn, time.Second)
				for in := bufio.NewScanner(whole(o)); err == nil && in.Scan() && in.Text() != "bye"; {
					_, _ = fmt.Fprintf(o.Conn, "%v %s\n", o.Kind, in.Text())
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// program runs a foreign program and returns what it printed. It is installed
// by scripts/deps.
func program(t *testing.T, input string, args ...string) (out string, err error) {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("%v: run scripts/deps test", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// TestOpenSSL: what most miners' TLS is, or is like; it verifies the
// certificate that this box made for itself, once it is given it.
func TestOpenSSL(t *testing.T) {
	file, err := SelfSigned(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificate(file, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	content, _ := os.ReadFile(file)
	cert, _ := parts(t, content)
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	address := listen(t, Config{TLS: c.TLS()})
	client := []string{"openssl", "s_client", "-connect", address, "-quiet", "-CAfile", ca, "-verify_return_error", "-verify_hostname", "localhost"}
	for _, args := range [][]string{
		{"-tls1_2"},
		{"-tls1_3"},
		{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"},                // of 2006
		{"-tls1_2", "-curves", "P-256", "-no_ticket"},                   // as mbedTLS on small devices
		{"-tls1_2", "-max_send_frag", "512", "-split_send_frag", "512"}, // cut in small records
	} {
		out, err := program(t, `{"id":1}`+"\nbye\n", append(client, args...)...)
		if err != nil || !strings.Contains(out, `tls {"id":1}`) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := program(t, "", append(client, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")...); err == nil {
		t.Errorf("TLS 1.1 was served:\n%s", out)
	}
	out, err := program(t, "", "openssl", "x509", "-in", file, "-noout", "-fingerprint", "-sha256")
	if err != nil || !strings.Contains(out, c.Fingerprint()) {
		t.Errorf("we say %s, openssl says %s", c.Fingerprint(), out)
	}
}

func TestCurl(t *testing.T) {
	address := listen(t, Config{TLS: testCertificate(t).TLS()})
	for want, args := range map[string][]string{
		"200 stratum+tcp": {"http://" + address + "/"},
		"200 stratum+ssl": {"https://" + address + "/"},
		"405 stratum+tcp": {"http://" + address + "/", "-d", `{"id":1,"method":"mining.subscribe"}`},
		"426 stratum+tcp": {"http://" + address + "/", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"},
		"200 ":            {"-I", "http://" + address + "/"},
	} {
		code, text, _ := strings.Cut(want, " ")
		out, err := program(t, "", append([]string{"curl", "-sk", "--max-time", "30", "--noproxy", "*", "-w", "\nstatus %{http_code}\n"}, args...)...)
		if err != nil || !strings.Contains(out, "status "+code) || !strings.Contains(out, text) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestForeignWebSocket: clients that nobody of ours and not the library's
// authors wrote: that of Node.js, which is a browser's, and Python's websockets.
func TestForeignWebSocket(t *testing.T) {
	address := listen(t, Config{TLS: testCertificate(t).TLS()})
	tried := 0
	if _, err := program(t, "", "node", "--experimental-websocket", "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"); err == nil {
		tried++
		for scheme, kind := range map[string]string{"ws": "websocket", "wss": "tls+websocket"} {
			script := fmt.Sprintf(`
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
const ws = new WebSocket('%s://%s/')
ws.onopen = () => { ws.send('{"id":1}'); ws.send('two\n{"name":"é"}\n') }
ws.onmessage = e => { process.stdout.write('got ' + e.data); if (e.data.includes('name')) ws.send('bye') }
ws.onerror = e => { console.log('error', e.message); process.exit(1) }
ws.onclose = e => console.log('closed', e.code, e.wasClean)`, scheme, address)
			out, err := program(t, "", "node", "--no-warnings", "--experimental-websocket", "-e", script)
			want := fmt.Sprintf("got %[1]s {\"id\":1}\ngot %[1]s two\ngot %[1]s {\"name\":\"é\"}\nclosed 1000 true\n", kind)
			if err != nil || out != want {
				t.Errorf("node, %s: %v\n%s", scheme, err, out)
			}
		}
	}
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if _, err := exec.LookPath(python); err != nil {
			continue
		}
		if _, err := program(t, "", python, "-c", "import websockets"); err != nil {
			continue
		}
		tried++
		out, err := program(t, "", python, "-c", fmt.Sprintf(`
import asyncio, websockets
async def main():
    async with websockets.connect('ws://%s/', compression='deflate', origin='http://elsewhere.example') as ws:
        await ws.send('one')
        print(await ws.recv(), end='')
        await ws.send([b'{"a', b'b"}'])
        print(await ws.recv(), end='')
        await asyncio.wait_for(await ws.ping(), 30)
        await ws.send('bye')
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            print('closed', e.code)
asyncio.run(main())`, address))
		if want := "websocket one\nwebsocket {\"ab\"}\nclosed 1000\n"; err != nil || out != want {
			t.Errorf("%s: %v\n%s", python, err, out)
		}
		break
	}
	if tried == 0 {
		t.Error("neither Node.js with a WebSocket client (20.10 or newer) nor Python with websockets: run scripts/deps test")
	}
}

// TestLastWords: over real TCP, a client that still has things to say when it
// is turned away reads the answer, not a reset.
func TestLastWords(t *testing.T) {
	conn, err := net.Dial("tcp", listen(t, Config{}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000))
	if text, err := io.ReadAll(conn); err != nil || !strings.Contains(string(text), "405 Method Not Allowed") {
		t.Errorf("%q, %v", text, err)
	}
}
