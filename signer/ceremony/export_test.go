package ceremony

// SetHook calls f between the parts of every step.
func (c *Ceremony) SetHook(f func(point, step string)) {
	c.hook = func(point string, s Step) { f(point, s.ID) }
}

// Reseal gives an entry the hash it should have.
func Reseal(e Entry) Entry { e.Hash = e.seal(); return e }

// EncodeEntry returns the line of an entry, without its end.
func EncodeEntry(e Entry) []byte { return e.encode() }

// HasStarted reports whether a step writes a line before it changes a token.
func HasStarted(s Step) bool { return s.action == actInit || s.action == actGenerate }
