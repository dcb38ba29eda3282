package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/node/consensus"
)

// lineMiner mines by hand over a connection to the Stratum port.
type lineMiner struct {
	t      testing.TB
	conn   net.Conn
	in     *bufio.Scanner
	worker string
	e1     string
	job    []json.RawMessage // params of the last mining.notify
	next   uint32            // nonce
}

func dialMiner(t testing.TB, address string) *lineMiner { return dialMinerAs(t, address, "hand") }

func dialMinerAs(t testing.TB, address, worker string) *lineMiner {
	t.Helper()
	var conn net.Conn
	retry(t, func() (err error) {
		conn, err = net.Dial("tcp", address)
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	m := &lineMiner{t: t, conn: conn, in: bufio.NewScanner(conn), worker: worker}
	m.send(`{"id":"s","method":"mining.subscribe","params":["by hand"]}` + "\n" + fmt.Sprintf(`{"id":"a","method":"mining.authorize","params":[%q,"x"]}`, worker) + "\n")
	var result []json.RawMessage
	m.decode(m.answer("s"), &result)
	m.decode(result[1], &m.e1)
	m.answer("a")
	for m.job == nil {
		m.line()
	}
	return m
}

func (m *lineMiner) decode(raw json.RawMessage, v any) {
	m.t.Helper()
	if err := json.Unmarshal(raw, v); err != nil {
		m.t.Fatalf("%s: %v", raw, err)
	}
}

func (m *lineMiner) send(text string) {
	m.t.Helper()
	if _, err := io.WriteString(m.conn, text); err != nil {
		m.t.Fatal(err)
	}
}

// line reads one line; it returns the id and the result or error of an answer.
func (m *lineMiner) line() (id string, result json.RawMessage) {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(limit))
	if !m.in.Scan() {
		m.t.Fatalf("the connection ended: %v", m.in.Err())
	}
	var l struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
		Result json.RawMessage
		Error  json.RawMessage
	}
	m.decode(m.in.Bytes(), &l)
	if l.Method == "mining.notify" {
		m.job = l.Params
	}
	_ = json.Unmarshal(l.ID, &id)
	if len(l.Error) > 0 && string(l.Error) != "null" {
		return id, l.Error
	}
	return id, l.Result
}

func (m *lineMiner) answer(id string) json.RawMessage {
	m.t.Helper()
	for {
		if got, result := m.line(); got == id {
			return result
		}
	}
}

// solve returns a submission whose hash, read as a number, has from lo to below hi
// in its highest 32 bits.
func (m *lineMiner) solve(id string, lo, hi uint32) string {
	m.t.Helper()
	text := func(i int) (s string) { m.decode(m.job[i], &s); return s }
	raw := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			m.t.Fatal(err)
		}
		return b
	}
	double := func(b []byte) []byte {
		h := sha256.Sum256(b)
		h = sha256.Sum256(h[:])
		return h[:]
	}
	root := double(raw(text(2) + m.e1 + "0000000000000000" + text(3)))
	var branch []string
	m.decode(m.job[4], &branch)
	for _, sibling := range branch {
		root = double(append(root, raw(sibling)...))
	}
	word := func(s string) []byte { return binary.LittleEndian.AppendUint32(nil, binary.BigEndian.Uint32(raw(s))) }
	header := word(text(5))
	for i := 0; i < 64; i += 8 {
		header = append(header, word(text(1)[i:i+8])...)
	}
	header = append(append(append(header, root...), word(text(7))...), word(text(6))...)
	for {
		m.next++
		hash := double(binary.LittleEndian.AppendUint32(header[:76:76], m.next))
		if top := binary.LittleEndian.Uint32(hash[28:]); lo <= top && top < hi {
			return fmt.Sprintf(`{"id":%q,"method":"mining.submit","params":[%q,%s,"0000000000000000",%s,"%08x"]}`+"\n", id, m.worker, m.job[0], m.job[7], m.next)
		}
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(bin, "qcity"))
	if err == nil {
		err = os.WriteFile(to+".new", b, 0o755)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The program of a running box is replaced three times, once by one that cannot
// run: its miner keeps its connection, and a block it finds for a job of the
// first program is a block.
func TestUpgrade(t *testing.T) {
	const share, block = 0xffff00, 1 << 16 // highest words of a hash: difficulty 2^-24, bits 1f00ffff
	k := newRig(t, 0, "no-signer.sock", func(p *consensus.Params) { p.GenesisBits = 0x1f00ffff })
	k.node.path = filepath.Join(t.TempDir(), "qcity")
	copyProgram(t, k.node.path)
	k.node.start()
	defer k.node.stop()
	m := dialMiner(t, k.stratum)
	first := m.job
	pid := k.node.pid()

	upgrade := func(generation int) {
		t.Helper()
		half := m.solve(fmt.Sprint("half", generation), block, share)
		before := strings.Count(k.node.tail(), "msg=running")
		m.send(half[:30])
		if err := k.node.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		retry(t, func() error {
			if strings.Count(k.node.tail(), "msg=running") == before {
				return fmt.Errorf("no upgrade:\n%s", k.node.tail())
			}
			return nil
		})
		m.send(half[30:])
		if result := m.answer(fmt.Sprint("half", generation)); string(result) != "true" {
			t.Fatalf("generation %d: a share of the first job: %s", generation, result)
		}
		m.send(half)
		if refusal := m.answer(fmt.Sprint("half", generation)); !strings.Contains(string(refusal), "duplicate") {
			t.Errorf("generation %d: the same share again: %s", generation, refusal)
		}
	}
	m.job = first
	copyProgram(t, k.node.path)
	upgrade(1)

	if err := os.WriteFile(k.node.path+".new", []byte("#!/bin/sh\necho broken; exit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(k.node.path+".new", k.node.path); err != nil {
		t.Fatal(err)
	}
	if err := k.node.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	retry(t, func() error {
		if !strings.Contains(k.node.tail(), "cannot take over") {
			return fmt.Errorf("a broken program was not refused:\n%s", k.node.tail())
		}
		return nil
	})
	copyProgram(t, k.node.path)
	m.job = first
	upgrade(2)

	m.job = first
	m.send(m.solve("block", 0, block))
	m.answer("block")
	tip, err := k.tip()
	if err != nil || tip.height != 1 {
		t.Errorf("a block for a job of the first program: tip %+v, %v\n%s", tip, err, k.node.tail())
	}
	if k.node.pid() != pid {
		t.Error("another process")
	}
}

// submit searches a share, as solve does, and sends it; it returns the id to await.
func (m *lineMiner) submit(lo, hi uint32) string {
	m.t.Helper()
	id := fmt.Sprint("share", m.next)
	m.send(m.solve(id, lo, hi))
	return id
}

// newJob reads up to the next job that throws the last away.
func (m *lineMiner) newJob() {
	m.t.Helper()
	for last := string(m.job[0]); string(m.job[0]) == last || string(m.job[8]) != "true"; {
		m.line()
	}
}

// until reads lines up to one with text in it.
func (m *lineMiner) until(text string) {
	m.t.Helper()
	for {
		m.line()
		if strings.Contains(m.in.Text(), text) {
			return
		}
	}
}
