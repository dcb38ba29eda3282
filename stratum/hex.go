package stratum

import "fmt"

// hexDigit returns the value of a hex digit, or 255.
func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// ParseUint32 reads a big-endian hex field (nonce, time, version, job id) of
// either case. Old firmware sends fields that are too long, of which the first
// 8 digits count, or without their leading zeros.
func ParseUint32(text []byte) (uint32, error) {
	if len(text) == 0 {
		return 0, fmt.Errorf("empty hex field")
	}
	var v uint32
	for i, c := range text {
		d := hexDigit(c)
		if d > 15 {
			return 0, fmt.Errorf("%.16q is not hex", text)
		}
		if i < 8 {
			v = v<<4 | uint32(d)
		}
	}
	return v, nil
}

// ParseBytes reads hex of either case into dst. Text that is too long is cut
// and text that is too short counts as followed by zeros, as ckpool does: both
// come from firmware that ignores the announced extranonce2 size.
func ParseBytes(dst, text []byte) error {
	if len(text)%2 != 0 {
		return fmt.Errorf("%.40q has an odd number of hex digits", text)
	}
	clear(dst)
	for i := 0; i < len(text); i += 2 {
		hi, lo := hexDigit(text[i]), hexDigit(text[i+1])
		if hi > 15 || lo > 15 {
			return fmt.Errorf("%.40q is not hex", text)
		}
		if i/2 < len(dst) {
			dst[i/2] = hi<<4 | lo
		}
	}
	return nil
}
