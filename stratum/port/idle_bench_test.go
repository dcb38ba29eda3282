package port

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"qcitycoin.org/qcity/stratum"
)

const idleConns = 1000

// BenchmarkIdle measures what one idle connection keeps in memory besides its
// socket: on the heap, and on the stack of the goroutine that reads it, which a
// session has anyway. It is measured after a line went each way.
func BenchmarkIdle(b *testing.B) {
	secure := testCertificate(b).TLS()
	withTLS := func(version uint16) func(net.Conn) net.Conn {
		return func(c net.Conn) net.Conn {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		}
	}
	plain := func(c net.Conn) net.Conn { return c }
	for _, bench := range []struct {
		name string
		wrap func(net.Conn) net.Conn
		say  string
	}{
		{"Plain", plain, ""},
		{"TLS1.2", withTLS(tls.VersionTLS12), ""},
		{"TLS1.3", withTLS(tls.VersionTLS13), ""},
		{"WebSocket", plain, upgrade("")},
		{"TLSWebSocket", withTLS(tls.VersionTLS13), upgrade("")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				benchmarkIdle(b, Config{TLS: secure}, bench.wrap, bench.say)
			}
		})
	}
}

// used is what lives on heap and stacks.
func used() (heap, stack float64) {
	var m runtime.MemStats
	for range 3 { // stacks shrink by half at each collection, pools empty at the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(m.StackInuse)
}

func benchmarkIdle(b *testing.B, cfg Config, wrap func(net.Conn) net.Conn, say string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	clients, sockets := make([]net.Conn, idleConns), make([]net.Conn, idleConns)
	for i := range idleConns {
		if clients[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			b.Fatal(err)
		}
		if sockets[i], err = ln.Accept(); err != nil {
			b.Fatal(err)
		}
	}
	var ended sync.WaitGroup
	defer func() {
		for i := range idleConns {
			_, _ = clients[i].Close(), sockets[i].Close()
		}
		ended.Wait()
	}()
	heap, stack := used()
	for i, socket := range sockets {
		ended.Go(func() {
			o, err := Open(socket, cfg)
			if err != nil {
				b.Error(err)
				return
			}
			in := stratum.NewLineReader(o.Conn, 0)
			in.Push(o.First)
			o.First = nil
			for {
				line, err := in.ReadLine()
				if err != nil {
					return
				}
				answer := append(line, '\n') // where it was
				_, _ = o.Conn.Write(answer)
			}
		})
		// The client's side is gone before anything is measured, but for its socket.
		conn := wrap(clients[i])
		if say != "" {
			_, _ = io.WriteString(conn, say)
			_, _ = io.ReadFull(conn, make([]byte, len(accepted)))
			_, _ = io.WriteString(conn, frame(b, 1, true, `{"id":1,"method":"mining.ping"}`+"\n"))
		} else {
			_, _ = io.WriteString(conn, `{"id":1,"method":"mining.ping"}`+"\n")
		}
		if _, err := conn.Read(make([]byte, 512)); err != nil {
			b.Fatal(err)
		}
	}
	heap1, stack1 := used()
	b.ReportMetric((heap1-heap)/idleConns, "heap-B/conn")
	b.ReportMetric((stack1-stack)/idleConns, "stack-B/conn")
	b.ReportMetric((heap1-heap+stack1-stack)/idleConns, "B/conn")
	runtime.KeepAlive(clients)
}
