package rpc

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// pipes is a listener whose connections are in memory, so that it works under
// the clock of a bubble.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial connects; it waits until the connection is accepted.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

const poll = `{"id":1,"method":"getblocktemplate","params":[{"longpollid":"old"}]}`

// waiting is a template source that has nothing new until it is opened.
func waiting(open <-chan struct{}, t *Template) func(context.Context, string) (*Template, error) {
	return func(ctx context.Context, _ string) (*Template, error) {
		select {
		case <-open:
			return t, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func genesisTemplate(f *faked) *Template {
	return &Template{Parent: f.chain.Tip(), CoinbaseValue: 1, Time: 2, LongPollID: "new"}
}

// TestConnectionLimit: no more connections than allowed are open; the next is
// served once one ends.
func TestConnectionLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		l := limitListener(p, 2)
		accepted := make(chan net.Conn)
		go func() {
			defer close(accepted)
			for {
				c, err := l.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Error(err)
					}
					return
				}
				accepted <- c
			}
		}()
		var open []net.Conn
		for range 2 {
			p.dial()
			open = append(open, <-accepted)
		}
		dialled := make(chan struct{})
		go func() { p.dial(); close(dialled) }()
		synctest.Wait()
		select {
		case <-dialled:
			t.Fatal("a third connection was accepted")
		default:
		}
		for range 2 { // closing twice frees one place
			_ = open[0].Close()
		}
		<-dialled
		<-accepted
		go p.dial()
		synctest.Wait()
		select {
		case <-accepted:
			t.Fatal("a connection closed twice made room for two")
		default:
		}
		_ = l.Close()
		if _, ok := <-accepted; ok {
			t.Error("a connection was accepted after Close")
		}
		<-p.conns // the one that nobody accepted
	})
}

// TestPollLimit: many long polls wait without keeping others from being
// served, and one too many is told so.
func TestPollLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		open := make(chan struct{})
		f.mining.template = waiting(open, genesisTemplate(f))
		codes := make(chan int, maxPolls)
		for range maxPolls {
			go func() { codes <- f.post(t.Context(), poll).Code }()
		}
		synctest.Wait()
		if w := f.post(t.Context(), poll); !strings.Contains(w.Body.String(), "long polls wait already") {
			t.Errorf("one poll too many: %s", w.Body)
		}
		if w := f.post(t.Context(), `{"method":"getblockcount"}`); w.Code != http.StatusOK {
			t.Errorf("another call: %d %s", w.Code, w.Body)
		}
		close(open)
		for range maxPolls {
			if code := <-codes; code != http.StatusOK {
				t.Errorf("poll ended with %d", code)
			}
		}
		if w := f.post(t.Context(), poll); w.Code != http.StatusOK {
			t.Errorf("poll after that: %d %s", w.Code, w.Body)
		}
	})
}

// TestRunningLimit: of many requests only some are worked on; the others wait,
// and one whose client leaves is never worked on.
func TestRunningLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		var mu sync.Mutex
		started := 0
		open := make(chan struct{})
		f.mining.generate = func(context.Context) (types.Hash, error) {
			mu.Lock()
			started++
			mu.Unlock()
			<-open
			return types.Hash{}, nil
		}
		address := f.chain.Network().Addresses.Address(chaingen.PayToHash(0))
		body := fmt.Sprintf(`{"method":"generatetoaddress","params":[1,%q]}`, address)
		var all sync.WaitGroup
		for range maxRunning + 5 {
			all.Go(func() { f.post(t.Context(), body) })
		}
		synctest.Wait()
		gone, leave := context.WithCancel(t.Context())
		all.Go(func() { f.post(gone, body) })
		synctest.Wait()
		leave()
		synctest.Wait()
		mu.Lock()
		if started != maxRunning {
			t.Errorf("%d requests are worked on at a time, want %d", started, maxRunning)
		}
		mu.Unlock()
		close(open)
		all.Wait()
		if started != maxRunning+5 {
			t.Errorf("%d requests were worked on, want %d", started, maxRunning+5)
		}
	})
}

// TestBatchAnswerLimit: a batch that asks for too much gets what fits, and an
// error for each call after that.
func TestBatchAnswerLimit(t *testing.T) {
	f := newFaked(t)
	b := chaingen.Clone(f.chain.Network().Genesis())
	b.Transactions[0].Outputs[0].PkScript = make([]byte, 1<<20)
	f.chain = bigChain{genesisChain{net: f.chain.Network()}, b}
	const n = 40
	calls := make([]string, n)
	for i := range calls {
		calls[i] = fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"getblock","params":[%q,0]}`, i, f.chain.Network().ID)
	}
	w := f.post(t.Context(), "["+strings.Join(calls, ",")+"]")
	var list []struct {
		ID     int
		Result string
		Error  *Error
	}
	size := w.Body.Len()
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != n {
		t.Fatalf("%d answers (err %v)", len(list), err)
	}
	one := len(hex.EncodeToString(b.Bytes()))
	if size > maxAnswer+2*one {
		t.Errorf("answer of %d bytes", size)
	}
	for i, a := range list {
		fits := i*one <= maxAnswer
		if a.ID != i || (a.Error == nil) != fits || (len(a.Result) == one) != fits {
			t.Errorf("answer %d: id %d, %d digits, error %v", i, a.ID, len(a.Result), a.Error)
		}
	}
}

type bigChain struct {
	genesisChain
	block *types.Block
}

func (c bigChain) Block(types.Hash) (*types.Block, bool, error) { return c.block, true, nil }

// served runs a server over pipes in a bubble.
func served(t *testing.T, f *faked) (p *pipes, stop context.CancelFunc, done <-chan error) {
	p = newPipes()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, p) }()
	synctest.Wait()
	f.readCookie(t)
	return p, cancel, ended
}

// exchange sends a request over a connection and returns what comes back.
func exchange(f *faked, c net.Conn, body string) <-chan string {
	answer := make(chan string, 1)
	go func() {
		req := f.request(context.Background(), body)
		if err := req.Write(c); err != nil {
			answer <- "write: " + err.Error()
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), req)
		if err != nil {
			answer <- "read: " + err.Error()
			return
		}
		var b strings.Builder
		_ = resp.Write(&b)
		answer <- b.String()
	}()
	return answer
}

// TestLongPollOutlivesTimeouts: no timeout of the server cuts a poll that
// waits for long.
func TestLongPollOutlivesTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		open := make(chan struct{})
		f.mining.template = waiting(open, genesisTemplate(f))
		p, stop, done := served(t, f)
		c := p.dial()
		answer := exchange(f, c, poll)
		<-time.After(3 * time.Hour)
		close(open)
		if got := <-answer; !strings.Contains(got, `"longpollid":"new"`) {
			t.Errorf("after three hours: %s", got)
		}
		_ = c.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPollEndsWithClient: a client that leaves frees its poll.
func TestPollEndsWithClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		f.mining.template = waiting(nil, nil)
		p, stop, done := served(t, f)
		c := p.dial()
		exchange(f, c, poll)
		synctest.Wait()
		if len(f.polls) != 1 {
			t.Fatalf("%d polls wait, want 1", len(f.polls))
		}
		_ = c.Close()
		synctest.Wait()
		if len(f.polls) != 0 || len(f.running) != 0 {
			t.Errorf("%d polls and %d requests are left", len(f.polls), len(f.running))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestStopWithPoll: at the end a poll is answered, and Run returns.
func TestStopWithPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		f.mining.template = waiting(nil, nil)
		p, stop, done := served(t, f)
		answer := exchange(f, p.dial(), poll)
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := <-answer; !strings.Contains(got, `"code":-9`) {
			t.Errorf("poll at the end: %s", got)
		}
		if _, err := os.Stat(f.cfg.CookieFile); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("cookie at the end: %v", err)
		}
	})
}

// TestStopWaitsForCalls: Run returns only when no call uses the chain any more,
// however long one takes.
func TestStopWaitsForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		open := make(chan struct{})
		f.mining.submit = func(*types.Block) (Submission, error) { <-open; return SubmitAccepted, nil }
		p, stop, done := served(t, f)
		body := fmt.Sprintf(`{"method":"submitblock","params":["%x"]}`, f.chain.Network().Genesis().Bytes())
		exchange(f, p.dial(), body)
		synctest.Wait()
		stop()
		<-time.After(time.Minute)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Run returned %v while a call was running", err)
		default:
		}
		close(open)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNoTemplateYet: a plain call for work does not wait for ever.
func TestNoTemplateYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaked(t)
		f.mining.template = waiting(nil, nil)
		if w := f.post(t.Context(), `{"method":"getblocktemplate"}`); !strings.Contains(w.Body.String(), `"code":-10`) {
			t.Errorf("got %s", w.Body)
		}
	})
}

// TestNodeFailures: a failure of the node is told as such and never as a fault
// of the block or transaction.
func TestNodeFailures(t *testing.T) {
	tx := hex.EncodeToString(chaingen.Clone(newFaked(t).chain.Network().Genesis()).Transactions[0].Bytes())
	for name, body := range map[string]string{
		"sendrawtransaction": fmt.Sprintf(`{"method":"sendrawtransaction","params":[%q]}`, tx),
		"testmempoolaccept":  fmt.Sprintf(`{"method":"testmempoolaccept","params":[[%q]]}`, tx),
		"submitblock":        fmt.Sprintf(`{"method":"submitblock","params":["%x"]}`, newFaked(t).chain.Network().Genesis().Bytes()),
		"getblocktemplate":   `{"method":"getblocktemplate"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaked(t)
			f.pool = emptyPool{errDisk}
			f.mining.submit = func(*types.Block) (Submission, error) { return 0, errDisk }
			f.mining.template = func(context.Context, string) (*Template, error) { return nil, errDisk }
			w := f.post(t.Context(), body)
			if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"code":-32603`) || !strings.Contains(w.Body.String(), errDisk.Error()) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestVersionNumber(t *testing.T) {
	for version, want := range map[string]int{"1.2.3": 10203, "v0.1.0": 100, "28.1.0-rc1": 280100, "unknown": 0, "1.2": 0, "": 0} {
		if got := versionNumber(version); got != want {
			t.Errorf("%q: %d, want %d", version, got, want)
		}
	}
}
