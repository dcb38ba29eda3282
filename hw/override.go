package hw

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// FeatureEnv names the environment variable that changes what the CPU says of
// its features: -avx512f takes one away, +avx512f claims one, several stand
// between commas, and none alone takes all away.
const FeatureEnv = "QCITY_CPU_FEATURES"

// override is a parsed list of such changes. The zero value changes nothing.
type override struct {
	none           bool
	claimed, taken []Feature
}

// CheckFeatureOverride returns what is wrong with the environment's changes to
// the CPU's features. Programs that ask for features call it first; without it
// changes that make no sense would silently not be made.
func CheckFeatureOverride() error {
	_, err := parseOverride(os.Getenv(FeatureEnv))
	return err
}

// featureOverride returns the environment's changes: none at all if there is
// anything wrong with them.
func featureOverride() override {
	o, err := parseOverride(os.Getenv(FeatureEnv))
	if err != nil {
		return override{}
	}
	return o
}

func parseOverride(text string) (override, error) {
	switch strings.TrimSpace(text) {
	case "":
		return override{}, nil
	case "none":
		return override{none: true}, nil
	}
	var o override
	known := knownFeatures()
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		sign, name := item[:min(1, len(item))], Feature(item[min(1, len(item)):])
		list := map[string]*[]Feature{"+": &o.claimed, "-": &o.taken}[sign]
		switch {
		case list == nil || !slices.Contains(known, name):
			return override{}, fmt.Errorf("%s=%q: %q is no change: give none alone, or + or - before each of %s", FeatureEnv, text, item, joined(known, ", "))
		case slices.Contains(o.claimed, name) || slices.Contains(o.taken, name):
			return override{}, fmt.Errorf("%s=%q: it names %s twice: name it once", FeatureEnv, text, name)
		}
		*list = append(*list, name)
	}
	return o, nil
}

// apply changes what a CPU says.
func (o override) apply(features []Feature) []Feature {
	changed := []Feature{}
	for _, f := range knownFeatures() {
		has := slices.Contains(features, f) && !o.none && !slices.Contains(o.taken, f)
		if has || slices.Contains(o.claimed, f) {
			changed = append(changed, f)
		}
	}
	return changed
}

func knownFeatures() []Feature {
	var known []Feature
	for _, f := range featureIDs() {
		known = append(known, f.name)
	}
	return known
}

func joined(features []Feature, separator string) string {
	names := make([]string, len(features))
	for i, f := range features {
		names[i] = string(f)
	}
	return strings.Join(names, separator)
}
