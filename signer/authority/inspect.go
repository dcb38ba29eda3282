package authority

import (
	"fmt"
	"slices"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// Inspection is what a proposal says, for people and programs.
type Inspection struct {
	Proposal     types.Hash `json:"proposal"` // its id
	Network      types.Hash `json:"network"`
	NetworkName  string     `json:"networkName"`
	Number       uint32     `json:"number"` // of the new set
	NextID       types.Hash `json:"nextId"`
	Fingerprint  string     `json:"fingerprint"` // of the new set
	Reason       string     `json:"reason"`
	Created      Time       `json:"created"`
	Steps        []Step     `json:"steps"`
	HandsOver    bool       `json:"handsOver"` // the keys that stay are no majority of the new set
	Before       int        `json:"validatorsBefore"`
	After        int        `json:"validatorsAfter"`
	Need         int        `json:"need"`
	Signed       []int      `json:"signed"`   // indexes of validators
	Scripted     []int      `json:"scripted"` // those of them whose people's answers came from a file
	Missing      []int      `json:"missing"`  // who could still sign
	Disabled     []int      `json:"disabled"` // whose signatures do not count
	Complete     bool       `json:"complete"`
	Chain        Timing     `json:"chain"`
	QuorumAfter  int        `json:"certifyQuorumAfter"` // to certify a slot under the new set
	FinalAfter   int        `json:"finalQuorumAfter"`   // to make one final
	EarliestWait Seconds    `json:"earliestWaitSeconds"`

	step uint32
}

// Seconds is a duration that JSON has in seconds.
type Seconds int64

func (s Seconds) String() string {
	switch {
	case s < 120:
		return fmt.Sprintf("%d seconds", int64(s))
	case s < 120*60:
		return fmt.Sprintf("%d minutes", int64(s+30)/60)
	}
	return fmt.Sprintf("%d hours", int64(s+1800)/3600)
}

// Step is one part of a change.
type Step struct {
	Kind string           `json:"kind"`           // add, remove, replace, move
	From *int             `json:"from,omitempty"` // index in the set in force
	To   *int             `json:"to,omitempty"`   // index in the new set
	Old  *types.PublicKey `json:"old,omitempty"`
	New  *types.PublicKey `json:"new,omitempty"`
}

func (s *Step) String() string {
	switch s.Kind {
	case "add":
		return fmt.Sprintf("add key %s as validator %d", s.New, *s.To)
	case "remove":
		return fmt.Sprintf("remove validator %d, key %s", *s.From, s.Old)
	case "replace":
		return fmt.Sprintf("hand over validator %d: %s → %s", *s.To, s.Old, s.New)
	}
	return fmt.Sprintf("move key %s from validator %d to %d", s.Old, *s.From, *s.To)
}

// Inspect says what a proposal does.
func Inspect(n *consensus.Network, p *Proposal) *Inspection {
	r := p.Request(0, Authorisation{})
	in := &Inspection{
		Proposal: p.ID(), Network: p.Network, NetworkName: n.Name, Number: p.Next().Number,
		NextID: p.Next().ID(), Fingerprint: Fingerprint(p.Next()),
		Reason: p.Reason, Created: p.Created, Steps: steps(p.Current.Keys, p.Keys), HandsOver: r.HandsOver(),
		Before: len(p.Current.Keys), After: len(p.Keys), Need: p.Need(), Complete: p.Complete(),
		Signed: []int{}, Scripted: []int{}, Missing: []int{}, Disabled: []int{},
		Chain: p.Chain, QuorumAfter: consensus.CertifyQuorum(len(p.Keys)), FinalAfter: consensus.FinalQuorum(len(p.Keys)),
		EarliestWait: Seconds(uint64(p.Chain.Effective-p.Chain.Tip) * uint64(n.IntervalSeconds)), step: n.N,
	}
	for _, s := range p.Signatures {
		in.Signed = append(in.Signed, int(s.Index))
		if s.Scripted {
			in.Scripted = append(in.Scripted, int(s.Index))
		}
	}
	for i, k := range p.Current.Keys {
		switch {
		case slices.Contains(p.Disabled, k):
			in.Disabled = append(in.Disabled, i)
		case !slices.Contains(in.Signed, i):
			in.Missing = append(in.Missing, i)
		}
	}
	return in
}

// steps lists what leads from one set to the other: replacements first, then
// additions, removals and moves, each by index. A seat whose key goes and whose
// number another key gets that was not there before is handed over.
func steps(current, next []types.PublicKey) []Step {
	var replace, add, remove, move []Step
	for j, k := range next {
		to, i := j, slices.Index(current, k)
		switch {
		case i == j:
		case i >= 0:
			move = append(move, Step{Kind: "move", From: &i, To: &to, Old: &k})
		case j < len(current) && !slices.Contains(next, current[j]):
			replace = append(replace, Step{Kind: "replace", From: &to, To: &to, Old: &current[j], New: &k})
		default:
			add = append(add, Step{Kind: "add", To: &to, New: &k})
		}
	}
	for i, k := range current {
		if slices.Contains(next, k) || i < len(next) && !slices.Contains(current, next[i]) {
			continue
		}
		from := i
		remove = append(remove, Step{Kind: "remove", From: &from, Old: &k})
	}
	return slices.Concat([]Step{}, replace, add, remove, move)
}

// String returns the words.
func (in *Inspection) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Change of the validators of network %s, %s", in.NetworkName, in.Network)
	line("  proposal     %s", in.Proposal)
	line("  made         %s", in.Created)
	line("  reason       %s", in.Reason)
	line("  new set      number %d, %s", in.Number, in.NextID)
	line("  fingerprint  %s", in.Fingerprint)
	line("\nIt would")
	for _, s := range in.Steps {
		line("  - %s", s.String())
	}
	line("%s.", in.sizes())
	if in.HandsOver {
		line("AUTHORITY IS HANDED OVER: the keys that stay are no majority of the new set.")
	}
	line("\n%s", in.Progress())
	line("\n%s", in.Effect())
	return b.String()
}

func (in *Inspection) sizes() string {
	text := fmt.Sprintf("%d validators stay %d", in.Before, in.After)
	if in.Before != in.After {
		text = fmt.Sprintf("%d validators become %d", in.Before, in.After)
	}
	return fmt.Sprintf("%s. Under the new set a certified slot takes the votes of %d, a final one of %d", text, in.QuorumAfter, in.FinalAfter)
}

// Progress says who signed and who did not.
func (in *Inspection) Progress() string {
	text := fmt.Sprintf("Needs %d of %d signatures; signed by %s; missing %s", in.Need, in.Before, numbers(in.Signed), numbers(in.Missing))
	if len(in.Disabled) > 0 {
		text += "; disabled, so that its signature does not count: " + numbers(in.Disabled)
	}
	if len(in.Scripted) > 0 {
		text += "; confirmed by a file of answers, not at a terminal: " + numbers(in.Scripted)
	}
	if in.Complete {
		return text + ". COMPLETE: it can be submitted."
	}
	return text + "."
}

// Effect says what the chain does with the change, and when.
func (in *Inspection) Effect() string {
	c, n := in.Chain, in.step
	return fmt.Sprintf(`It takes effect when a signed block carries it, at height %d or a later slot (seen from height %d). On every
slot after that both sets vote, and a decision takes a majority of each; blocks are signed by the old set. Once
the chain has proof that the carrying slot is final the new set signs and votes alone: from height %d at the
earliest, about %s after the proposal. If nothing becomes final, 36 certified slots above the carrying one do
instead: from height %d. Heights move by %d with each slot that passes before it is carried.`,
		c.Carrier, c.Tip, c.Effective, in.EarliestWait, c.ByDepth, n)
}

func numbers(list []int) string {
	if len(list) == 0 {
		return "nobody"
	}
	text := make([]string, len(list))
	for i, v := range list {
		text[i] = fmt.Sprint(v)
	}
	return strings.Join(text, ", ")
}
