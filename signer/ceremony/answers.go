package ceremony

import (
	"fmt"
	"strings"
)

// Answers are what a file says instead of persons: for tests and rehearsals.
type Answers map[string]string

// AsShown stands for whatever the screen asks for.
const AsShown = "@"

// ParseAnswers reads lines "STEP = ANSWER", where STEP is a step's id or * for all
// others and ANSWER is a text or @, whatever is asked for. # begins a comment.
func ParseAnswers(text string) (Answers, error) {
	out := Answers{}
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		step, answer, ok := strings.Cut(line, "=")
		step = strings.TrimSpace(step)
		if _, twice := out[step]; !ok || step == "" || twice {
			return nil, fmt.Errorf("answers, line %d: want STEP = ANSWER, each step once", n)
		}
		out[step] = strings.TrimSpace(answer)
	}
	return out, nil
}

// For returns the answer to a question; none if the file has none.
func (a Answers) For(q Question) string {
	answer, ok := a[q.Step.ID]
	if !ok {
		answer = a["*"]
	}
	if answer == AsShown {
		return q.Expect
	}
	return answer
}

// sameWords compares what was typed: case and spacing do not matter.
func sameWords(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}
