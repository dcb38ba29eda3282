package configs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Error is what is wrong in a file, and where. Line and Column count from 1.
type Error struct {
	File   string
	Line   int
	Column int
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// decodeFile reads a TOML file into v. Keys that v does not have are errors.
func decodeFile(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return decode(path, data, v)
}

// Decode reads the TOML text of a file called name into v, as strictly as this
// package reads its own files: errors are an *Error with line and column.
func Decode(name string, text []byte, v any) error { return decode(name, text, v) }

// At returns the error that the value of a key in a file cannot work, at its place
// or, if it is missing, that of its table. The n-th [[table]] of an array, from 0,
// is called "table[n]".
func At(name string, text []byte, key []string, reason string) *Error {
	line, column := locate(text, key)
	return &Error{name, line, column, reason}
}

func decode(name string, data []byte, v any) error {
	md, err := toml.Decode(string(data), v)
	if err != nil {
		return position(name, data, err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		line, column := locate(data, unknown[0])
		return &Error{name, line, column, fmt.Sprintf("unknown key %q: remove it or correct its spelling", unknown[0].String())}
	}
	return nil
}

// plainError is how the library reports a value of the wrong type: as text,
// with a line but without a column.
var plainError = regexp.MustCompile(`^toml: line (\d+) \(last key "(.*?)"\): (.*)$`)

func position(name string, data []byte, err error) error {
	var p toml.ParseError
	if errors.As(err, &p) {
		start := max(0, min(p.Position.Start, len(data)))
		column := start - (bytes.LastIndexByte(data[:start], '\n') + 1) + 1
		reason := p.Message
		if p.LastKey != "" {
			reason = p.LastKey + ": " + reason
		}
		return &Error{name, max(1, p.Position.Line), column, reason}
	}
	if m := plainError.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return &Error{name, line, valueColumn(data, line), m[2] + ": " + m[3]}
	}
	return &Error{name, 1, 1, strings.TrimPrefix(err.Error(), "toml: ")}
}

// valueColumn returns the column of the first value on a line.
func valueColumn(data []byte, line int) int {
	lines := strings.Split(string(data), "\n")
	if line < 1 || line > len(lines) {
		return 1
	}
	text := lines[line-1]
	i := strings.IndexByte(text, '=') + 1
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}
	return i + 1
}

// locate finds where a key is written, or else the table it is missing from. The
// library keeps no positions of keys it did not decode.
func locate(data []byte, key toml.Key) (line, column int) {
	if len(key) == 0 {
		return 1, 1 // a table without a name, or no table
	}
	table, leaf := strings.Join(key[:len(key)-1], "."), key[len(key)-1]
	current, element, count := "", "", map[string]int{}
	for i, text := range strings.Split(string(data), "\n") {
		trimmed := strings.TrimSpace(text)
		if strings.HasPrefix(trimmed, "[") {
			current = strings.Trim(strings.SplitN(trimmed, "#", 2)[0], "[] \t")
			element = ""
			if strings.HasPrefix(trimmed, "[[") {
				element = fmt.Sprintf("%s[%d]", current, count[current])
				count[current]++
			}
			if current == key.String() || element == leaf && table == "" {
				return i + 1, strings.IndexByte(text, '[') + 1
			}
			continue
		}
		name, _, ok := strings.Cut(trimmed, "=")
		name = strings.Trim(strings.TrimSpace(name), `"'`)
		if ok && (((current == table || element == table && table != "") && name == leaf) || (current == "" && name == key.String())) {
			return i + 1, strings.Index(text, name) + 1
		}
	}
	return locate(data, key[:len(key)-1])
}
