package sha256d

import (
	"slices"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/hw"
)

// TestWithoutSHA2 is a CPU like a Raspberry Pi 4's.
func TestWithoutSHA2(t *testing.T) {
	features := []hw.Feature{hw.ASIMD}
	for _, name := range []string{"sha2", "sha2-versions"} {
		_, _, err := Pick(t.Context(), Contest{Kernels: vectorKernels(), Name: name, Features: features, Versions: MaxVersions})
		if want := "kernel " + name + " needs sha2, which this CPU does not offer"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	_, trials, err := Pick(t.Context(), Contest{Kernels: vectorKernels(), Name: Auto, Features: features, Versions: MaxVersions, PerKernel: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for name, used := range map[string]bool{"neon": true, "neon-versions": true, "sha2": false, "sha2-versions": false} {
		i := slices.IndexFunc(trials, func(t Trial) bool { return t.Name == name })
		if trials[i].Rate > 0 != used {
			t.Errorf("kernel %s: rate %g, error %v", name, trials[i].Rate, trials[i].Err)
		}
	}
}

// TestCandidatesAreRare: a kernel that reports too much is right, but slow, which
// an emulator would not show.
func TestCandidatesAreRare(t *testing.T) {
	for _, k := range vectorKernels() {
		e := k.New()
		w := Work{Header: genesis, Versions: versionsFrom(1, 8)}
		const n = 8000 // nonces
		e.Prepare(&w)
		if hits := e.Scan(0, n, nil); len(hits) > 0 {
			t.Errorf("kernel %s: %d candidates when none was likely", k.Name, len(hits))
		}
		w.Target[1] = 8 // one hash in 2^13
		e.Prepare(&w)
		good := len(reference(&w, 0, n))
		if hits := e.Scan(0, n, nil); good == 0 || len(hits) < good || len(hits) > 8*good { // units have up to 8 hashes
			t.Errorf("kernel %s: %d candidates, of which %d are good", k.Name, len(hits), good)
		}
	}
}
