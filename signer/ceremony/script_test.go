package ceremony_test

import (
	"errors"
	"strings"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer/ceremony"
)

// place finds what is wrong with a script and where it is written.
func place(text string) *configs.Error {
	_, err := parse("c.toml", text)
	var at *configs.Error
	var field *ceremony.FieldError
	switch {
	case errors.As(err, &at):
		return at
	case errors.As(err, &field):
		return configs.At("c.toml", []byte(text), field.Key, field.Error())
	}
	return nil
}

// TestBadScripts: each mistake has one error, at its line and column.
func TestBadScripts(t *testing.T) {
	good := exampleText(t)
	if at := place(good); at != nil {
		t.Fatal(at)
	}
	validator1 := "token = \"validator-1\"\nkey = \"validator-1\"\nid = \"02\"\nalgorithm = \"secp256k1\"\nmodule = \"softhsm2\""
	for name, c := range map[string]struct {
		old, new string
		at       string // the text at which the error stands
		reason   string
	}{
		"a PIN":                  {"id = \"01\"", "id = \"01\"\npin = \"1234\"", "pin = \"1234\"", `unknown key "validators.pin"`},
		"a slot":                 {"id = \"01\"", "id = \"01\"\nslot = 3", "slot = 3", `unknown key "validators.slot"`},
		"a serial":               {"id = \"01\"", "id = \"01\"\nserial = \"12\"", "serial = \"12\"", `unknown key "validators.serial"`},
		"no title":               {"title = \"Keys of example-net, five validators\"", "title = \"\"", "title = \"\"", "want a title"},
		"short hash":             {"binary_sha256 = \"\"", "binary_sha256 = \"ab\"", "binary_sha256 = \"ab\"", "64 hexadecimal"},
		"nobody to witness":      {"witness = \"Wilma Witness\"", "witness = \"\"", "witness = \"\"", "a person's name"},
		"witness operates":       {"witness = \"Wilma Witness\"", "witness = \"Otto Operator\"", "witness = \"Otto", "neither administrator nor operator"},
		"one person for two":     {"operator = \"Otto Operator\"", "operator = \"Ada Administrator\"", "operator = \"Ada", "another person than the administrator"},
		"one custodian twice":    {"\"Cora Custodian\"", "\"Carl Custodian\"", "custodians = [", "different persons"},
		"threshold of one":       {"threshold = 2", "threshold = 1", "threshold = 1", "want 2 up to"},
		"threshold too high":     {"threshold = 2", "threshold = 4", "threshold = 4", "want 2 up to"},
		"root without hash":      {"root = \"\"", "root = \"r.pem\"", "root_sha256 = \"\"", "want root and root_sha256"},
		"attestation of nothing": {"required = false", "required = true", "required = true", "want a root"},
		"no driver":              {"driver = \"softhsm\"", "driver = \"floppy\"", "driver = \"floppy\"", `want "softhsm" or "command"`},
		"tool without file":      {"driver = \"softhsm\"", "driver = \"command\"\nbackup = [\"/bin/x\"]", "backup = [\"/bin/x\"]", "{file} among them"},
		"tool without path":      {"driver = \"softhsm\"", "driver = \"command\"\nbackup = [\"x\", \"{file}\"]", "backup = [\"x\"", "by its full path"},
		"no restored token":      {"driver = \"softhsm\"", "driver = \"command\"\nbackup = [\"/x\", \"{file}\"]\nrestore = [\"/x\", \"{file}\"]", "[backup]", "restored_token"},
		"value of a variable":    {"environment = []", "environment = [\"A=b\"]", "environment = [", "without their values"},
		"relative module":        {"# [modules]\n", "[modules]\nluna = \"lib.so\"\n", "luna = \"lib.so\"", "full path"},
		"even number":            {"[[validators]]\n" + validator1, "", "[[validators]]\ntoken = \"validator-0\"", "an odd number"},
		"one token twice":        {validator1, strings.Replace(validator1, "validator-1", "validator-0", 1), "token = \"validator-0\"\nkey = \"validator-1\"", "there twice"},
		"token that is a path":   {validator1, strings.Replace(validator1, "validator-1", "../x", 1), "token = \"../x\"", "want a label"},
		"no id":                  {validator1, strings.Replace(validator1, "\"02\"", "\"2\"", 1), "id = \"2\"", "validators[1].id"},
		"no key label":           {validator1, strings.Replace(validator1, "key = \"validator-1\"", "key = \"\"", 1), "key = \"\"", "validators[1].key"},
		"unknown algorithm":      {validator1, strings.Replace(validator1, "secp256k1", "ed25519", 1), "algorithm = \"ed25519\"", "want secp256k1 or p256"},
		"unknown module":         {validator1, strings.Replace(validator1, "softhsm2", "luna", 1), "module = \"luna\"", `"luna" is neither`},
		"parameters":             {"n = 10", "n = 1", "n = 1\n", "n = 1: want at least 2"},
		"addresses":              {"scriptHash = 196", "scriptHash = 111", "[network.addresses]", "same version byte"},
		"validators in network":  {"magic =", "validators = [\"secp256k1:02f46ed1eea1f3ed3cde29f8c928a1dd40022d911d542dad00387f914dd28f69ac\"]\nmagic =", "validators = [\"secp", "want none"},
		"ranks without a turn":   {"rankStepSeconds = 20", "rankStepSeconds = 24", "slotOpenSeconds = 120", "every rank has its turn"},
		"wrong type":             {"threshold = 2", "threshold = \"2\"", "\"2\"", "roles.threshold"},
		"syntax":                 {"threshold = 2", "threshold = ", "", "expected value"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatal("nothing was changed")
			}
			at := place(text)
			if at == nil || !strings.Contains(at.Reason, c.reason) || strings.Contains(at.Reason, "\n") {
				t.Fatalf("%v, want one error with %q", at, c.reason)
			}
			if c.at == "" {
				return
			}
			before := text[:strings.Index(text, c.at)]
			line, column := strings.Count(before, "\n")+1, len(before)-strings.LastIndex(before, "\n")
			if at.Line != line || at.Column != column {
				t.Errorf("%v, want it at %d:%d", at, line, column)
			}
		})
	}
}

// FuzzScript: whatever a file says, there is one error with a place, or a plan.
func FuzzScript(f *testing.F) {
	f.Add(exampleText(f))
	f.Add("[[validators]]\n[[validators]]\n[roles]\ncustodians = [\"a\", \"b\"]\nthreshold = 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse("c.toml", text)
		if err == nil {
			if len(ceremony.Steps(s)) < 12 {
				t.Fatal("a plan of few steps")
			}
			return
		}
		if at := place(text); at == nil || at.Line < 1 || at.Column < 1 {
			t.Fatalf("%v without a place", err)
		}
	})
}

func TestAnswers(t *testing.T) {
	a, err := ceremony.ParseAnswers("# all\n* = @\n 01-begin =  one two \n")
	if err != nil {
		t.Fatal(err)
	}
	q := ceremony.Question{Step: ceremony.Step{ID: "01-begin"}, Expect: "x"}
	if got := a.For(q); got != "one two" {
		t.Errorf("answer %q", got)
	}
	q.Step.ID = "02-tokens"
	if got := a.For(q); got != "x" {
		t.Errorf("answer %q", got)
	}
	for _, text := range []string{"no sign", "a = 1\na = 2", "= 3"} {
		if _, err := ceremony.ParseAnswers(text); err == nil || !strings.Contains(err.Error(), "line") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
