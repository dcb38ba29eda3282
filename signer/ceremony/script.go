package ceremony

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// Script is the ceremony file: everything that can be reviewed beforehand, and
// nothing that cannot, such as a PIN, a slot number or a serial number.
type Script struct {
	// Title is shown first.
	Title string `toml:"title"`
	// BinarySHA256 is the program's hash, 64 hexadecimal digits. Empty: not compared,
	// but still read aloud.
	BinarySHA256 string `toml:"binary_sha256"`
	Roles        Roles  `toml:"roles"`
	// Modules are the paths of the PKCS#11 libraries by name. SoftHSM's name,
	// "softhsm2", needs no path: its library is found.
	Modules map[string]string `toml:"modules"`
	// Environment names the variables that the modules are configured by, such as
	// "ChrystokiConfigurationPath". Their values are this machine's.
	Environment []string    `toml:"environment"`
	Attestation Attestation `toml:"attestation"`
	Backup      Backup      `toml:"backup"`
	// Network is the network file without its validators.
	Network    consensus.Params `toml:"network"`
	Validators []Validator      `toml:"validators"`
}

// Roles are the persons in the room.
type Roles struct {
	Administrator string   `toml:"administrator"` // reads out
	Operator      string   `toml:"operator"`      // types
	Witness       string   `toml:"witness"`       // belongs to neither
	Custodians    []string `toml:"custodians"`    // keep the shares of the backup's key
	Threshold     int      `toml:"threshold"`     // custodians that a restore needs
}

// Attestation is what the device's vendor says about a key.
type Attestation struct {
	// Required stops the run at a token that attests nothing.
	Required bool `toml:"required"`
	// Root is the vendor's root certificate, PEM, beside the script.
	Root string `toml:"root"`
	// RootSHA256 pins the root file; needed with Root.
	RootSHA256 string `toml:"root_sha256"`
}

// The two ways to a backup. Keys that cannot leave a token cannot be wrapped by
// PKCS#11 either, so a backup is always the vendor's own.
const (
	DriverSoftHSM = "softhsm"
	DriverCommand = "command"
)

// Backup says how tokens are backed up and restored.
type Backup struct {
	Driver string `toml:"driver"`
	// Backup and Restore are the vendor's tool, as a list of arguments, run without
	// a shell. {token}, {serial} and {file} are replaced.
	Backup  []string `toml:"backup"`
	Restore []string `toml:"restore"`
	// RestoredToken is the label of the device that Restore fills, which may contain
	// {token}.
	RestoredToken string `toml:"restored_token"`
}

// Validator is a key to be made, in a token of its own.
type Validator struct {
	Token     string `toml:"token"`     // label the token gets
	Key       string `toml:"key"`       // CKA_LABEL
	ID        string `toml:"id"`        // CKA_ID, hexadecimal digits
	Algorithm string `toml:"algorithm"` // secp256k1 or p256
	Module    string `toml:"module"`    // name in Modules, or softhsm2
}

// SoftHSM is the module name that needs no path.
const SoftHSM = "softhsm2"

// id returns CKA_ID; Check has seen to it that it is one.
func (v Validator) id() []byte {
	b, err := hex.DecodeString(v.ID)
	if err != nil {
		panic("an unchecked script: " + err.Error())
	}
	return b
}

func (v Validator) algorithm() worker.Algorithm {
	a, err := worker.ParseAlgorithm(v.Algorithm)
	if err != nil {
		panic("an unchecked script: " + err.Error())
	}
	return a
}

var (
	tokenLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`) // also a file name
	keyLabel   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$`)
	keyID      = regexp.MustCompile(`^([0-9a-f]{2}){1,16}$`)
	variable   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	sha256Hex  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Check returns the first value that cannot work as a *FieldError.
func (s *Script) Check() error {
	type rule struct {
		ok   bool
		key  []string
		want string
	}
	r := s.Roles
	rules := []rule{
		{s.Title != "", []string{"title"}, "want a title, which is read aloud"},
		{s.BinarySHA256 == "" || sha256Hex.MatchString(s.BinarySHA256), []string{"binary_sha256"}, "want 64 hexadecimal digits in lower case, or nothing"},
		{r.Administrator != "", []string{"roles", "administrator"}, "want a person's name"},
		{r.Operator != "", []string{"roles", "operator"}, "want a person's name"},
		{r.Operator != r.Administrator, []string{"roles", "operator"}, "want another person than the administrator"},
		{r.Witness != "", []string{"roles", "witness"}, "want a person's name"},
		{r.Witness != r.Administrator && r.Witness != r.Operator, []string{"roles", "witness"}, "want a person who is neither administrator nor operator"},
		{len(r.Custodians) >= 2 && len(r.Custodians) <= 15, []string{"roles", "custodians"}, "want 2 to 15 names"},
		{distinct(r.Custodians), []string{"roles", "custodians"}, "want different persons, each with a name"},
		{r.Threshold >= 2 && r.Threshold <= len(r.Custodians), []string{"roles", "threshold"}, "want 2 up to the number of custodians"},
		{(s.Attestation.Root == "") == (s.Attestation.RootSHA256 == ""), []string{"attestation", "root_sha256"}, "want root and root_sha256, or neither"},
		{s.Attestation.Root == "" || sha256Hex.MatchString(s.Attestation.RootSHA256), []string{"attestation", "root_sha256"}, "want 64 hexadecimal digits in lower case"},
		{!s.Attestation.Required || s.Attestation.Root != "", []string{"attestation", "required"}, "want a root as well, to verify attestations with"},
		{s.Backup.Driver == DriverSoftHSM || s.Backup.Driver == DriverCommand, []string{"backup", "driver"}, `want "softhsm" or "command"`},
	}
	if s.Backup.Driver == DriverCommand {
		rules = append(rules,
			rule{slices.ContainsFunc(s.Backup.Backup, isFileArg) && filepath.IsAbs(s.Backup.Backup[0]), []string{"backup", "backup"}, "want the vendor's tool by its full path and its arguments, {file} among them"},
			rule{slices.ContainsFunc(s.Backup.Restore, isFileArg) && filepath.IsAbs(s.Backup.Restore[0]), []string{"backup", "restore"}, "want the vendor's tool by its full path and its arguments, {file} among them"},
			rule{s.Backup.RestoredToken != "", []string{"backup", "restored_token"}, "want the label of the device that the restore test fills"})
	}
	for _, name := range s.Environment {
		rules = append(rules, rule{variable.MatchString(name), []string{"environment"}, "want names of variables, without their values"})
	}
	for name, path := range s.Modules {
		rules = append(rules, rule{filepath.IsAbs(path), []string{"modules", name}, "want the full path of a PKCS#11 library"})
	}
	for _, c := range rules {
		if !c.ok {
			return &FieldError{c.key, c.want}
		}
	}
	if err := s.checkValidators(); err != nil {
		return err
	}
	return s.checkNetwork()
}

func distinct(names []string) bool {
	seen := map[string]bool{"": true}
	for _, n := range names {
		if seen[n] {
			return false
		}
		seen[n] = true
	}
	return true
}

func (s *Script) checkValidators() error {
	if len(s.Validators)%2 != 1 || len(s.Validators) > consensus.MaxValidators {
		return &FieldError{[]string{"validators"}, fmt.Sprintf("%d of them, want an odd number up to %d", len(s.Validators), consensus.MaxValidators)}
	}
	tokens := make(map[string]bool)
	for i, v := range s.Validators {
		bad := func(key, want string) error {
			return &FieldError{[]string{"validators[" + strconv.Itoa(i) + "]", key}, want}
		}
		_, algorithmErr := worker.ParseAlgorithm(v.Algorithm)
		_, known := s.Modules[v.Module]
		switch {
		case !tokenLabel.MatchString(v.Token):
			return bad("token", "want a label of 1 to 32 letters, digits, dots, dashes")
		case tokens[v.Token]:
			return bad("token", fmt.Sprintf("%q is there twice: give every token its own label", v.Token))
		case !keyLabel.MatchString(v.Key):
			return bad("key", "want a label of 1 to 64 letters, digits, dots, dashes, blanks")
		case !keyID.MatchString(v.ID):
			return bad("id", `want 1 to 16 bytes as hexadecimal digits in lower case, for example "01"`)
		case algorithmErr != nil:
			return bad("algorithm", "want secp256k1 or p256")
		case v.Module != SoftHSM && !known:
			return bad("module", fmt.Sprintf("want softhsm2, or a name that [modules] has; %q is neither", v.Module))
		case s.Backup.Driver == DriverSoftHSM && v.Module != SoftHSM:
			return bad("module", `is no SoftHSM: set backup.driver to "command" and name the vendor's tool`)
		}
		tokens[v.Token] = true
	}
	return nil
}

// parameter is how an error about network parameters begins.
var parameter = regexp.MustCompile(`^([a-zA-Z]+(?:\.[a-zA-Z]+)?)`)

// checkNetwork checks the parameters with keys that stand in for those to be made.
func (s *Script) checkNetwork() error {
	if len(s.Network.Validators) > 0 {
		return &FieldError{[]string{"network", "validators"}, "want none: the ceremony makes them"}
	}
	if s.Network.Release != nil {
		return &FieldError{[]string{"network", "release"}, "want none: the network has no block yet"}
	}
	keys := make([]types.PublicKey, len(s.Validators))
	for i := range keys {
		keys[i] = types.PublicKey{Algorithm: types.Secp256k1}
		copy(keys[i].Point[:], secp256k1.PrivKeyFromBytes([]byte{byte(i + 1)}).PubKey().SerializeCompressed())
	}
	p := s.params(keys)
	if err := p.Check(); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		key := []string{"network"}
		if m := parameter.FindString(first); m != "" {
			key = append(key, m)
		}
		return &FieldError{key, first}
	}
	return nil
}

// params returns the network's parameters with these validators.
func (s *Script) params(keys []types.PublicKey) consensus.Params {
	p := s.Network
	p.Validators = keys
	return p
}
