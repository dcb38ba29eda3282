package interchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// members are all names there are, in their exact case.
var members = map[string]bool{
	"metadata": true, "keys": true, "format": true, "version": true, "network": true, "journal": true, "strategy": true,
	"publicKey": true, "floor": true, "blocks": true, "votes": true, "setChanges": true, "height": true, "number": true,
	"digest": true, "signature": true, "source": true, "target": true, "set": true, "id": true,
}

// checkMembers refuses what encoding/json lets pass: a name twice in an object, a name
// or digits in another case, and null for a member that is left out.
func checkMembers(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	type level struct {
		names map[string]bool // nil: an array
		value bool            // the next token is a member's value
	}
	var open []level
	done := func() {
		if n := len(open); n > 0 {
			open[n-1].value = false
		}
	}
	for {
		token, err := dec.Token()
		if err == io.EOF && len(open) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("no JSON document: %w", err)
		}
		switch token {
		case nil:
			return errors.New("null is no value: leave the field out")
		case json.Delim('{'):
			open = append(open, level{names: make(map[string]bool)})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			done()
			if len(open) == 0 && dec.More() {
				return errors.New("something follows the document")
			}
			continue
		}
		n := len(open)
		if n == 0 || open[n-1].names == nil || open[n-1].value {
			if text, _ := token.(string); strings.ToLower(text) != text {
				return fmt.Errorf("%.80q: digits and words are in lower case", text)
			}
			done()
			continue
		}
		name, _ := token.(string)
		if !members[name] {
			return fmt.Errorf("field %q is not one of this format", name)
		}
		if open[n-1].names[name] {
			return fmt.Errorf("field %q occurs twice in an object", name)
		}
		open[n-1].names[name], open[n-1].value = true, true
	}
}
