package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/link"
)

// parseMetrics reads the text with Prometheus's own parser and returns the value
// of each sample. It holds the metrics to Prometheus's rule for names.
func parseMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	samples := make(map[string]float64)
	for name, f := range families {
		counter := strings.HasSuffix(name, "_total")
		if f.GetHelp() == "" || f.GetType().String() != map[bool]string{true: "COUNTER", false: "GAUGE"}[counter] {
			t.Errorf("%s: %v, help %q", name, f.GetType(), f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if labels != nil {
				samples[name+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			} else {
				samples[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return samples
}

// TestMetrics: everything an operator watches, each number from its own field.
func TestMetrics(t *testing.T) {
	st := signer.Status{
		Keys: []signer.KeyStatus{
			{Index: 3, Ready: true, LastSigned: 120, LastVote: 110},
			{Index: -1, Error: "gone"},
		},
		Journal: signer.JournalStatus{Records: 40, Highest: 130, LastSigned: 120},
		Signed:  11, Repeated: 12, Failed: 13,
		Refusals: map[signer.Rule]uint64{signer.RuleDoubleSign: 14, "odd \"rule\"\\\n": 15},
		Halt:     &signer.Halt{By: "Ada"}, Told: true, Audit: &consensus.AuditAnchor{Seq: 16},
		DaemonStatus: signer.DaemonStatus{
			Role:   signer.RoleStandBy,
			Worker: signer.WorkerStatus{PID: 1, Restarts: 17, Signatures: 18, Down: true, Halted: "bad"},
			Links:  []link.Status{{Address: "192.0.2.1:9340", Connected: true}},
		},
	}
	st.Keys[1].PublicKey.Point[0] = 2
	key, other := fmt.Sprintf("{key=%q,validator=\"3\"}", st.Keys[0].PublicKey), fmt.Sprintf("{key=%q,validator=\"-1\"}", st.Keys[1].PublicKey)
	want := map[string]float64{
		"up": 1, `role{role="only"}`: 0, `role{role="leading"}`: 0, `role{role="stand-by"}`: 1,
		"signed_total": 11, "repeated_total": 12, "failed_total": 13,
		`refused_total{rule="double-sign"}`: 14, `refused_total{rule="odd \"rule\"\\\n"}`: 15,
		"halted": 1, "told": 1, "keys": 2, "keys_ready": 1,
		"key_ready" + key: 1, "key_ready" + other: 0,
		"key_last_block_height" + key: 120, "key_last_block_height" + other: 0,
		"key_last_vote_height" + key: 110, "key_last_vote_height" + other: 0,
		"journal_records": 40, "journal_highest_height": 130, "journal_last_signed_height": 120, "audit_seq": 16,
		"worker_up": 1, "worker_down": 1, "worker_halted": 1, "worker_restarts_total": 17, "worker_signatures_total": 18,
		`link_connected{node="192.0.2.1:9340"}`: 1,
	}
	for _, r := range watchedRules {
		if r != signer.RuleDoubleSign {
			want[fmt.Sprintf("refused_total{rule=%q}", string(r))] = 0
		}
	}
	prefixed := make(map[string]float64)
	for name, value := range want {
		prefixed[metricsPrefix+name] = value
	}
	var out strings.Builder
	if err := writeMetrics(&out, &st); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(prefixed, parseMetrics(t, out.String())); diff != "" {
		t.Errorf("%s\n%s", diff, out.String())
	}
}
