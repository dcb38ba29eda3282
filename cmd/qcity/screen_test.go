package main

import (
	"strings"
	"testing"
	"time"

	firmwareapi "qcitycoin.org/qcity/firmware-api"
)

func TestScreenFitsTheTerminal(t *testing.T) {
	signer := 2
	closes := "2026-11-23T05:00:10Z"
	now := time.Date(2026, 11, 23, 5, 0, 6, 0, time.UTC)
	status := &firmwareapi.Status{
		Network: firmwareapi.Network{Name: "devnet", ID: strings.Repeat("ab", 32)},
		Tip:     &firmwareapi.Tip{Height: 29, ID: strings.Repeat("0", 64), Type: "mined", Time: "2026-11-23T05:00:04Z"},
		Slot:    &firmwareapi.Slot{Height: 30, State: firmwareapi.SlotOpen, InTurn: 3, OpensAt: &closes, ClosesAt: &closes},
		LastSlots: []firmwareapi.PastSlot{
			{Height: 20, Type: "signed", Signer: &signer}, {Height: 10, Type: "fallback"},
		},
		HashRate: 4_800_000,
		Miners:   []firmwareapi.Miner{{Worker: "rig\x1b[2J\r\n1", Agent: "cpuminer", HashRate: 1e6, Accepted: 5}},
		Signer:   firmwareapi.SignerStatus{Connected: true, KeysReady: 4, KeysTotal: 5, Error: "validator 1: token gone"},
		Alerts:   []firmwareapi.Alert{{Level: "error", Message: "signer: validator 1: token gone"}},
	}
	for _, size := range [][2]int{{130, 40}, {40, 10}, {20, 5}} {
		logs := new(tail)
		if _, err := logs.Write([]byte("time=2026-11-23T05:00:00.1Z level=WARN msg=\"block found\" height=3\n")); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		s := &screen{
			w: &out, logs: logs, now: func() time.Time { return now }, head: []string{"rpc http://127.0.0.1:9332"},
			size: func() (int, int) { return size[0], size[1] },
		}
		if err := s.draw(status); err != nil {
			t.Fatal(err)
		}
		text := strings.TrimPrefix(strings.TrimSuffix(out.String(), ansiEOS), ansiHome)
		lines := strings.Split(text, "\r\n")
		if len(lines) > size[1] {
			t.Errorf("%d lines on a screen of %d", len(lines), size[1])
		}
		for _, l := range lines {
			if n := columns(l); n > size[0] {
				t.Errorf("%d columns on a screen of %d: %q", n, size[0], l)
			}
			if strings.Contains(l, "\x1b[2J") || strings.Contains(l, "\r") {
				t.Errorf("a worker's name commands the terminal: %q", l)
			}
		}
		if size[1] < 40 {
			continue
		}
		for _, want := range []string{
			"30 open, validator 3 in turn, miners may take it in 4s", "F\x1b[0m \x1b[32m2", "4 of 5 keys ready",
			"4.80 MH/s", "! signer: validator 1: token gone", "05:00:00 WARN \"block found\" height=3", "2s ago",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("screen lacks %q:\n%s", want, text)
			}
		}
	}
}

// columns counts what a line takes on the screen.
func columns(line string) int {
	n, escape := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm' && r != 'K'
		default:
			n++
		}
	}
	return n
}

func TestHashRateText(t *testing.T) {
	for h, want := range map[float64]string{0: "0.00 H/s", 999: "999.00 H/s", 1500: "1.50 kH/s", 5.57e6: "5.57 MH/s", 3e14: "300.00 TH/s"} {
		if got := hashRate(h); got != want {
			t.Errorf("%g: %s, want %s", h, got, want)
		}
	}
}
