package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	firmwareapi "qcitycoin.org/qcity/firmware-api"
)

// ANSI sequences of the status screen.
const (
	ansiEnter = "\x1b[?1049h\x1b[?25l" // alternate screen, cursor off
	ansiLeave = "\x1b[?25h\x1b[?1049l"
	ansiHome  = "\x1b[H"
	ansiEOL   = "\x1b[K"
	ansiEOS   = "\x1b[J"
	bold      = "\x1b[1m"
	dim       = "\x1b[2m"
	green     = "\x1b[32m"
	yellow    = "\x1b[33m"
	red       = "\x1b[31m"
	plain     = "\x1b[0m"
)

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

// tailLines is how many lines a tail keeps.
const tailLines = 50

// logHead is how slog's text handler begins a line.
var logHead = regexp.MustCompile(`^time=\S*T(\d\d:\d\d:\d\d)\S* level=(\S+) msg=`)

// Write takes whole lines, as slog's handlers write them, and shortens them to
// what a narrow screen has room for.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		line = logHead.ReplaceAllString(strings.TrimRight(line, "\n"), "$1 $2 ")
		t.lines = append(t.lines, strings.Replace(line, " INFO ", " ", 1))
	}
	t.lines = t.lines[max(0, len(t.lines)-tailLines):]
	return len(p), nil
}

func (t *tail) last(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines[max(0, len(t.lines)-max(0, n)):]...)
}

// screen draws the status on a terminal, over the last drawing.
type screen struct {
	w    io.Writer
	size func() (width, height int)
	logs *tail
	now  func() time.Time
	head []string // what never changes: addresses and files
}

func (s *screen) draw(st *firmwareapi.Status) error {
	width, height := s.size()
	lines := s.render(st)
	room := height - len(lines) - 2
	if logs := s.logs.last(room); room > 1 && len(logs) > 0 {
		lines = append(lines, "", dim+"Log"+plain)
		for _, l := range logs[max(0, len(logs)-room+1):] {
			lines = append(lines, dim+clip(l, width)+plain)
		}
	}
	var b strings.Builder
	b.WriteString(ansiHome)
	for i, l := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(clip(l, width) + ansiEOL)
	}
	b.WriteString(ansiEOS)
	_, err := io.WriteString(s.w, b.String())
	return err
}

// clip cuts a line to width columns; colour sequences take none.
func clip(line string, width int) string {
	var b strings.Builder
	column, escape := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case r < ' ':
			continue // a peer's name must not move the cursor
		default:
			if column++; column > width {
				continue
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// render turns a status into lines.
func (s *screen) render(st *firmwareapi.Status) []string {
	up := time.Duration(st.UptimeSeconds) * time.Second
	lines := []string{
		fmt.Sprintf("%sqcity %s%s  network %s  up %s", bold, st.Network.Name, plain, short(st.Network.ID), up),
	}
	// First of all: a small screen has no room for the rest.
	for _, a := range st.Alerts {
		colour := yellow
		if a.Level == "error" {
			colour = red
		}
		lines = append(lines, colour+"! "+printable(a.Message)+plain)
	}
	lines = append(lines, s.head...)
	lines = append(lines, "")
	if t := st.Tip; t != nil {
		lines = append(lines, row("tip", "%s%d%s  %s  %s  %s", bold, t.Height, plain, short(t.ID), kindText(t.Type, t.Signer), s.ago(t.Time)))
	}
	lines = append(lines, row("slot", "%s", s.slotText(st.Slot)), row("last slots", "%s", strip(st.LastSlots)))
	lines = append(lines, row("finality", "%s", finalityText(&st.Finality)))
	lines = append(lines, row("signer", "%s", signerText(&st.Signer)))
	lines = append(lines,
		row("CPU miner", "%s", hashRate(st.HashRate)),
		row("blocks", "%d mined, %d signed, %d fallback here; %d stale, %d rejected", st.Blocks.Mined, st.Blocks.Signed, st.Blocks.Fallback, st.Blocks.Stale, st.Blocks.Rejected),
		row("mempool", "%d transactions, %d bytes", st.Mempool.Transactions, st.Mempool.Bytes),
		row("Stratum", "%s, %d connected", orOff(st.Stratum.Address), st.Stratum.Connected))
	for _, m := range st.Miners {
		lines = append(lines, fmt.Sprintf("  %-20s %12s  %d accepted, %d rejected, difficulty %.6g  %s",
			printable(m.Worker), hashRate(m.HashRate), m.Accepted, m.Rejected, m.Difficulty, printable(m.Agent)))
	}
	return lines
}

// printable drops what commands a terminal: names come from strangers.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

func row(name, format string, args ...any) string {
	return fmt.Sprintf("%-11s ", name) + fmt.Sprintf(format, args...)
}

func orOff(s string) string {
	if s == "" {
		return "off"
	}
	return s
}

func short(id string) string {
	if utf8.RuneCountInString(id) <= 16 {
		return id
	}
	return id[:8] + "…" + id[len(id)-8:]
}

func kindText(kind string, signer *int) string {
	if signer != nil {
		return fmt.Sprintf("%ssigned by validator %d%s", green, *signer, plain)
	}
	if kind == "fallback" {
		return yellow + "fallback (mined)" + plain
	}
	return kind
}

func (s *screen) ago(stamp string) string {
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s ago", max(0, s.now().Sub(t).Truncate(time.Second)))
}

func (s *screen) slotText(sl *firmwareapi.Slot) string {
	if sl == nil {
		return ""
	}
	switch sl.State {
	case firmwareapi.SlotOpen:
		left := ""
		if t, err := time.Parse(time.RFC3339, *sl.ClosesAt); err == nil {
			left = fmt.Sprintf(", miners may take it in %s", max(0, t.Sub(s.now()).Truncate(time.Second)))
		}
		return fmt.Sprintf("%d open, validator %d in turn%s", sl.Height, sl.InTurn, left)
	case firmwareapi.SlotFallback:
		return fmt.Sprintf("%s%d missed: validators or miners, whoever is first%s", yellow, sl.Height, plain)
	}
	return fmt.Sprintf("%d after %d more blocks, validator %d in turn", sl.Height, sl.BlocksUntil, sl.InTurn)
}

// finalityText shows up to which slot the chain is how certain.
func finalityText(f *firmwareapi.Finality) string {
	up := func(to uint32) string {
		if to == 0 {
			return "none yet"
		}
		return fmt.Sprintf("slot %d", to)
	}
	return fmt.Sprintf("final %s, certified %s, signed %s", up(f.Final), up(f.Certified), up(f.Signed))
}

// strip shows who signed the last slots, oldest left; F is a fallback block.
func strip(slots []firmwareapi.PastSlot) string {
	if len(slots) == 0 {
		return "none yet"
	}
	var b strings.Builder
	for i := len(slots) - 1; i >= 0; i-- {
		if slots[i].Signer != nil {
			fmt.Fprintf(&b, "%s%d%s ", green, *slots[i].Signer, plain)
		} else {
			b.WriteString(yellow + "F" + plain + " ")
		}
	}
	return b.String() + dim + "(validator of each, F = mined)" + plain
}

func signerText(s *firmwareapi.SignerStatus) string {
	if s.KeysTotal == 0 && s.Error == "" && !s.Connected {
		return "none"
	}
	state := green + "connected" + plain
	if !s.Connected {
		state = red + "not connected" + plain
	}
	return fmt.Sprintf("%s, %d of %d keys ready", state, s.KeysReady, s.KeysTotal)
}
