package ceremony

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

// follow holds entries against the steps, in order. It returns the line of each
// step that is done, from 0, and the index of the first step that is not.
func follow(steps []Step, entries []Entry) (lines []int, next int, err error) {
	begun := false
	for i, e := range entries {
		bad := func(format string, args ...any) error { return &LineError{i + 1, fmt.Sprintf(format, args...)} }
		if next == len(steps) {
			return lines, next, bad("it follows the end of the ceremony")
		}
		s := steps[next]
		if e.Step != s.ID {
			return lines, next, bad("it records step %s where %s is next", e.Step, s.ID)
		}
		if e.Role != s.Role {
			return lines, next, bad("step %s is for the %s, not the %s", s.ID, s.Role, e.Role)
		}
		changes := s.action == actInit || s.action == actGenerate
		switch e.Kind {
		case KindResumed:
			if i == 0 {
				return lines, next, bad("nothing was interrupted before it")
			}
		case KindStarted:
			if !changes || begun {
				return lines, next, bad("step %s does not start here", s.ID)
			}
			begun = true
		case KindRefused, KindDone:
			if changes && !begun {
				return lines, next, bad("step %s was not started", s.ID)
			}
			if ok := sameWords(e.Answer, e.Asked) && e.Asked != ""; ok != (e.Kind == KindDone) {
				return lines, next, bad("%q was asked, %q typed, and it says %q", e.Asked, e.Answer, e.Kind)
			}
			if e.Kind == KindDone {
				lines, next, begun = append(lines, i), next+1, false
			}
		default:
			return lines, next, bad("unknown kind %q", e.Kind)
		}
	}
	return lines, next, nil
}

// Report is what Verify found in a transcript that holds.
type Report struct {
	Kind     string            `json:"kind"`
	Lines    int               `json:"lines"`
	Head     string            `json:"head"`  // hash of the last line
	Words    string            `json:"words"` // that were asked for at the end
	Network  types.Hash        `json:"network"`
	Keys     []types.PublicKey `json:"keys"`
	Scripted bool              `json:"scripted"`          // some confirmation was not typed by a person
	Remarks  []string          `json:"remarks,omitempty"` // interruptions and refusals
	Attested int               `json:"attested"`          // keys that a vendor vouches for
}

// Verify replays a transcript that ReadTranscript accepted against its script. It
// needs no token: steps in order and confirmed, the script's hash, public keys on
// their curves with their words and addresses, attributes, both proofs of possession
// of every key, and, if net is not nil, that the network file has these keys. The
// error is a *LineError.
func Verify(s *Script, scriptSHA256 string, entries []Entry, net *consensus.Network) (*Report, error) {
	steps := Steps(s)
	lines, next, err := follow(steps, entries)
	if err != nil {
		return nil, err
	}
	if next < len(steps) {
		return nil, &LineError{len(entries) + 1, fmt.Sprintf("it is missing: the ceremony ended before step %s", steps[next].ID)}
	}
	r := &Report{Lines: len(entries), Head: entries[len(entries)-1].Hash}
	for i, e := range entries {
		r.Scripted = r.Scripted || e.Scripted
		if e.Kind == KindResumed || e.Kind == KindRefused {
			r.Remarks = append(r.Remarks, fmt.Sprintf("line %d: %s at step %s", i+1, e.Kind, e.Step))
		}
	}
	v := verifier{s: s, steps: steps, done: done(entries), report: r}
	for i, st := range steps {
		if err := v.generated(st); err != nil {
			return nil, &LineError{lines[i] + 1, err.Error()}
		}
	}
	if v.net, err = consensus.NewNetwork(s.params(r.Keys)); err != nil {
		return nil, &LineError{lines[0] + 1, err.Error()}
	}
	r.Network = v.net.ID
	for i, st := range steps {
		e := entries[lines[i]]
		if err := v.step(st, e, scriptSHA256); err != nil {
			return nil, &LineError{lines[i] + 1, fmt.Sprintf("step %s: %v", st.ID, err)}
		}
	}
	if net != nil && (net.ID != v.net.ID || !slices.Equal(net.Validators, r.Keys)) {
		return nil, failure(ErrTranscript, "the network file is network %s with %d keys, the transcript's keys make %s: use the file that this ceremony wrote", net.ID, len(net.Validators), v.net.ID)
	}
	return r, nil
}

type verifier struct {
	s      *Script
	steps  []Step
	done   map[string]map[string]string
	net    *consensus.Network
	report *Report
}

func (v *verifier) driver() string { return driver(v.s, v.report.Kind) }

// generated collects the keys.
func (v *verifier) generated(st Step) error {
	if st.action != actGenerate {
		return nil
	}
	var k types.PublicKey
	if err := k.UnmarshalText([]byte(v.done[st.ID]["publicKey"])); err != nil {
		return err
	}
	if slices.Contains(v.report.Keys, k) {
		return fmt.Errorf("key %s is there twice", k)
	}
	v.report.Keys = append(v.report.Keys, k)
	return nil
}

func (v *verifier) step(st Step, e Entry, scriptSHA256 string) error {
	asked := confirmation
	var k types.PublicKey
	var val Validator
	if st.validator >= 0 {
		k, val = v.report.Keys[st.validator], v.s.Validators[st.validator]
	}
	switch f := e.Facts; st.action {
	case actBegin:
		if f["script"] != scriptSHA256 {
			return fmt.Errorf("it is about the script with hash %s, not %s", f["script"], scriptSHA256)
		}
		if v.report.Kind = f["kind"]; v.report.Kind != Run && v.report.Kind != Rehearsal {
			return fmt.Errorf("it is a %q, neither %s nor %s", v.report.Kind, Rehearsal, Run)
		}
		if v.report.Kind == Run && v.s.BinarySHA256 != "" && f["binary"] != v.s.BinarySHA256 {
			return fmt.Errorf("the program was %s, the script wants %s", f["binary"], v.s.BinarySHA256)
		}
		asked = HashWords(scriptSHA256)
	case actInit:
		if f["token"] != val.Token || f["serial"] == "" || f["keys"] != "none" {
			return fmt.Errorf("token %q, serial %q, keys %q", f["token"], f["serial"], f["keys"])
		}
	case actGenerate:
		print := KeyFingerprint(k)
		if k.Algorithm.String() != val.Algorithm || f["id"] != val.ID || f["fingerprint"] != print.Hex || f["words"] != print.Words ||
			f["address"] != Address(v.s.Network.Addresses, k) {
			return fmt.Errorf("algorithm, id, address or fingerprint are not those of key %s in the script", k)
		}
		asked = print.Words
	case actAttributes:
		if f["publicKey"] != k.String() {
			return fmt.Errorf("public key %s, generated was %s", f["publicKey"], k)
		}
		for _, want := range []string{"sensitive true", "extractable false", "made here true"} {
			if !slices.Contains(strings.Split(f["attributes"], ", "), want) {
				return fmt.Errorf("the attributes are %s, without %q", f["attributes"], want)
			}
		}
	case actAttest:
		switch {
		case f["attestation"] == NoAttestation:
			if v.s.Attestation.Required && v.report.Kind == Run {
				return fmt.Errorf("the key is not attested, and the script requires it")
			}
		case v.s.Attestation.Root == "" || f["attestation"] == "" || !sha256Hex.MatchString(f["certificate"]):
			return fmt.Errorf("%q is no attestation under the script's root", f["attestation"])
		default:
			v.report.Attested++
		}
	case actProve, actRestore:
		p, err := parseProof(f["proof"])
		if err != nil {
			return err
		}
		if p.Key != k || string(p.Challenge) != f["challenge"] {
			return fmt.Errorf("the proof is about another key or challenge")
		}
		if st.action == actRestore && f["challenge"] == factsOf(v.s, v.steps, v.done, actProve, val.Token)["challenge"] {
			return fmt.Errorf("the restored token was not given a challenge of its own")
		}
		if err := p.Verify(v.net.ID); err != nil {
			return err
		}
		// SoftHSM's copies have the serial number of the original, other devices their own.
		serial := factsOf(v.s, v.steps, v.done, actInit, val.Token)["serial"]
		if st.action == actRestore && (f["restored"] == "" || (f["restored"] == serial) != (v.driver() == DriverSoftHSM)) {
			return fmt.Errorf("token %s was restored into %q by the driver %s", serial, f["restored"], v.driver())
		}
	case actBackup:
		if f["driver"] != v.driver() {
			return fmt.Errorf("the driver was %q, the script wants %s", f["driver"], v.driver())
		}
		for _, val := range v.s.Validators {
			if !sha256Hex.MatchString(f[val.Token]) {
				return fmt.Errorf("token %s has no hash of a backup", val.Token)
			}
		}
		asked = fmt.Sprintf("%d of %d", v.s.Roles.Threshold, len(v.s.Roles.Custodians))
	case actNetwork:
		if f["network"] != v.net.ID.String() {
			return fmt.Errorf("network %s, the keys make %s", f["network"], v.net.ID)
		}
		if !sha256Hex.MatchString(f["sha256"]) {
			return fmt.Errorf("the network file has no hash")
		}
		asked = HashWords(v.net.ID.String())
	case actRecords:
		// VerifyFiles compares what is there.
		for _, val := range v.s.Validators {
			for _, name := range []string{recordFile(val), proofFile(val)} {
				if !sha256Hex.MatchString(f[name]) {
					return fmt.Errorf("%s has no hash", name)
				}
			}
		}
	case actEnd:
		if f["before"] != e.Prev || f["steps"] != strconv.Itoa(len(v.steps)) {
			return fmt.Errorf("it is not the end of this ceremony")
		}
		asked = HashWords(f["before"])
		v.report.Words = asked
	}
	if e.Asked != asked {
		return fmt.Errorf("%q was asked for, not %q", e.Asked, asked)
	}
	return nil
}

// VerifyFiles compares the hashes of what lies in a ceremony's folder with its
// transcript: records, proofs and the network file must be there; backups, which
// are kept elsewhere, only if they still are.
func VerifyFiles(dir string, entries []Entry) error {
	compare := func(name, want string, needed bool) error {
		got, err := fileSHA256(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && !needed {
			return nil
		}
		if err != nil {
			return err
		}
		if got != want {
			return failure(ErrTranscript, "%s has the hash %s, in the transcript it is %s: it was changed since", name, got, want)
		}
		return nil
	}
	for _, e := range entries {
		if e.Kind != KindDone {
			continue
		}
		for name, value := range e.Facts {
			var err error
			switch {
			case strings.HasPrefix(name, RecordsDir+"/"), strings.HasPrefix(name, ProofsDir+"/"):
				err = compare(name, value, true)
			case strings.HasSuffix(e.Step, "-backup") && sha256Hex.MatchString(value):
				err = compare(filepath.Join(BackupDir, name+".backup"), value, false)
			case strings.HasSuffix(e.Step, "-network") && name == "sha256":
				err = compare(NetworkFile, value, true)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
