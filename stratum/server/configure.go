package server

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum"
)

// configure answers BIP 310 extensions; an unknown one is false, not an error.
func (s *session) configure(now time.Time, id stratum.Raw, params []stratum.Raw) {
	var names []string
	var options map[string]json.RawMessage
	if len(params) == 0 || json.Unmarshal(params[0], &names) != nil ||
		len(params) > 1 && json.Unmarshal(params[1], &options) != nil {
		s.refuse(id, stratum.Errorf(stratum.CodeOther, "mining.configure needs a list of extensions and an object of their options"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	result := map[string]any{}
	before, had := s.mask, s.negotiated
	for _, name := range names {
		switch name {
		case "version-rolling":
			s.rollVersions(result, options)
		case "minimum-difficulty":
			d, ok := stratum.Raw(options["minimum-difficulty.value"]).Number()
			d, clean := stratum.CleanDifficulty(d)
			result[name] = ok && clean
			if ok && clean {
				s.wish(now, atLeast, d)
			}
		case "subscribe-extranonce":
			result[name] = true
			s.changes = true
		case "info":
			result[name] = true
			s.info = deviceInfo(options)
		default:
			result[name] = false
		}
	}
	text, err := json.Marshal(result)
	if err != nil { // names come from valid JSON and values are booleans and hex
		text = []byte("{}")
	}
	s.answer(id, string(text))
	if s.mask != before && s.mask != 0 && (s.working || had) { // BIP 310 announces a change
		s.outBuf(stratum.AppendSetVersionMask(s.buf(), s.mask))
	}
}

// rollVersions grants the requested bits that the chain ignores. BIP 310 tells
// a server not to turn a miner away that gets fewer bits than its
// min-bit-count: it can still work, slower.
func (s *session) rollVersions(result map[string]any, options map[string]json.RawMessage) {
	asked := ^uint32(0)
	if text, ok := stratum.Raw(options["version-rolling.mask"]).Text(); ok {
		m, err := stratum.ParseUint32(text)
		if err != nil {
			result["version-rolling"] = "version-rolling.mask is not hex"
			return
		}
		asked = m
	}
	s.mask, s.negotiated = asked&work.VersionMask, true
	result["version-rolling"] = s.mask != 0
	result["version-rolling.mask"] = fmt.Sprintf("%08x", s.mask)
	if want, ok := stratum.Raw(options["version-rolling.min-bit-count"]).Number(); ok && want > float64(bits.OnesCount32(s.mask)) {
		s.srv.log.Info("stratum: a miner asked for more version bits than it may roll",
			"remote", s.remote, "wanted", want, "mask", fmt.Sprintf("%08x", s.mask))
	}
}

// deviceInfo gathers what a device says of itself (BIP 310 "info").
func deviceInfo(options map[string]json.RawMessage) string {
	var parts []string
	for _, name := range [...]string{"hw-version", "sw-version", "hw-id", "connection-url"} {
		if text, ok := stratum.Raw(options["info."+name]).Text(); ok && len(text) > 0 {
			parts = append(parts, name+"="+printable(text, maxAgent))
		}
	}
	return strings.Join(parts, " ")
}
