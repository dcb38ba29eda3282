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
		Finality: firmwareapi.Finality{
			Signed: 20, Certified: 10,
			Degraded: &firmwareapi.Degraded{Since: 20, Missing: firmwareapi.Certified, Message: "degraded: no slot was certified since 20"},
		},
		Alerts: []firmwareapi.Alert{
			{Level: "error", Message: "signer: validator 1: token gone"},
			{Level: "warning", Message: "degraded: no slot was certified since 20\x1b[2J"},
		},
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
		for _, want := range []string{red + "! signer: v", yellow + "! degraded: "} {
			if !strings.Contains(text, want) {
				t.Errorf("no alert %q on a screen of %v:\n%s", want, size, text)
			}
		}
		if size[1] < 40 {
			continue
		}
		for _, want := range []string{
			"30 open, validator 3 in turn, miners may take it in 4s", "F\x1b[0m \x1b[32m2", "4 of 5 keys ready",
			"finality    final none yet, certified slot 10, signed slot 20",
			"4.80 MH/s", "! signer: validator 1: token gone", "05:00:00 WARN \"block found\" height=3", "2s ago",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("screen lacks %q:\n%s", want, text)
			}
		}
	}
}

// TestScreen holds a whole screen, without its colours, to what README.md shows.
func TestScreen(t *testing.T) {
	signer := 3
	now := time.Date(2026, 11, 23, 5, 0, 6, 0, time.UTC)
	status := &firmwareapi.Status{
		Network: firmwareapi.Network{Name: "devnet", ID: strings.Repeat("ab", 32)}, UptimeSeconds: 96,
		Tip:       &firmwareapi.Tip{Height: 34, ID: strings.Repeat("0", 64), Type: "mined", Time: "2026-11-23T05:00:04Z"},
		Finality:  firmwareapi.Finality{Signed: 30, Certified: 30, Final: 20},
		Slot:      &firmwareapi.Slot{Height: 40, BlocksUntil: 5, State: firmwareapi.SlotWaiting, InTurn: 4},
		LastSlots: []firmwareapi.PastSlot{{Height: 30, Signer: &signer}, {Height: 20}, {Height: 10, Signer: &signer}},
		HashRate:  4_610_000,
		Stratum:   firmwareapi.StratumStatus{Address: "127.0.0.1:3333"},
		Blocks:    firmwareapi.Blocks{Mined: 31, Signed: 2, Fallback: 1},
		Signer:    firmwareapi.SignerStatus{Connected: true, KeysReady: 5, KeysTotal: 5},
	}
	s := &screen{now: func() time.Time { return now }, head: []string{row("rpc", "http://127.0.0.1:9332")}}
	var got strings.Builder
	for _, l := range s.render(status) {
		for _, colour := range []string{bold, dim, green, yellow, red, plain} {
			l = strings.ReplaceAll(l, colour, "")
		}
		got.WriteString(l + "\n")
	}
	want := `qcity devnet  network abababab…abababab  up 1m36s
rpc         http://127.0.0.1:9332

tip         34  00000000…00000000  mined  2s ago
slot        40 after 5 more blocks, validator 4 in turn
last slots  3 F 3 (validator of each, F = mined)
finality    final slot 20, certified slot 30, signed slot 30
signer      connected, 5 of 5 keys ready
CPU miner   4.61 MH/s
blocks      31 mined, 2 signed, 1 fallback here; 0 stale, 0 rejected
mempool     0 transactions, 0 bytes
Stratum     127.0.0.1:3333, 0 connected
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
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
