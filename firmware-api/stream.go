package firmwareapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// stream pushes the status to one subscriber until it leaves, stalls, or the
// server ends. The publisher never waits for it: the Broadcaster keeps the
// newest status, and each stream takes that when it is ready.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case s.subscribers <- struct{}{}:
		defer func() { <-s.subscribers }()
	default:
		http.Error(w, "too many streams are open: close one and try again", http.StatusServiceUnavailable)
		return
	}
	s.streams.Add(1)
	defer s.streams.Done()

	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.log.Debug("status stream refused", "remote", r.RemoteAddr, "err", err)
		return // Upgrade has answered
	}
	defer conn.Close() // a second close does no harm
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	go s.listen(conn, cancel)
	err = s.push(ctx, conn)
	s.log.Debug("status stream ended", "remote", r.RemoteAddr, "err", err)
}

// listen reads what the subscriber sends, which can only be answers to pings
// and a goodbye, and ends the stream when there is no more.
func (s *Server) listen(conn *websocket.Conn, end context.CancelCauseFunc) {
	patience := 2 * s.cfg.PingInterval
	extend := func(string) error { return conn.SetReadDeadline(time.Now().Add(patience)) }
	conn.SetReadLimit(512)
	conn.SetPongHandler(extend)
	err := extend("")
	for err == nil {
		_, _, err = conn.NextReader()
	}
	end(err)
}

// push writes the newest status now and after every change, with a pause in
// between, until ctx ends or a write fails.
func (s *Server) push(ctx context.Context, conn *websocket.Conn) error {
	pings := time.NewTicker(s.cfg.PingInterval)
	defer pings.Stop()
	pause := time.NewTimer(0) // fires when the next push is allowed
	defer pause.Stop()
	ready := make(chan struct{})
	close(ready)

	// pending is closed when there is something to push; changed is pending
	// once the pause is over, and nil until then.
	var pending, changed <-chan struct{} = ready, nil
	for {
		select {
		case <-ctx.Done():
			return s.goodbye(ctx, conn)
		case <-pings.C:
			if err := conn.WriteControl(websocket.PingMessage, nil, s.writeDeadline()); err != nil {
				return err
			}
		case <-pause.C:
			changed = pending
		case <-changed:
			var encoded []byte
			encoded, pending = s.sources.Status.latestJSON()
			changed = nil
			pause.Reset(s.pause)
			if encoded == nil {
				continue // nothing was published yet
			}
			if err := conn.SetWriteDeadline(s.writeDeadline()); err != nil {
				return err
			}
			if err := conn.WriteMessage(websocket.TextMessage, encoded); err != nil {
				return err
			}
		}
	}
}

func (s *Server) writeDeadline() time.Time { return time.Now().Add(s.cfg.WriteTimeout) }

// goodbye tells a subscriber why the stream ends, unless it was the one to
// end it.
func (s *Server) goodbye(ctx context.Context, conn *websocket.Conn) error {
	cause := context.Cause(ctx)
	if !errors.Is(cause, context.Canceled) {
		return cause
	}
	message := websocket.FormatCloseMessage(websocket.CloseGoingAway, "the program is ending")
	return conn.WriteControl(websocket.CloseMessage, message, s.writeDeadline())
}
