package rpc

import (
	"fmt"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// TestVoteVerdicts: a broken rule, a vote that comes too early and a failure of
// this node are three different answers.
func TestVoteVerdicts(t *testing.T) {
	f := newFaked(t)
	g := chaingen.New(t, chaingen.Params())
	g.Fill("a", 10)
	vote := g.Vote("genesis", "a10", 2)
	bodies := map[string][]byte{
		"submitattestation": vote.AppendTo(nil),
		"submitcertificate": g.Certificate("genesis", "a10", 0, 1, 4).AppendTo(nil),
		"submitsetchange":   g.SetChange(chaingen.PublicKeys(types.P256, 0, 1, 2), 0, 1, 2).AppendTo(nil),
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&consensus.RuleError{Rule: consensus.RuleVoteFloor, Detail: "too old"}, `"code":-26,"message":"vote-floor: too old"`},
		{fmt.Errorf("%w: abc", ErrTooEarly), `"code":-25,"message":"too early for this vote: abc"`},
		{errDisk, `"code":-32603,"message":"input/output error"`},
	} {
		f.chain = genesisChain{f.chain.Network(), c.err}
		for method, body := range bodies {
			got := f.post(t.Context(), fmt.Sprintf(`{"method":%q,"params":["%x"]}`, method, body)).Body.String()
			if !strings.Contains(got, c.want) {
				t.Errorf("%s with %v: %s, want %s", method, c.err, got, c.want)
			}
		}
	}
}
