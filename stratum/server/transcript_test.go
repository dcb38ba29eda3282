package server

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pattern turns an expected line into a regular expression.
func pattern(line string) *regexp.Regexp {
	p := regexp.QuoteMeta(line)
	for name, expr := range map[string]string{
		`\$E1`: `[0-9a-f]{8}`, `\$JOB`: `[0-9a-f]{1,8}`, `\$PREV`: `[0-9a-f]{64}`, `\$HASH`: `[0-9a-f]{64}`, `\$TIME`: `[0-9a-f]{8}`,
	} {
		p = strings.ReplaceAll(p, name, expr)
	}
	return regexp.MustCompile("^" + p + "$")
}

// TestTranscripts replays what devices say (lines with >) and compares every
// byte that comes back (lines with <, $NAME standing for a value that differs
// each time) up to the moment the server has nothing more to say. Each file
// belongs to one row of the list of device quirks that its first line names.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replay(t, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")) })
		})
	}
}

func replay(t *testing.T, script []string) {
	r := startRig(t, easyConfig())
	defer r.stop()
	r.publish(1, hard)
	conn := r.dial()
	in := bufio.NewReader(conn)
	quiet := func() { // at this point the server must have said all it has to say
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if rest, _ := io.ReadAll(in); len(rest) > 0 {
			t.Errorf("the server also said %q", rest)
		}
		_ = conn.SetReadDeadline(time.Time{})
	}
	burst := ""
	flush := func() {
		if burst != "" {
			if _, err := io.WriteString(conn, burst); err != nil {
				t.Fatalf("send: %v", err)
			}
			burst = ""
		}
	}
	for i, line := range script {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "> "):
			if i > 0 && strings.HasPrefix(script[i-1], "< ") {
				quiet()
			}
			burst += line[2:] + "\n"
		case strings.HasPrefix(line, ">hex "):
			burst += string(unhex(t, line[5:]))
		case strings.HasPrefix(line, "< "):
			flush()
			got, err := in.ReadString('\n')
			if got = strings.TrimRight(got, "\r\n"); err != nil || !pattern(line[2:]).MatchString(got) {
				t.Fatalf("line %d: server said %q (%v)\nwant %q", i+1, got, err, line[2:])
			}
		case line == "closed":
			flush()
			if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
				t.Errorf("instead of closing, the server said %q, %v", rest, err)
			}
			return
		default:
			t.Fatalf("line %d of the transcript: %q", i+1, line)
		}
	}
	quiet()
}
