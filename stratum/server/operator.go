package server

import "qcitycoin.org/qcity/stratum"

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

// askVersion asks a client without a user agent for its name, once, after its
// first good share: by then it is no health check. The caller holds s.mu.
func (s *session) askVersion() {
	s.question = asking
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
