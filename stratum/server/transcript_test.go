package server

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// notHere are the rows of the list of device quirks that do not concern a V1
// server; testdata/README.md says why.
var notHere = []int{30, 40, 41, 42, 43}

// TestTranscripts replays the conversations in testdata, which its README.md
// explains: what devices say, and every byte that must come back.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[int]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		row, err := strconv.Atoi(filepath.Base(file)[:2])
		if err != nil {
			t.Fatalf("%s: a transcript's name begins with the row of its quirk", file)
		}
		rows[row] = true
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if !regexp.MustCompile(`^# Row ` + strconv.Itoa(row) + `: .+; .+ \(.+\)\.$`).MatchString(lines[0]) {
			t.Errorf("%s begins with %q, not with its row, the devices and the source", file, lines[0])
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replay(t, lines) })
		})
	}
	for row := 1; row <= 43; row++ {
		if rows[row] == slices.Contains(notHere, row) {
			t.Errorf("row %d: transcript %v", row, rows[row])
		}
	}
}

// transcripts returns every conversation's text.
func transcripts(t testing.TB) (texts []string) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// pattern turns an expected line into a regular expression. $JOB and the like
// stand for a value that differs each time; $JOBa, with a small letter, is the
// same value wherever it stands.
func (p *play) pattern(line string) *regexp.Regexp {
	expr := regexp.QuoteMeta(p.fill(line))
	expr = placeholder.ReplaceAllStringFunc(expr, func(name string) string {
		m := placeholder.FindStringSubmatch(name)
		value := map[string]string{
			"E1": `[0-9a-f]{8}(?:00000000)?`, "JOB": `[0-9a-f]{1,8}`, "PREV": `[0-9a-f]{64}`, "HASH": `[0-9a-f]{64}`, "TIME": `[0-9a-f]{8}`,
			"WORK": `"[0-9a-f]{64}","[0-9a-f]+","[0-9a-f]+",\[[^\]]*\],"20000000","1d00ffff"`,
		}[m[1]]
		if m[2] != "" {
			return "(?P<" + m[1] + m[2] + ">" + value + ")"
		}
		return value
	})
	return regexp.MustCompile("^" + expr + "$")
}

var placeholder = regexp.MustCompile(`\\?\$(E1|JOB|PREV|HASH|TIME|WORK)([a-z]?)`)

// fill puts in the values that have a name already.
func (p *play) fill(line string) string {
	return placeholder.ReplaceAllStringFunc(line, func(name string) string {
		if v, ok := p.named[strings.TrimLeft(name, `\$`)]; ok {
			return v
		}
		return name
	})
}
