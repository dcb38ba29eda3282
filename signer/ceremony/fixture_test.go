package ceremony_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

const (
	envDir  = "QCITY_TEST_CEREMONY"        // the test binary is a ceremony in this folder
	envKill = "QCITY_TEST_CEREMONY_KILL"   // "point step" at which it kills itself
	envTool = "QCITY_TEST_CEREMONY_TOOL"   // the test binary is a vendor's tool for this token directory
	envBin  = "QCITY_TEST_CEREMONY_WORKER" // path of qcity-p11
)

var workerBinary string

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		os.Exit(child(dir))
	}
	if tokens := os.Getenv(envTool); tokens != "" && len(os.Args) == 5 {
		os.Exit(vendorTool(tokens, os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
	}
	dir, err := os.MkdirTemp("", "qcity-ceremony-test-")
	if err == nil {
		workerBinary = filepath.Join(dir, "qcity-p11")
		var msg []byte
		if msg, err = exec.Command("go", "build", "-o", workerBinary, "qcitycoin.org/qcity/cmd/qcity-p11").CombinedOutput(); err != nil {
			err = fmt.Errorf("build qcity-p11: %w\n%s", err, msg)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// exampleText is the file in the documentation.
func exampleText(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../configs/ceremony.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// oneValidator is the example with its first validator only.
func oneValidator(t testing.TB) string {
	t.Helper()
	text := exampleText(t)
	start := strings.Index(text, "\n[[validators]]\ntoken = \"validator-1\"")
	end := strings.Index(text, "\n# The network file")
	if start < 0 || end < start {
		t.Fatal("the example is laid out in another way")
	}
	return text[:start] + text[end:]
}

func parse(name, text string) (*ceremony.Script, error) {
	s := new(ceremony.Script)
	if err := configs.Decode(name, []byte(text), s); err != nil {
		return nil, err
	}
	return s, s.Check()
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// stage is a folder with a ceremony, tokens and PIN files of its own.
type stage struct {
	dir, tokens string
	text        string
	script      *ceremony.Script
}

func newStage(t testing.TB, text string) stage {
	t.Helper()
	root := t.TempDir()
	s := stage{dir: filepath.Join(root, "ceremony"), tokens: filepath.Join(root, "tokens"), text: text}
	for _, d := range []string{s.dir, s.tokens} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.script, err = parse("example", text); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s stage) config(kind string, answers ceremony.Answers) ceremony.Config {
	module, err := worker.SoftHSMModule()
	if err != nil {
		panic(err)
	}
	return ceremony.Config{
		Script: s.script, ScriptSHA256: sum(s.text), BinarySHA256: sum("program"), Kind: kind, Dir: s.dir,
		Worker: workerBinary, SoftHSM: module, SoftHSMTokens: s.tokens, Scripted: true,
		Show: func([]string) error { return nil },
		Ask:  func(_ context.Context, q ceremony.Question) (string, error) { return answers.For(q), nil },
		PIN: func(_ context.Context, p ceremony.PINs) ([]byte, error) {
			// A vendor's copy of a token, whose label differs in its first letter, has its PIN.
			return fmt.Appendf(nil, "pin-%s-%t", p.Token[1:], p.Admin), nil
		},
		WriteNetwork: configs.WriteNetwork,
		Now:          time.Now,
	}
}

var asShown = ceremony.Answers{"*": ceremony.AsShown}

func (s stage) run(t testing.TB, kind string) {
	t.Helper()
	if err := ceremony.New(s.config(kind, asShown)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s stage) transcript(t testing.TB) []ceremony.Entry {
	t.Helper()
	entries, err := ceremony.ReadTranscript(s.transcriptText(t))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func (s stage) transcriptText(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, ceremony.TranscriptFile))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (s stage) verify(t testing.TB) *ceremony.Report {
	t.Helper()
	net, err := configs.LoadNetwork(filepath.Join(s.dir, ceremony.NetworkFile))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ceremony.Verify(s.script, sum(s.text), s.transcript(t), net)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
