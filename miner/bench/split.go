package bench

import (
	"errors"
	"strings"
)

// Split cuts a command line into words as a POSIX shell does: blanks separate,
// single and double quotes and the backslash keep together. Variables, patterns
// and all else that a shell replaces stay as they are.
func Split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	begun := false // "" is a word, nothing is none
	var quote rune // the one that is open, or 0
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			// Within double quotes the backslash is special before a few only.
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				word.WriteRune('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, begun = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	switch {
	case quote != 0:
		return nil, errors.New("a quotation mark has no partner: add " + string(quote))
	case escaped:
		return nil, errors.New("it ends with a backslash: leave that out, or double it")
	case begun:
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errors.New("it names no program")
	}
	return words, nil
}
