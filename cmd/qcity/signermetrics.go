package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"qcitycoin.org/qcity/signer"
)

// metrics collects samples in Prometheus's text exposition format, version 0.0.4.
// The samples of a name must follow one another.
type metrics struct {
	bytes.Buffer
	last string
}

const metricsPrefix = "qcity_signer_"

// add writes a sample; labels are names and values by turns. By Prometheus's rule
// the names of counters, and of nothing else, end in _total.
func (m *metrics) add(name, help string, value float64, labels ...string) {
	if name != m.last {
		kind := "gauge"
		if strings.HasSuffix(name, "_total") {
			kind = "counter"
		}
		fmt.Fprintf(m, "# HELP %s%s %s\n# TYPE %s%s %s\n", metricsPrefix, name, help, metricsPrefix, name, kind)
		m.last = name
	}
	m.WriteString(metricsPrefix + name)
	for i := 0; i < len(labels); i += 2 {
		fmt.Fprintf(m, "%c%s=\"%s\"", "{,"[min(i, 1)], labels[i], labelValue.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		m.WriteByte('}')
	}
	m.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

var labelValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// watchedRules have a sample from the start on, at 0: each of them is a reason
// to look, and a counter that appears with its first refusal shows no increase.
var watchedRules = []signer.Rule{
	signer.RuleDoubleSign, signer.RuleWatermark, signer.RuleFloor, signer.RuleOnePerSlot,
	signer.RuleCluster, signer.RuleAnchor, signer.RuleHalted, signer.RuleUnseen, signer.RuleRate,
}

// writeMetrics writes a status; nil stands for a daemon that does not answer.
func writeMetrics(out io.Writer, st *signer.Status) error {
	var m metrics
	m.add("up", "Whether the signer daemon answers.", truth(st != nil))
	if st == nil {
		_, err := m.WriteTo(out)
		return err
	}
	for _, role := range []string{signer.RoleOnly, signer.RoleLeading, signer.RoleStandBy} {
		m.add("role", "1 for the role this signer has among the boxes with its keys.", truth(st.Role == role), "role", role)
	}
	m.add("signed_total", "Signatures since the daemon's start, without repeats.", float64(st.Signed))
	m.add("repeated_total", "Signatures that were released again.", float64(st.Repeated))
	m.add("failed_total", "Requests that failed, without refusals.", float64(st.Failed))
	refusals := make(map[signer.Rule]uint64)
	for _, r := range watchedRules {
		refusals[r] = 0
	}
	maps.Copy(refusals, st.Refusals)
	for _, r := range slices.Sorted(maps.Keys(refusals)) {
		m.add("refused_total", "Requests that were refused, by rule.", float64(refusals[r]), "rule", string(r))
	}
	m.add("halted", "Whether signing is halted until two people resume it.", truth(st.Halt != nil))
	m.add("told", "Whether a node has told what the chain shows of the keys; nothing is signed before.", truth(st.Told))
	m.add("keys", "Keys in the configuration.", float64(len(st.Keys)))
	m.add("keys_ready", "Keys that can sign.", float64(len(readyKeys(st))))
	perKey := func(name, help string, value func(*signer.KeyStatus) float64) {
		for i := range st.Keys {
			m.add(name, help, value(&st.Keys[i]), "key", st.Keys[i].PublicKey.String(), "validator", strconv.Itoa(st.Keys[i].Index))
		}
	}
	perKey("key_ready", "Whether a key can sign.", func(k *signer.KeyStatus) float64 { return truth(k.Ready) })
	perKey("key_last_block_height", "Highest height at which a key may have signed a block; 0: none.", func(k *signer.KeyStatus) float64 { return float64(k.LastSigned) })
	perKey("key_last_vote_height", "Target height of a key's last vote; 0: none.", func(k *signer.KeyStatus) float64 { return float64(k.LastVote) })
	m.add("journal_records", "Records in the journal.", float64(st.Journal.Records))
	m.add("journal_highest_height", "Highest height that was claimed.", float64(st.Journal.Highest))
	m.add("journal_last_signed_height", "Highest height with a signature.", float64(st.Journal.LastSigned))
	if st.Audit != nil {
		m.add("audit_seq", "Number of the last entry of the audit log; it never falls.", float64(st.Audit.Seq))
	}
	m.add("worker_up", "Whether there is a worker process for the HSM.", truth(st.Worker.PID != 0))
	m.add("worker_down", "Whether restarting the worker did not help.", truth(st.Worker.Down))
	m.add("worker_halted", "Whether the worker is stopped until a person has acted.", truth(st.Worker.Halted != ""))
	m.add("worker_restarts_total", "Workers that were replaced after a failure.", float64(st.Worker.Restarts))
	m.add("worker_signatures_total", "Signatures that the HSM made.", float64(st.Worker.Signatures))
	for _, l := range st.Links {
		m.add("link_connected", "Whether a node that the signer dials is connected.", truth(l.Connected), "node", l.Address)
	}
	_, err := m.WriteTo(out)
	return err
}
