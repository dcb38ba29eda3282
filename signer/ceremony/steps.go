package ceremony

import (
	"fmt"
	"strings"
)

// The roles of a step.
const (
	Administrator = "administrator"
	Operator      = "operator"
	Witness       = "witness"
	Custodians    = "custodians"
)

// action is what a step does.
type action int

const (
	actBegin action = iota
	actTokens
	actInit
	actGenerate
	actAttributes
	actAttest
	actProve
	actBackup
	actRestore
	actNetwork
	actRecords
	actEnd
)

// Step is one step of a ceremony as the plan prints it.
type Step struct {
	ID      string // "04-init-validator-0"
	Role    string // who confirms it
	Title   string
	Command string // what is asked of the token or the machine
	Expect  string // what is to be seen

	action    action
	validator int // index in Script.Validators, -1 for none
}

// Steps returns the steps of a script, which Check has accepted. It is all that
// plan, rehearsal, run and verification share, so that they cannot differ.
func Steps(s *Script) []Step {
	var out []Step
	add := func(a action, validator int, role, name, title, command, expect string) {
		id := fmt.Sprintf("%02d-%s", len(out)+1, name)
		out = append(out, Step{id, role, title, command, expect, a, validator})
	}
	each := func(a action, role, name, title string, command, expect func(Validator) string) {
		for i, v := range s.Validators {
			add(a, i, role, name+"-"+v.Token, fmt.Sprintf(title, v.Token), command(v), expect(v))
		}
	}
	text := func(format string) func(Validator) string {
		return func(v Validator) string {
			return strings.NewReplacer("{token}", v.Token, "{key}", v.Key, "{id}", v.ID, "{algorithm}", v.Algorithm).Replace(format)
		}
	}
	add(actBegin, -1, Witness, "begin", "script and program are those that were reviewed",
		"sha256sum of the script and of the program", "both hashes as in the printed plan")
	add(actTokens, -1, Administrator, "tokens", "factory state and serial numbers",
		"C_GetInfo, C_GetSlotList, C_GetTokenInfo", "a blank token for every validator; none that carries one of their labels")
	each(actInit, Operator, "init", "initialise token %s, with new PINs",
		text("C_InitToken({token}), C_InitPIN, C_Login"), text("label {token}, a serial number, no key in it"))
	each(actGenerate, Witness, "generate", "generate the key inside token %s",
		text("C_GenerateKeyPair({algorithm}, label {key}, id {id})"), text("a public key; generated here: yes, sensitive: always, extractable: never"))
	each(actAttributes, Witness, "attributes", "the key of token %s, read again",
		text("C_FindObjects(label {key}), C_GetAttributeValue"), text("the same public key; it can sign and never leaves the token"))
	each(actAttest, Administrator, "attest", "what the vendor of token %s says about the key",
		text("certificates with id {id}, verified up to the root"), text("a chain up to the named root, or "+NoAttestation))
	each(actProve, Witness, "prove", "token %s can sign with its key",
		text("C_Sign over a tagged text with the day and random digits"), text("the proof verifies"))
	backup, restore := "archive of the token's folder, AES-256-GCM", "unsealed into a fresh folder, then C_Sign there"
	if s.Backup.Driver == DriverCommand {
		backup, restore = strings.Join(s.Backup.Backup, " "), strings.Join(s.Backup.Restore, " ")+", then C_Sign there"
	}
	add(actBackup, -1, Custodians, "backup", "back up every token", backup,
		fmt.Sprintf("a file and its hash for every token; %d of %d custodians can open them", s.Roles.Threshold, len(s.Roles.Custodians)))
	each(actRestore, Witness, "restore", "restore the backup of token %s elsewhere",
		text(restore), text("the same public key signs there; the original is untouched"))
	add(actNetwork, -1, Administrator, "network", "write the network file",
		"network.toml", "the keys from above in their order, and the network's id")
	add(actRecords, -1, Administrator, "records", "write down what later checks compare with",
		"records/TOKEN.json, proofs/TOKEN.json", "a file and its hash for every key")
	add(actEnd, -1, Witness, "end", "end of the ceremony",
		"last hash of the transcript", "its words, which all present write down and sign")
	return out
}

// person returns who has a role, for the screen.
func (r Roles) person(role string) string {
	switch role {
	case Administrator:
		return r.Administrator
	case Operator:
		return r.Operator
	case Witness:
		return r.Witness
	}
	return strings.Join(r.Custodians, ", ")
}
