package bench

import (
	"regexp"
	"strings"
	"unicode"
)

// What is kept of a foreign program's output, which may be anything: enough to
// show where something went wrong.
const (
	keptLines  = 4
	keptLength = 160 // of a line, in bytes
	lineLimit  = 4096
)

// output reads what a foreign miner writes, line by line.
type output struct {
	pattern  *regexp.Regexp // nil: the usual forms
	readings []reading
	last     []string // lines that are not empty
	line     []byte   // the beginning of one that has not ended
}

// Write takes the next piece. It never fails.
func (o *output) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' || b == '\r' { // some write over their line
			o.end()
		} else if len(o.line) < lineLimit {
			o.line = append(o.line, b)
		}
	}
	return len(p), nil
}

// end takes what there is as a line.
func (o *output) end() {
	line := colourText.ReplaceAllString(string(o.line), "")
	o.line = o.line[:0]
	line = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, line))
	if line == "" {
		return
	}
	if r, ok := read(line, o.pattern); ok {
		o.readings = append(o.readings, r)
	}
	if len(line) > keptLength {
		line = strings.ToValidUTF8(line[:keptLength], "") + "…"
	}
	if o.last = append(o.last, line); len(o.last) > keptLines {
		o.last = o.last[1:]
	}
}

// said quotes the last lines, in one.
func (o *output) said() string {
	if len(o.last) == 0 {
		return "it printed nothing"
	}
	return "it printed last: " + strings.Join(o.last, " ⏎ ")
}
