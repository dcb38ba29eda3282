package probe

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
)

// What the child writes: a line before each kernel, and one after it.
const (
	sayTesting = "testing " // name
	sayOK      = "ok "      // name
	sayFailed  = "failed "  // name: why
)

// Serve is what the child does: it tests the kernels of these names, in their
// order, and writes to w what becomes of each.
func Serve(w io.Writer, kernels []sha256d.Kernel, names []string) error {
	for _, name := range names {
		i := slices.IndexFunc(kernels, func(k sha256d.Kernel) bool { return k.Name == name })
		if i < 0 {
			return fmt.Errorf("no kernel is called %q", name)
		}
		if _, err := fmt.Fprintf(w, "%s%s\n", sayTesting, name); err != nil {
			return err
		}
		verdict := sayOK + name
		if err := sha256d.SelfTest(kernels[i]); err != nil {
			verdict = sayFailed + name + ": " + strings.Join(strings.Fields(err.Error()), " ")
		}
		if _, err := fmt.Fprintln(w, verdict); err != nil {
			return err
		}
	}
	return nil
}

// dialogue is how far the testing of some kernels has come.
type dialogue struct {
	names    []string
	verdicts []error // on the first names
	testing  bool    // the next one has been begun
}

func (d *dialogue) over() bool { return len(d.verdicts) == len(d.names) }

// hear takes the child's next line, and reports whether it was its turn: of a
// child that says anything else nothing is believed.
func (d *dialogue) hear(line string) bool {
	if d.over() {
		return false
	}
	name := d.names[len(d.verdicts)]
	if !d.testing {
		d.testing = line == sayTesting+name
		return d.testing
	}
	var verdict error
	if why, failed := strings.CutPrefix(line, sayFailed+name+": "); failed {
		verdict = errors.New(why)
	} else if line != sayOK+name {
		return false
	}
	d.verdicts, d.testing = append(d.verdicts, verdict), false
	return true
}

var signalName = regexp.MustCompile(`\bSIG[A-Z]+\b`)

// cause says why a child ended while it tested a kernel with these needs: what it
// was killed for (nil: it ended by itself), how it ended, and its last words.
//
// The Go runtime does not die by the signals that faults raise: it names them and
// exits. A child that is killed from outside, or by a sandbox, does.
func cause(needs []hw.Feature, fault, end error, words []byte) string {
	if fault != nil {
		return fault.Error()
	}
	switch name := string(signalName.Find(words)); name {
	case "SIGILL":
		return "the CPU does not know an instruction that it uses" + despite(needs) + " (SIGILL)"
	case "SIGSEGV", "SIGBUS":
		return "it used memory that it must not use (" + name + ")"
	}
	said := firstLine(words)
	if said != "" {
		said = fmt.Sprintf(": %.200q", said)
	}
	return fmt.Sprintf("the process that tested it ended with %v%s", cmp.Or(end, errors.New("exit status 0")), said)
}

// despite says which features promised that the CPU would know all instructions.
func despite(needs []hw.Feature) string {
	if len(needs) == 0 {
		return ""
	}
	names := make([]string, len(needs))
	for i, f := range needs {
		names[i] = string(f)
	}
	return ", although it claims " + strings.Join(names, ", ")
}
