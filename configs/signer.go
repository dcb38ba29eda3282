package configs

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// rules are those of the link between node and signer.
func (s *Signer) rules() []rule {
	linked := s.Listen != "" || len(s.Nodes) > 0
	rules := []rule{
		{toml.Key{"signer", "listen"}, s.Listen == "" || validListen(s.Listen), "want host:port, for example 0.0.0.0:9340, or \"\" to switch it off"},
		{toml.Key{"signer", "pins"}, s.Listen == "" || len(s.Pins) > 0, "listen needs the pin of at least one signer, as `qcity signer identity` prints it"},
		{toml.Key{"signer", "identity"}, !linked || s.Identity != "", "a link needs an identity: name a file and make it with `qcity node identity` or `qcity signer identity`"},
	}
	for i, p := range s.Pins {
		rules = append(rules, rule{toml.Key{"signer", "pins"}, validPin(p), fmt.Sprintf("%q is no pin: want ed25519: and 64 hexadecimal digits in lower case", p)})
		for _, other := range s.Pins[:i] {
			rules = append(rules, rule{toml.Key{"signer", "pins"}, p != other, "a pin is listed twice"})
		}
	}
	for i, n := range s.Nodes {
		rules = append(rules,
			rule{toml.Key{"signer", "nodes", "dial"}, validListen(n.Dial), fmt.Sprintf("node %d: want host:port, the signer.listen of a node", i+1)},
			rule{toml.Key{"signer", "nodes", "pin"}, validPin(n.Pin), fmt.Sprintf("node %d: %q is no pin: want ed25519: and 64 hexadecimal digits in lower case, as `qcity node identity` prints them", i+1, n.Pin)},
		)
		for _, other := range s.Nodes[:i] {
			rules = append(rules, rule{toml.Key{"signer", "nodes"}, n.Dial != other.Dial, fmt.Sprintf("%s is listed twice", n.Dial)})
		}
	}
	return rules
}

// validPin knows the form of a pin; whether it is a key shows when it is used.
func validPin(s string) bool {
	digits, ok := strings.CutPrefix(s, "ed25519:")
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 32 && digits == strings.ToLower(digits) && strings.Trim(digits, "0") != ""
}
