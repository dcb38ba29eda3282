package load

import "bytes"

// message is one line of a pool: the raw JSON of the members that matter, as
// slices of the line. It is cut, not validated: at ten thousand lines for each
// job the tool must cost less than the pool it measures, and a pool's
// validity is not what it measures.
type message struct {
	id, method, params, result, err []byte
}

// cut fills m from a line and reports whether the line is an object with
// members that can be told apart.
func (m *message) cut(line []byte) bool {
	*m = message{}
	w := walker{b: line}
	if w.skipBlanks() != '{' {
		return false
	}
	for w.i++; ; {
		switch w.skipBlanks() {
		case '}':
			return true
		case ',':
			w.i++
			continue
		case '"':
		default:
			return false
		}
		key, ok := w.value()
		if !ok || w.skipBlanks() != ':' {
			return false
		}
		w.i++
		w.skipBlanks()
		v, ok := w.value()
		if !ok {
			return false
		}
		switch string(key) {
		case `"id"`:
			m.id = v
		case `"method"`:
			m.method = v
		case `"params"`:
			m.params = v
		case `"result"`:
			m.result = v
		case `"error"`:
			m.err = v
		}
	}
}

// walker walks JSON text value by value.
type walker struct {
	b []byte
	i int
}

// elements returns a walker for the elements of an array, which next yields.
func elements(array []byte) walker {
	w := walker{b: array}
	if w.skipBlanks() == '[' {
		w.i++
	} else {
		w.i = len(array)
	}
	return w
}

// next returns the next element of the array the walker is in.
func (w *walker) next() ([]byte, bool) {
	if w.skipBlanks() == ',' {
		w.i++
		w.skipBlanks()
	}
	if w.i >= len(w.b) || w.b[w.i] == ']' {
		return nil, false
	}
	return w.value()
}

// skipBlanks moves to the next byte that is no blank and returns it, 0 at the end.
func (w *walker) skipBlanks() byte {
	for ; w.i < len(w.b); w.i++ {
		switch c := w.b[w.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// value returns the value that begins here.
func (w *walker) value() ([]byte, bool) {
	if w.i >= len(w.b) {
		return nil, false
	}
	from := w.i
	switch w.b[from] {
	case '"':
		if !w.skipString() {
			return nil, false
		}
	case '[', '{':
		if !w.skipNested() {
			return nil, false
		}
	default:
		for w.i < len(w.b) && !endsScalar(w.b[w.i]) {
			w.i++
		}
		if w.i == from {
			return nil, false
		}
	}
	return w.b[from:w.i], true
}

func endsScalar(c byte) bool {
	switch c {
	case ',', '}', ']', ':', ' ', '\t', '\r', '\n', '"', '[', '{':
		return true
	}
	return false
}

func (w *walker) skipString() bool {
	for w.i++; ; {
		n := bytes.IndexByte(w.b[w.i:], '"')
		if n < 0 {
			return false
		}
		w.i += n + 1
		escapes := 0
		for j := w.i - 2; w.b[j] == '\\'; j-- {
			escapes++ // ends at the opening quote at the latest
		}
		if escapes%2 == 0 {
			return true
		}
	}
}

// skipNested skips an array or object. Brackets are counted, not paired.
func (w *walker) skipNested() bool {
	for depth := 0; w.i < len(w.b); {
		switch w.b[w.i] {
		case '"':
			if !w.skipString() {
				return false
			}
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		w.i++
		if depth == 0 {
			return true
		}
	}
	return false
}

// text returns the contents of a JSON string without undoing escapes: no field
// that is used has any.
func text(v []byte) []byte {
	if len(v) >= 2 && v[0] == '"' {
		return v[1 : len(v)-1]
	}
	return nil
}

func null(v []byte) bool { return len(v) == 0 || string(v) == "null" }
