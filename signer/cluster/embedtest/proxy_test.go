package embedtest

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// proxy stands between a client and a member, and can lose answers after the
// member has acted.
type proxy struct {
	conn *grpc.ClientConn
	// lose says of an answered transaction how its answer is lost.
	lose func() loss
	lost atomic.Int64
}

type loss int

const (
	deliver loss = iota
	breakOff
	swallow // the client waits until its own deadline
)

// raw passes messages through as bytes.
type raw struct{}

func (raw) Name() string { return "raw" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// startProxy returns the proxy and its URL.
func startProxy(t testing.TB, member string, lose func() loss) (*proxy, string) {
	conn, err := grpc.NewClient(strings.TrimPrefix(member, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{conn: conn, lose: lose}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(p.pass))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		_ = conn.Close()
	})
	return p, "http://" + l.Addr().String()
}

func (p *proxy) pass(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	md, _ := metadata.FromIncomingContext(in.Context())
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(in.Context(), md))
	defer cancel()
	out, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m []byte
			if err := in.RecvMsg(&m); err != nil {
				if errors.Is(err, io.EOF) {
					_ = out.CloseSend()
				} else {
					cancel()
				}
				return
			}
			if out.SendMsg(&m) != nil {
				return
			}
		}
	}()
	for {
		var m []byte
		if err := out.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if method == "/etcdserverpb.KV/Txn" {
			switch p.lose() {
			case breakOff:
				p.lost.Add(1)
				return status.Error(codes.Unavailable, "the connection broke")
			case swallow:
				p.lost.Add(1)
				<-in.Context().Done()
				return in.Context().Err()
			}
		}
		if err := in.SendMsg(&m); err != nil {
			return err
		}
	}
}

// TestAmbiguous: answers are lost after the claim was made, in both ways. Asking
// again for the same finds it, and a rival never gets through.
func TestAmbiguous(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 1), clustertest.NewKey()
	var mu sync.Mutex
	var n int
	p, address := startProxy(t, e.clients[0], func() loss {
		mu.Lock()
		defer mu.Unlock()
		n++
		// Each claim's answer is lost at least once, now and then several times.
		return []loss{breakOff, deliver, swallow, breakOff, deliver, breakOff, breakOff, deliver}[n%8]
	})
	var boxes []*cluster.Claims
	for _, name := range []string{"a", "b"} {
		c := e.box(k, name)
		c.Endpoints = []string{address}
		c.Timeouts.Attempt = 100 * time.Millisecond
		join(t, c, 0)
		boxes = append(boxes, open(t, c))
	}
	direct := e.box(k, "direct")
	join(t, direct, 0)
	witness := open(t, direct)
	for h := uint32(10); h <= 150; h += 10 {
		won := contest(t, boxes, k, h)
		sig, err := clustertest.Seal(t.Context(), boxes[h/10%2], k, won)
		if err != nil {
			t.Fatal(err)
		}
		if seal := claim(t, witness, won); seal == nil || *seal != sig {
			t.Fatalf("height %d: released %x, etcd has %x", h, sig, seal)
		}
	}
	if p.lost.Load() < 15 {
		t.Errorf("only %d answers were lost", p.lost.Load())
	}
}

// TestAnswerNeverComes: a claim is made and no answer comes through at all. The
// box says so, and a rival payload is refused afterwards, by itself and elsewhere.
func TestAnswerNeverComes(t *testing.T) {
	t.Parallel()
	e, k := startEtcd(t, 1), clustertest.NewKey()
	var deaf atomic.Bool
	_, address := startProxy(t, e.clients[0], func() loss {
		if deaf.Load() {
			return swallow
		}
		return deliver
	})
	c := e.box(k, "box")
	c.Endpoints = []string{address}
	join(t, c, 0)
	b := open(t, c)
	claim(t, b, k.Block(10, 0))
	deaf.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := b.Claim(ctx, k.Block(20, 0)); !errors.Is(err, cluster.ErrUnavailable) || cluster.IsTerminal(err) {
		t.Fatalf("without an answer: %v", err)
	}
	deaf.Store(false)
	other := e.box(k, "other")
	join(t, other, 0)
	for _, rival := range []*cluster.Claims{b, open(t, other)} {
		var conflict *cluster.Conflict
		if _, err := rival.Claim(t.Context(), k.Block(20, 1)); !errors.As(err, &conflict) || conflict.Winner != k.Block(20, 0).Digest {
			t.Fatalf("a rival of the claim without an answer: %v", err)
		}
		claim(t, rival, k.Block(20, 0))
	}
}
