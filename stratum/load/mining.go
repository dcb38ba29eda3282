package load

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
)

// window is the most submits a connection may have unanswered: a bit each.
const window = 64

// mining is what a connection needs to find shares and check their answers.
type mining struct {
	worker      string
	extranonce1 []byte
	size        int // bytes of extranonce2
	difficulty  float64
	target      work.Target

	params []byte // of the newest mining.notify, a copy
	fresh  bool   // params are not in header yet
	broken bool   // and cannot be

	header work.Header
	jobID  []byte
	ntime  []byte
	e2     uint64
	nonce  uint32

	next uint64        // id of the next submit
	base uint64        // lowest id without an answer
	open uint64        // bit i: base+i is unanswered
	sent [window]int64 // when, by id modulo window
}

func newMining(worker string) *mining {
	// Where the search begins is random: at the easiest difficulties two miners
	// that both began at 0 would submit the same fields, which a pool may take
	// for one device on two connections.
	m := &mining{worker: worker, next: idSubmit, base: idSubmit, e2: rand.Uint64()}
	m.aim(1)
	return m
}

func (m *mining) aim(difficulty float64) {
	if difficulty != m.difficulty {
		m.difficulty, m.target = difficulty, work.TargetFromDifficulty(difficulty)
	}
}

// subscribed takes the result of mining.subscribe: subscriptions, extranonce1,
// size of extranonce2.
func (m *mining) subscribed(result []byte) {
	w := elements(result)
	_, _ = w.next()
	m.setExtranonce(w)
}

// setExtranonce takes extranonce1 and the size of extranonce2; they count from
// the next job on.
func (m *mining) setExtranonce(w walker) {
	e1, _ := w.next()
	size, _ := w.next()
	b, err := hex.DecodeString(string(text(e1)))
	n, sizeErr := strconv.Atoi(string(size))
	if err == nil && sizeErr == nil && n >= 0 && n <= 32 {
		m.extranonce1, m.size = b, n
	}
}

func (m *mining) setDifficulty(params []byte) {
	w := elements(params)
	v, _ := w.next()
	if d, err := strconv.ParseFloat(string(v), 64); err == nil && d > 0 {
		m.aim(d)
	}
}

func (m *mining) notified(params []byte) {
	m.params = append(m.params[:0], params...)
	m.fresh, m.broken = true, false
}

var errJob = errors.New("cannot read the job")

// prepare makes the header of the newest job. The extranonce2 stays the same
// for all of a job's shares: the nonce has room enough for them.
func (m *mining) prepare() error {
	m.fresh = false
	var f [8][]byte
	w := elements(m.params)
	for i := range f {
		v, ok := w.next()
		if !ok {
			return errJob
		}
		f[i] = v
	}
	coinbase, err := hex.DecodeString(string(text(f[2])))
	if err != nil {
		return err
	}
	m.e2++
	coinbase = append(coinbase, m.extranonce1...)
	var e2 [32]byte
	binary.LittleEndian.PutUint64(e2[:], m.e2)
	coinbase = append(coinbase, e2[:m.size]...)
	rest, err := hex.DecodeString(string(text(f[3])))
	if err != nil {
		return err
	}
	coinbase = append(coinbase, rest...)
	root := sha256.Sum256(coinbase)
	root = sha256.Sum256(root[:])
	for b := elements(f[4]); ; {
		v, ok := b.next()
		if !ok {
			break
		}
		var sibling [1][32]byte
		if err := stratum.ParseBytes(sibling[0][:], text(v)); err != nil {
			return err
		}
		root = work.FoldBranch(root, sibling[:])
	}
	version, err1 := stratum.ParseUint32(text(f[5]))
	nbits, err2 := stratum.ParseUint32(text(f[6]))
	ntime, err3 := stratum.ParseUint32(text(f[7]))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(m.header[0:], version)
	if err := stratum.ParseBytes(m.header[4:36], text(f[1])); err != nil {
		return err
	}
	for i := 4; i < 36; i += 4 { // Stratum's word order
		binary.LittleEndian.PutUint32(m.header[i:], binary.BigEndian.Uint32(m.header[i:]))
	}
	copy(m.header[36:], root[:])
	binary.LittleEndian.PutUint32(m.header[68:], ntime)
	binary.LittleEndian.PutUint32(m.header[72:], nbits)
	m.jobID = append(m.jobID[:0], text(f[0])...)
	m.ntime = append(m.ntime[:0], text(f[7])...)
	m.nonce = 0
	return nil
}

// room is how many submits may go out.
func (m *mining) room(limit int) int {
	if m.params == nil || m.broken {
		return 0
	}
	free := int(m.base + window - m.next) // the bits left, whatever is answered
	return min(limit-bits.OnesCount64(m.open), free)
}

// find searches a share for at most budget hashes and reports whether there is one.
func (m *mining) find(budget int) bool {
	if m.fresh {
		if m.prepare() != nil {
			m.broken = true
			return false
		}
	}
	for range budget {
		m.nonce++
		binary.LittleEndian.PutUint32(m.header[76:], m.nonce)
		if m.target.Met(m.header.Hash()) {
			return true
		}
	}
	return false
}

// submit adds the share that was found.
func (m *mining) submit(now int64, dst []byte, worker string) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, m.next, 10)
	dst = append(dst, `,"method":"mining.submit","params":["`...)
	dst = append(dst, worker...)
	dst = append(dst, `","`...)
	dst = append(dst, m.jobID...)
	dst = append(dst, `","`...)
	var e2 [32]byte
	binary.LittleEndian.PutUint64(e2[:], m.e2)
	dst = hex.AppendEncode(dst, e2[:m.size])
	dst = append(dst, `","`...)
	dst = append(dst, m.ntime...)
	dst = append(dst, `","`...)
	dst = stratum.AppendUint32(dst, m.nonce)
	m.open |= 1 << (m.next - m.base)
	m.sent[m.next%window] = now
	m.next++
	return append(dst, "\"]}\n"...)
}

// judged takes the answer to a submit.
func (m *mining) judged(now int64, sq *squad, id uint64, a *message) {
	if id < m.base || id >= m.next || m.open&(1<<(id-m.base)) == 0 {
		sq.stray++ // never sent, or answered already
		return
	}
	m.open &^= 1 << (id - m.base)
	done := bits.TrailingZeros64(m.open)
	if m.open == 0 {
		done = int(m.next - m.base)
	}
	m.base += uint64(done)
	m.open >>= done
	sq.answers.add(now - m.sent[id%window])
	if string(a.result) == "true" {
		sq.accepted++
		return
	}
	code, reason := refusal(a.err)
	if len(sq.rejects) < maxReasons || sq.rejects[reject{code, reason}] > 0 {
		sq.rejects[reject{code, reason}]++
	} else {
		sq.rejects[reject{0, "other"}]++
	}
}

// reject is why a share was refused.
type reject struct {
	code int
	text string
}

// refusal reads an error, [code, text, …] as usual or {"code", "message"}.
func refusal(e []byte) (code int, reason string) {
	if null(e) {
		return 0, "no reason given"
	}
	w := elements(e)
	first, ok := w.next()
	if !ok {
		return 0, excerpt(e)
	}
	second, _ := w.next()
	code, err := strconv.Atoi(string(first))
	if err != nil || text(second) == nil {
		return code, excerpt(e)
	}
	return code, excerpt(text(second))
}

// refusalText is a refusal in one string.
func refusalText(e []byte) string {
	code, reason := refusal(e)
	if code == 0 {
		return reason
	}
	return strings.TrimSpace(strconv.Itoa(code) + " " + reason)
}
