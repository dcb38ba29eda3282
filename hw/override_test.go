package hw

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestOverride(t *testing.T) {
	reported := []Feature{SSSE3, SHANI, AVX2}
	for text, want := range map[string][]Feature{
		"":                     reported,
		"  ":                   reported,
		"none":                 {},
		"-avx2":                {SSSE3, SHANI},
		"-avx2,-sha_ni":        {SSSE3},
		" -avx2 , +avx512f ":   {SSSE3, SHANI, AVX512F},
		"+avx2":                reported,
		"-avx512f":             reported,
		"+sha2,-ssse3,+sse4_1": {SSE41, SHANI, AVX2, ARMSHA2},
	} {
		o, err := parseOverride(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, o.apply(reported)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// TestOverrideErrors: one line that names the feature at fault, and all known ones.
func TestOverrideErrors(t *testing.T) {
	for text, want := range map[string]string{
		"avx2":         `"avx2" is no change`,
		"-avx3":        `"-avx3" is no change`,
		"-AVX2":        `"-AVX2" is no change`,
		"-avx2,":       `"" is no change`,
		",":            `"" is no change`,
		"-":            `"-" is no change`,
		"- avx2":       `"- avx2" is no change`,
		"-avx2 -ssse3": `"-avx2 -ssse3" is no change`,
		"none,-avx2":   `"none" is no change`,
		"-none":        `"-none" is no change`,
		"é":            `"é" is no change`,
		"-a\nb":        `"-a\nb" is no change`,
		"-avx2,+avx2":  "names avx2 twice",
		"-avx2,-avx2":  "names avx2 twice",
	} {
		_, err := parseOverride(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), FeatureEnv) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(want, "no change") && !strings.HasSuffix(err.Error(), joined(knownFeatures(), ", ")) {
			t.Errorf("%q: %v does not list the features", text, err)
		}
	}
}

// TestFeaturesObey: what the environment says is what everybody sees.
func TestFeaturesObey(t *testing.T) {
	t.Setenv(FeatureEnv, "none")
	if f := Features(); f == nil || len(f) > 0 || CheckFeatureOverride() != nil {
		t.Errorf("%v, error %v", f, CheckFeatureOverride())
	}
	for _, f := range knownFeatures() {
		t.Setenv(FeatureEnv, "+"+string(f))
		inv := Detect(fstest.MapFS{})
		if !contains(Features(), f) || !contains(inv.CPU.Features, f) || inv.CPU.FeatureOverride != "+"+string(f) {
			t.Errorf("+%s: %v and %v, shown as %q", f, Features(), inv.CPU.Features, inv.CPU.FeatureOverride)
		}
		t.Setenv(FeatureEnv, "-"+string(f))
		if contains(Features(), f) || contains(Detect(fstest.MapFS{}).CPU.Features, f) {
			t.Errorf("-%s: %v", f, Features())
		}
	}
	t.Setenv(FeatureEnv, "-nonsense")
	if CheckFeatureOverride() == nil || Detect(fstest.MapFS{}).CPU.FeatureOverride != "" {
		t.Error("nonsense is accepted or shown")
	}
}

func contains(features []Feature, f Feature) bool {
	return strings.Contains(" "+joined(features, " ")+" ", " "+string(f)+" ")
}

// TestOverrideShown: nobody who looks at features overlooks that they are changed.
func TestOverrideShown(t *testing.T) {
	for _, text := range []string{"", "-avx2,+avx512f"} {
		t.Setenv(FeatureEnv, text)
		inv := Detect(fstest.MapFS{})
		var out strings.Builder
		if err := inv.WriteText(&out); err != nil {
			t.Fatal(err)
		}
		if shown := strings.Contains(out.String(), "changed by QCITY_CPU_FEATURES="+text); shown != (text != "") {
			t.Errorf("with %q:\n%s", text, out.String())
		}
		data, err := json.Marshal(inv)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), `"featureOverride":"`+text+`"`) {
			t.Errorf("with %q: %s", text, data)
		}
	}
}
