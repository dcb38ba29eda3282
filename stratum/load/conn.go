package load

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// state is how far a connection has come.
type state uint8

const (
	idle        state = iota // not begun
	connecting               // no TCP (or TLS) connection yet
	subscribing              // no answer to mining.subscribe yet
	authorizing              // no answer to mining.authorize yet
	waiting                  // no job yet
	holding                  // has a job
	closed
)

// missing says what a connection in a state still waits for.
func (s state) missing() string {
	return [...]string{
		"not begun", "no connection", "no answer to mining.subscribe", "no answer to mining.authorize",
		"no job", "", "",
	}[s]
}

// Request ids. Submits count on from idSubmit.
const (
	idSubscribe = 1
	idAuthorize = 2
	idProbe     = 3
	idSubmit    = 16
)

// maxLine is the longest line taken from a pool. A coinbase of the largest
// device class and a full branch stay far below it.
const maxLine = 256 << 10

// conn is one simulated miner, without its socket: an engine brings it bytes
// and takes its output away. Its squad's lock is held whenever it is touched.
type conn struct {
	sq      *squad
	number  int32
	state   state
	deaf    bool  // one of the stalled: stops reading once it has a job
	begun   int64 // connecting began
	held    int64 // first job, or when a deaf one stopped reading
	tip     uint64
	partial []byte // an incomplete line
	out     []byte // what the engine is to write; from squad.spare
	m       *mining
}

// connected starts the conversation.
func (c *conn) connected() {
	c.state = subscribing
	c.request(`{"id":1,"method":"mining.subscribe","params":["` + c.sq.run.cfg.Agent + `"]}` + "\n")
	if c.sq.run.cfg.Pipeline {
		c.authorize(idAuthorize)
	}
}

func (c *conn) authorize(id int) {
	cfg := &c.sq.run.cfg
	c.request(fmt.Sprintf(`{"id":%d,"method":"mining.authorize","params":[%q,%q]}`+"\n", id, workerName(cfg.Worker, c.number), cfg.Password))
}

func (c *conn) request(line string) { c.out = append(c.buffer(), line...) }

// buffer returns the output buffer, with what is in it already.
func (c *conn) buffer() []byte {
	if c.out == nil {
		if n := len(c.sq.spare); n > 0 {
			c.out, c.sq.spare = c.sq.spare[n-1], c.sq.spare[:n-1]
		} else {
			c.out = make([]byte, 0, 512)
		}
	}
	return c.out
}

// written gives the buffer back after the engine wrote all of it.
func (c *conn) written() {
	if c.out != nil && len(c.sq.spare) < 64 {
		c.sq.spare = append(c.sq.spare, c.out[:0])
	}
	c.out = nil
}

// feed takes bytes of which the last arrived at the time now.
func (c *conn) feed(now int64, data []byte) {
	for c.state != closed {
		n := bytes.IndexByte(data, '\n')
		if n < 0 {
			break
		}
		line := data[:n]
		if len(c.partial) > 0 {
			line = append(c.partial, line...)
			c.partial = line[:0]
		}
		before := c.tip
		c.line(now, bytes.TrimSpace(line))
		data = data[n+1:]
		if c.tip != before && c.state == holding && len(data) > 0 {
			c.sq.blurred++
		}
	}
	if c.state == closed {
		c.partial = nil
		return
	}
	switch {
	case len(c.partial)+len(data) > maxLine:
		c.fail(now, fmt.Sprintf("a line of more than %d bytes", maxLine))
	case len(data) > 0:
		c.partial = append(c.partial, data...)
	case cap(c.partial) > 4<<10 || c.m == nil:
		c.partial = nil
	}
}

// line takes one line.
func (c *conn) line(now int64, line []byte) {
	if len(line) == 0 {
		return
	}
	var m message
	if !m.cut(line) {
		c.sq.junk++
		if c.state < holding {
			c.fail(now, "not a Stratum line: "+excerpt(line))
		}
		return
	}
	switch string(m.method) {
	case "", "null":
		c.answer(now, &m)
	case `"mining.notify"`:
		c.notify(now, m.params)
	case `"mining.set_difficulty"`:
		if c.m != nil {
			c.m.setDifficulty(m.params)
		}
	case `"mining.set_extranonce"`:
		if c.m != nil {
			c.m.setExtranonce(elements(m.params))
		}
	case `"client.reconnect"`:
		c.sq.reconnects++
	}
}

// answer takes the answer to a request.
func (c *conn) answer(now int64, m *message) {
	id, err := strconv.ParseUint(string(m.id), 10, 64)
	switch {
	case err != nil:
		if c.state < holding && !null(m.err) {
			c.fail(now, "refused: "+refusalText(m.err))
			return
		}
		c.sq.stray++
	case id == idSubscribe && c.state == subscribing:
		if !null(m.err) || null(m.result) {
			c.fail(now, "mining.subscribe refused: "+refusalText(m.err))
			return
		}
		if c.m != nil {
			c.m.subscribed(m.result)
		}
		c.state = authorizing
		if !c.sq.run.cfg.Pipeline {
			c.authorize(idAuthorize)
		}
	case id == idAuthorize && c.state == authorizing:
		if string(m.result) != "true" {
			c.fail(now, "mining.authorize refused: "+refusalText(m.err))
			return
		}
		c.state = waiting
		if c.tip != 0 { // the job came before the answer
			c.hold(now)
		}
	case id == idProbe:
	case id >= idSubmit && c.m != nil:
		c.m.judged(now, c.sq, id, m)
	default:
		c.sq.stray++
	}
}

// notify takes a job.
func (c *conn) notify(now int64, params []byte) {
	w := elements(params)
	if _, ok := w.next(); !ok { // the job id
		c.sq.junk++
		return
	}
	prev, _ := w.next()
	if text(prev) == nil {
		c.sq.junk++
		return
	}
	if c.m != nil {
		c.m.notified(params)
	}
	tip := c.sq.run.board.key(text(prev))
	before := c.tip
	c.tip = tip
	switch {
	case c.state == waiting:
		c.hold(now)
	case c.state == holding && before != tip && clean(params):
		c.sq.run.board.arrived(tip, text(prev), now)
	}
}

// clean reports whether a job tells the miner to drop the one before: the last
// parameter says so.
func clean(params []byte) bool {
	n := len(params) - 1
	return n > 4 && string(bytes.TrimSpace(params[n-4:n])) == "true"
}

// hold notes that the connection has its first job.
func (c *conn) hold(now int64) {
	c.state, c.held = holding, now
	r := c.sq.run
	r.board.begun(c.tip)
	c.sq.waits = append(c.sq.waits, now-c.begun)
	if !c.deaf {
		r.listening.Add(1)
	}
	r.lastHold(now)
	r.settled.Add(1)
	r.holdingNow.Add(1)
}

// fail ends a connection for a reason of its own making or the pool's.
func (c *conn) fail(now int64, reason string) {
	was := c.state
	if was == closed {
		return
	}
	c.state = closed
	c.partial = nil
	c.written()
	r := c.sq.run
	switch {
	case was < holding:
		count(c.sq.failures, reason)
		r.failed.Add(1)
		r.settled.Add(1)
	case c.deaf:
		c.sq.deafClosed = append(c.sq.deafClosed, now-c.held)
		count(c.sq.deafReasons, reason)
		r.holdingNow.Add(-1)
	default:
		count(c.sq.lost, reason)
		r.listening.Add(-1)
		r.holdingNow.Add(-1)
		r.lost.Add(1)
	}
}

// during completes a reason with what the connection was waiting for.
func (s state) during(reason string) string {
	if m := s.missing(); m != "" {
		return m + ": " + reason
	}
	return reason
}

// maxReasons bounds the different reasons kept: a pool may put anything into one.
const maxReasons = 64

func count(m map[string]int, reason string) {
	if _, known := m[reason]; !known && len(m) >= maxReasons {
		reason = "other"
	}
	m[reason]++
}

// excerpt makes a pool's text fit for a list: printable, short, and with every
// run of digits cut to one #, so that the same reason counts together.
func excerpt(b []byte) string {
	if len(b) > 120 {
		b = b[:120]
	}
	var s strings.Builder
	digits := false
	for _, r := range string(b) {
		isDigit := r >= '0' && r <= '9'
		switch {
		case isDigit && digits:
		case isDigit:
			s.WriteByte('#')
		case r < ' ' || r == 0x7f || r == 0xfffd:
			s.WriteByte('?')
		default:
			s.WriteRune(r)
		}
		digits = isDigit
	}
	return s.String()
}
