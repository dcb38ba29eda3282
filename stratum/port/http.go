package port

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// maxHead is the longest HTTP request head read, in bytes.
const maxHead = 8 << 10

// whatThisIs is the body of every HTTP answer.
const whatThisIs = `This port speaks Stratum V1 to miners: it is no web page.
Point a miner at   stratum+tcp://HOST:PORT
over TLS, if on    stratum+ssl://HOST:PORT
over WebSocket     ws://HOST:PORT or wss://HOST:PORT
`

// upgrader accepts pages of any origin. The check of origins protects what a
// browser adds by itself, such as cookies; Stratum has nothing of the kind, and a
// page that connects here can do what any program that reaches the port can
// (docs/stratum-port.md). Compression stays off: it takes much memory for lines
// that are mostly random.
var upgrader = websocket.Upgrader{
	ReadBufferSize:  256, // kept by each connection; longer payloads are read past it
	WriteBufferSize: 2 << 10,
	WriteBufferPool: new(sync.Pool),
	CheckOrigin:     func(*http.Request) bool { return true },
	Error: func(w http.ResponseWriter, r *http.Request, status int, reason error) {
		if status == http.StatusBadRequest && r.Header.Get("Sec-Websocket-Version") != "13" {
			status = http.StatusUpgradeRequired
		}
		w.Header().Set("Sec-WebSocket-Version", "13")
		w.(*response).answer(r, status, reason.Error()+"\n")
	},
}

// openHTTP reads a request head and makes the connection a WebSocket, or answers.
func (o *Opened) openHTTP(limit int) error {
	// The reader may take more than the head; that belongs to the stream.
	stream := &replay{o.Conn, o.First}
	in := bufio.NewReaderSize(io.LimitReader(stream, maxHead), readSize)
	r, err := http.ReadRequest(in)
	w := &response{conn: o.Conn, header: http.Header{}}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("HTTP request: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		w.answer(r, http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The head of this request has no end within %d bytes.\n", maxHead))
		return ErrHTTP
	case err != nil:
		w.answer(r, http.StatusBadRequest, "This request cannot be read.\n")
		return ErrHTTP
	case !websocket.IsWebSocketUpgrade(r):
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			w.answer(r, http.StatusOK, "")
			return ErrHTTP
		}
		w.header.Set("Allow", "GET, HEAD")
		w.answer(r, http.StatusMethodNotAllowed, "")
		return ErrHTTP
	}
	early, _ := in.Peek(in.Buffered()) // frames sent without waiting for the answer
	stream.first = append(early[:len(early):len(early)], stream.first...)
	w.conn = &frames{stream}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHTTP, err)
	}
	kind := WebSocket
	if o.Kind == TLS {
		kind = TLSWebSocket
	}
	*o = Opened{Conn: newStream(o.Conn, ws, limit), Kind: kind}
	return nil
}

// response is what the upgrader needs of an HTTP server: it answers, or hands
// the connection over.
type response struct {
	conn   net.Conn
	header http.Header
}

func (w *response) Header() http.Header         { return w.header }
func (w *response) WriteHeader(int)             {} // the upgrader leaves answers to its Error
func (w *response) Write(b []byte) (int, error) { return w.conn.Write(b) }

// Hijack hands over. The upgrader looks for early input and for a buffer that
// it might use; there is neither.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReaderSize(w.conn, 16), bufio.NewWriterSize(w.conn, 16)), nil
}

// answer sends a whole response. r is nil if it could not be read.
func (w *response) answer(r *http.Request, status int, why string) {
	body := why + whatThisIs
	w.header.Set("Content-Type", "text/plain; charset=utf-8")
	w.header.Set("Content-Length", fmt.Sprint(len(body)))
	w.header.Set("Connection", "close")
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = w.header.Write(&b)
	b.WriteString("\r\n")
	if r == nil || r.Method != http.MethodHead {
		b.WriteString(body)
	}
	_, _ = w.conn.Write(b.Bytes()) // the connection ends anyway
}
