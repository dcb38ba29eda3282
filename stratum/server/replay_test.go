package server

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
)

// play is one transcript that is being replayed.
type play struct {
	t     *testing.T
	r     *rig
	cfg   Config
	peers map[string]*peer
	named map[string]string

	// What the chain publishes.
	parent       byte
	network      float64 // difficulty of a block
	silent       bool    // there is no job at first
	coinbase     [2]string
	transactions [][]byte
	lastHash     [32]byte
}

// peer is one connection of a transcript.
type peer struct {
	conn  net.Conn
	in    *bufio.Reader
	burst string
	heard bool // something was heard since the last words
	c     *client
	last  share
}

func replay(t *testing.T, script []string) {
	p := &play{t: t, cfg: easyConfig(), peers: map[string]*peer{}, named: map[string]string{}, network: 1 << 40}
	defer func() {
		if p.r != nil {
			p.r.stop()
		}
	}()
	for i, line := range script {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if err := p.step(line); err != nil {
			t.Fatalf("line %d: %s\n%v", i+1, line, err)
		}
	}
	for name, o := range p.peers {
		if o.burst != "" {
			t.Errorf("the last words of connection %q were not sent", name)
		}
		if err := o.quiet(); err != nil {
			t.Errorf("at the end, on connection %q: %v", name, err)
		}
	}
}

// step carries out one line of a transcript.
func (p *play) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word { // before the first connection
	case "devices": // none: everybody starts alike
		p.cfg.Devices = []stratum.Device{{}}
		return nil
	case "chain":
		return p.chain(rest)
	}
	if p.r == nil {
		p.r = startRig(p.t, p.cfg)
		if !p.silent {
			p.publish()
		}
	}
	name := ""
	if len(word) > 1 && word[0] == '@' {
		name, line = word, rest
		word, rest, _ = strings.Cut(line, " ")
	}
	switch word {
	case "job":
		p.publish()
		synctest.Wait()
		return nil
	case "block":
		p.parent++
		p.publish()
		synctest.Wait()
		return nil
	case "wait":
		d, err := time.ParseDuration(rest)
		time.Sleep(d)
		synctest.Wait()
		return err
	case "message":
		p.r.srv.Message(rest, nil)
		return nil
	case "reconnect":
		p.r.srv.Reconnect(nil)
		return nil
	case "count":
		return p.count(rest)
	case "found":
		return p.found()
	}
	o := p.peers[name]
	if o == nil {
		conn := p.r.dialFrom(map[bool]string{true: rest, false: "192.0.2.1:1000"}[word == "from"])
		o = &peer{conn: conn, in: bufio.NewReader(conn), c: &client{t: p.t}}
		p.peers[name] = o
	}
	return p.talk(o, word, rest, line)
}

// talk carries out a line that belongs to a connection.
func (p *play) talk(o *peer, word, rest, line string) error {
	switch word {
	case "from": // only names the address
		return nil
	case ">":
		return o.say(p.fill(rest) + "\n")
	case ">hex":
		return o.say(string(unhex(p.t, rest)))
	case "share":
		text, err := p.share(o, rest)
		if err != nil {
			return err
		}
		return o.say(text)
	case "<":
		return p.hear(o, rest)
	case "<error":
		return o.refused(rest)
	case "within":
		return o.within(rest)
	case "hangup":
		err := o.conn.Close()
		synctest.Wait()
		return err
	case "closed":
		if err := o.flush(); err != nil {
			return err
		}
		_ = o.conn.SetReadDeadline(time.Now().Add(time.Minute))
		if rest, err := io.ReadAll(o.in); err != nil || len(rest) > 0 {
			return fmt.Errorf("instead of closing, the server said %q, %v", rest, err)
		}
		return nil
	case "coinbase":
		return o.coinbase(rest)
	}
	return fmt.Errorf("nothing that a transcript knows: %q", line)
}

func (p *play) chain(rest string) (err error) {
	f := strings.Fields(rest)
	switch f[0] {
	case "silent":
		p.silent = true
	case "difficulty":
		p.network, err = strconv.ParseFloat(f[1], 64)
	case "coinbase":
		copy(p.coinbase[:], f[1:])
	case "transactions":
		for _, tx := range f[1:] {
			p.transactions = append(p.transactions, unhex(p.t, tx))
		}
	default:
		err = fmt.Errorf("no such setting")
	}
	return err
}

func (p *play) publish() {
	job := p.r.job(p.parent+1, work.TargetFromDifficulty(p.network))
	if p.coinbase[0] != "" {
		job.CoinbasePrefix, job.CoinbaseSuffix = unhex(p.t, p.coinbase[0]), unhex(p.t, p.coinbase[1])
	}
	if p.transactions != nil {
		job.Transactions = func() [][]byte { return p.transactions }
	}
	p.r.feed.Publish(job)
}

// say queues a line; what follows one another without an answer is one burst.
func (o *peer) say(text string) error {
	if o.heard {
		if err := o.quiet(); err != nil {
			return err
		}
	}
	o.heard = false
	o.burst += text
	return nil
}

func (o *peer) flush() error {
	if o.burst == "" {
		return nil
	}
	_, err := io.WriteString(o.conn, o.burst)
	o.burst = ""
	return err
}

// quiet checks that the server has said all it had to say.
func (o *peer) quiet() error {
	_ = o.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer func() { _ = o.conn.SetReadDeadline(time.Time{}) }()
	if rest, _ := io.ReadAll(o.in); len(rest) > 0 {
		return fmt.Errorf("the server also said %q", rest)
	}
	return nil
}

func (o *peer) line() (string, error) {
	if err := o.flush(); err != nil {
		return "", err
	}
	o.heard = true
	got, err := o.in.ReadString('\n')
	got = strings.TrimRight(got, "\r\n")
	if err == nil {
		o.digest(got)
	}
	return got, err
}

// digest lets the device learn from what it hears.
func (o *peer) digest(line string) {
	var m message
	if json.Unmarshal([]byte(line), &m) != nil {
		return
	}
	var sub []json.RawMessage
	if json.Unmarshal(m.Result, &sub) == nil && len(sub) == 3 {
		_ = json.Unmarshal(sub[1], &o.c.e1)
		_ = json.Unmarshal(sub[2], &o.c.size2)
	}
	o.c.take(m)
}

func (p *play) hear(o *peer, want string) error {
	_ = o.conn.SetReadDeadline(time.Now().Add(time.Second))
	got, err := o.line()
	_ = o.conn.SetReadDeadline(time.Time{})
	if err != nil {
		return fmt.Errorf("the server said %q, %w", got, err)
	}
	expr := p.pattern(want)
	m := expr.FindStringSubmatch(got)
	if m == nil {
		return fmt.Errorf("the server said\n%s", got)
	}
	for i, name := range expr.SubexpNames() {
		if name == "" {
			continue
		}
		if v, ok := p.named[name]; ok && v != m[i] {
			return fmt.Errorf("%s was %s in\n%s", name, v, got)
		}
		p.named[name] = m[i]
	}
	return nil
}

// refused expects a refusal, "ID CODE", whose sentence differs each time.
func (o *peer) refused(rest string) error {
	_ = o.conn.SetReadDeadline(time.Now().Add(time.Second))
	got, err := o.line()
	_ = o.conn.SetReadDeadline(time.Time{})
	id, code, _ := strings.Cut(rest, " ")
	if err != nil || !strings.HasPrefix(got, fmt.Sprintf(`{"id":%s,"result":null,"error":[%s,"`, id, code)) {
		return fmt.Errorf("the server said %q, %w", got, err)
	}
	return nil
}

// within lets time pass and counts what is said meanwhile, by method:
// "5m mining.notify=12"; nothing else may be said.
func (o *peer) within(rest string) error {
	f := strings.Fields(rest)
	d, err := time.ParseDuration(f[0])
	if err != nil {
		return err
	}
	want, got := map[string]int{}, map[string]int{}
	for _, w := range f[1:] {
		method, n, _ := strings.Cut(w, "=")
		if want[method], err = strconv.Atoi(n); err != nil {
			return err
		}
	}
	maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
	if err := o.flush(); err != nil {
		return err
	}
	_ = o.conn.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = o.conn.SetReadDeadline(time.Time{}) }()
	for {
		line, err := o.line()
		if err != nil {
			break
		}
		var m message
		if json.Unmarshal([]byte(line), &m) == nil {
			got[m.Method]++
		}
	}
	o.heard = true
	if !maps.Equal(got, want) {
		return fmt.Errorf("heard %v", got)
	}
	return nil
}

// share makes a mining.submit. Its words are name=value:
//
//	id       of the request (7)
//	job      the job to work on: first, last or a number from the end, 1 being the one before the last
//	bits     version bits to roll; version is what is sent instead
//	also     further version bits that the same nonce must be good for
//	least, most   range of the share's difficulty (the job's, none)
//	ahead    seconds to add to the job's time
//	again    nothing is searched: the last share, with the words changed
//	upper, longnonce, longextranonce2, shortextranonce2, blind   sent so, or found without any extranonce1
//	worker   that found it
func (p *play) share(o *peer, rest string) (string, error) {
	w := map[string]string{"id": "7", "job": "last", "worker": "w"}
	for _, f := range strings.Fields(rest) {
		name, value, _ := strings.Cut(f, "=")
		w[name] = value
	}
	_, again := w["again"]
	s := o.last
	if !again {
		if len(o.c.jobs) == 0 {
			return "", fmt.Errorf("there is no job yet")
		}
		at := map[string]int{"first": 0, "last": len(o.c.jobs) - 1}[w["job"]]
		if back, err := strconv.Atoi(w["job"]); err == nil {
			at = len(o.c.jobs) - 1 - back
		}
		s = p.solve(o.c, o.c.jobs[at], w)
	}
	s.worker = w["worker"]
	if v, ok := w["version"]; ok {
		s.version = v
	}
	o.last = s
	if _, ok := w["upper"]; ok {
		s.e2, s.nonce = strings.ToUpper(s.e2), strings.ToUpper(s.nonce)
	}
	if _, ok := w["longnonce"]; ok {
		s.nonce += "ffff"
	}
	if _, ok := w["longextranonce2"]; ok {
		s.e2 += "ffff"
	}
	if _, ok := w["shortextranonce2"]; ok {
		s.e2 = strings.TrimSuffix(s.e2, "00")
	}
	return fmt.Sprintf(`{"id":%s,"method":"mining.submit","params":%s}`+"\n", w["id"], s.params()), nil
}

func (p *play) solve(c *client, n notify, w map[string]string) share {
	number := func(name string, def float64) float64 {
		v, err := strconv.ParseFloat(w[name], 64)
		if err != nil {
			return def
		}
		return v
	}
	bits := func(name string) uint32 {
		v, _ := strconv.ParseUint(w[name], 16, 32)
		return uint32(v)
	}
	want := between(number("least", n.difficulty), number("most", 1e300))
	also := bits("also")
	ntime := binary.BigEndian.Uint32(unhex(p.t, n.ntime)) + uint32(number("ahead", 0))
	e2 := fmt.Sprintf("%0*x", 2*n.size2, 0xaa)
	if _, ok := w["shortextranonce2"]; ok { // as it is padded
		e2 = "aa" + strings.Repeat("00", n.size2-1)
	}
	if _, ok := w["blind"]; ok { // the device puts zeros there
		n.e1 = strings.Repeat("00", len(n.e1)/2)
		p.named["nonce"] = "" // every blind device counts from zero
		c.nonce = 0
	}
	for {
		c.nonce++
		hash := c.hash(n, e2, ntime, c.nonce, bits("bits"))
		if want(hash) && (also == 0 || want(c.hash(n, e2, ntime, c.nonce, also))) {
			p.lastHash = hash
			break
		}
	}
	s := share{"w", n.ID, e2, fmt.Sprintf("%08x", ntime), fmt.Sprintf("%08x", c.nonce), ""}
	if b := bits("bits"); b != 0 {
		s.version = fmt.Sprintf("%08x", b)
	}
	return s
}

// found checks that the chain got the very header of the last share.
func (p *play) found() error {
	synctest.Wait()
	blocks := p.r.chain.found()
	if len(blocks) == 0 {
		return fmt.Errorf("the chain got no block")
	}
	s := blocks[len(blocks)-1]
	h := p.r.chain.jobs[s.JobID].Header(s)
	if h.Hash() != p.lastHash {
		return fmt.Errorf("the chain got block %x, the device hashed %x", h.Hash(), p.lastHash)
	}
	return nil
}

// coinbase checks what the last job's coinbase is: "at most N" bytes in all,
// "half at most N" bytes, "no witness".
func (o *peer) coinbase(rest string) error {
	n := o.c.job
	whole := unhex(o.c.t, n.coinb1+n.e1+strings.Repeat("00", n.size2)+n.coinb2)
	f := strings.Fields(rest)
	limit, _ := strconv.Atoi(f[len(f)-1])
	switch {
	case rest == "no witness":
		if whole[4] != 1 { // the segwit marker is a zero in the place of the number of inputs
			return fmt.Errorf("the fifth byte of %s is no input count", hex.EncodeToString(whole))
		}
	case f[0] == "half":
		if len(n.coinb1)/2 > limit || len(n.coinb2)/2 > limit {
			return fmt.Errorf("the halves are %d and %d bytes", len(n.coinb1)/2, len(n.coinb2)/2)
		}
	case len(whole) > limit:
		return fmt.Errorf("the coinbase is %d bytes", len(whole))
	}
	return nil
}

// count compares the server's counters: "accepted=2 rejected.stale=1 twins=1".
func (p *play) count(rest string) error {
	synctest.Wait()
	st := p.r.srv.Stats()
	for _, w := range strings.Fields(rest) {
		name, value, _ := strings.Cut(w, "=")
		var got any
		switch reason, isReason := strings.CutPrefix(name, "rejected."); {
		case isReason:
			got = st.Total.Rejected[reason]
		case name == "accepted":
			got = st.Total.Accepted
		case name == "rejected":
			got = st.Total.Refused()
		case name == "twins":
			got = st.Misuse.IdenticalWork
		case name == "takeovers":
			got = st.Misuse.Takeovers
		case name == "junk":
			got = st.Misuse.JunkLines
		case name == "connections":
			got = st.Connections
		case name == "rolls":
			got = slices.ContainsFunc(st.Sessions, func(s SessionStats) bool { return s.Rolls })
		case name == "class":
			got = st.Sessions[0].Class
		default:
			return fmt.Errorf("no counter %q", name)
		}
		if fmt.Sprint(got) != value {
			return fmt.Errorf("%s is %v", name, got)
		}
	}
	return nil
}
