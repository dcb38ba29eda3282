package server

import (
	"sync"

	"qcitycoin.org/qcity/stratum"
)

// Message shows a sentence to the owners of miners (client.show_message): to
// those that want says yes to, or to all if it is nil. It returns how many
// sessions it went to; many devices have no place to show it.
func (s *Server) Message(text string, want func(SessionStats) bool) (sent int) {
	return s.tell(want, func(b []byte) []byte { return stratum.AppendShowMessage(b, printable([]byte(text), maxMessage)) })
}

// Reconnect asks miners to connect again to where they are (client.reconnect):
// those that want says yes to, or all if it is nil. It returns how many were
// asked. They keep their place and their difficulty.
func (s *Server) Reconnect(want func(SessionStats) bool) (sent int) {
	return s.tell(want, stratum.AppendReconnect)
}

// maxMessage is the longest message, in bytes: firmware keeps a small line for it.
const maxMessage = 256

func (s *Server) tell(want func(SessionStats) bool, line func([]byte) []byte) (sent int) {
	for _, ses := range s.all() {
		st, ready := ses.stats()
		if !ready || want != nil && !want(st) {
			continue
		}
		ses.mu.Lock()
		if !ses.closing {
			ses.outBuf(line(ses.buf()))
			ses.write()
			sent++
		}
		ses.mu.Unlock()
	}
	return sent
}

// question is how far asking a client for its name got.
type question int

const (
	unasked question = iota
	asking
	answered
)

// questionID is the id of client.get_version. Clients count their own up from 0.
const questionID = 1 << 30

// shy remembers the addresses of clients that hung up when asked for their name.
type shy struct {
	mu    sync.Mutex
	hosts map[string]struct{}
}

// maxShy bounds it; then everybody may be asked once more.
const maxShy = 1024

func (s *shy) add(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil || len(s.hosts) >= maxShy {
		s.hosts = map[string]struct{}{}
	}
	s.hosts[host] = struct{}{}
}

func (s *shy) has(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.hosts[host]
	return ok
}

// askVersion asks a client without a user agent for its name, once, after its
// first good share: by then it is no health check. The caller holds s.mu.
func (s *session) askVersion() {
	s.question = asking
	if s.srv.shy.has(s.host()) {
		return
	}
	s.outBuf(stratum.AppendGetVersion(s.buf(), questionID))
}

// response takes what a client answers. The only question ever asked is for its name.
func (s *session) response(q *stratum.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.question != asking {
		return
	}
	if name, ok := q.Result.Text(); ok {
		s.question, s.agent = answered, printable(name, maxAgent)
	}
}
