package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/miner/work"
	"qcitycoin.org/qcity/stratum/pool"
)

// poolBox is a configuration with books that are open, as those of a running box.
func poolBox(t *testing.T) (config string, b *pool.Books) {
	t.Helper()
	config = filepath.Join(t.TempDir(), configs.FileName)
	if err := os.WriteFile(config, []byte("data = \"data\"\n[pool]\nrewards = \"proportional\"\nfee = 100\nmin_payout = 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := configs.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	books, err := poolConfig(&c)
	if err != nil {
		t.Fatal(err)
	}
	books.Payable = func(a string) bool { return strings.HasPrefix(a, "addr") }
	if b, err = pool.Open(time.Now(), books); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Shut(); err != nil {
			t.Error(err)
		}
	})
	b.Network(work.TargetFromDifficulty(10))
	now := time.Now()
	for i, name := range []string{"addr1.rig", "addr2.a", "addr2.b", "=HYPERLINK(\"http://x\")", "-dash\n", "addr1.rig"} {
		w := b.Open(now, name)
		b.Accept(now, w, pool.Share{Hash: [32]byte{byte(i), 31: 1}, Difficulty: float64(i + 1), Real: 3, Block: i == 5})
		b.Reject(now, w, pool.LowDifficulty)
	}
	_, note := b.Plan(9, 10_000, 1)
	if err := b.Found(pool.Found{ID: [32]byte{0xab}, Height: 9, Time: now, Reward: 10_000, Finder: "addr1.rig", Note: note}); err != nil {
		t.Fatal(err)
	}
	if err := b.Settle([32]byte{0xab}, pool.Accepted); err != nil {
		t.Fatal(err)
	}
	return config, b
}

func runPool(t *testing.T, args ...string) string {
	t.Helper()
	var out strings.Builder
	root := newRoot()
	root.SetArgs(append([]string{"pool"}, args...))
	root.SetOut(&out)
	root.SetErr(&out)
	if err := root.ExecuteContext(context.Background()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String()
}

func poolCSV(t *testing.T, args ...string) (rows []map[string]string) {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(runPool(t, append(args, "--csv")...))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, field := range line {
			if strings.IndexAny(field, "=+-@") == 0 {
				t.Errorf("%v: field %q is a formula", args, field)
			}
			row[lines[0][i]] = field
		}
		rows = append(rows, row)
	}
	return rows
}

// TestPoolBooks reads the books of a running box in every form.
func TestPoolBooks(t *testing.T) {
	config, _ := poolBox(t)
	at := []string{"--config", config}
	with := func(command string, more ...string) []string {
		return append(append([]string{command}, at...), more...)
	}
	if rows := poolCSV(t, with("workers")...); len(rows) != 5 || rows[0]["worker"] != `'-dash\n` || rows[1]["worker"] != `'=HYPERLINK("http://x")` ||
		rows[2]["accepted"] != "2" || rows[2]["rejected_low_difficulty"] != "2" || rows[2]["blocks"] != "1" || rows[2]["difficulty"] != "7" {
		t.Errorf("workers: %v", rows)
	}
	if rows := poolCSV(t, with("workers", "--accounts", "--account", "addr2")...); len(rows) != 1 || rows[0]["accepted"] != "2" || rows[0]["worker"] != "" {
		t.Errorf("accounts: %v", rows)
	}
	if rows := poolCSV(t, with("shares", "--account", "addr2")...); len(rows) != 2 || rows[1]["worker"] != "addr2.b" || rows[1]["weight"] != "12885098499" {
		t.Errorf("shares: %v", rows)
	}
	if rows := poolCSV(t, with("shares", "--since", "1h", "--until", "30m")...); len(rows) != 0 {
		t.Errorf("shares of another time: %v", rows)
	}
	if rows := poolCSV(t, with("blocks")...); len(rows) != 1 || rows[0]["height"] != "9" || rows[0]["state"] != "accepted" || rows[0]["finder"] != "addr1.rig" ||
		rows[0]["reward"] != "10000" || rows[0]["id"] != strings.Repeat("0", 62)+"ab" {
		t.Errorf("blocks: %v", rows)
	}
	// 9,900 by work: addr1 7, addr2 5 and the operator 9 of 21.
	var sums struct {
		Accounts []payoutRow
		Totals   payoutTotals
	}
	if err := json.Unmarshal([]byte(runPool(t, with("payouts", "--json")...)), &sums); err != nil {
		t.Fatal(err)
	}
	if want := (payoutTotals{10_000, 5657, 4343, 100, 3300, 6700, 2357}); sums.Totals != want || len(sums.Accounts) != 2 ||
		sums.Accounts[0].Balance != 0 || sums.Accounts[1].Balance != 2357 || sums.Accounts[0].Coinbase[0].Amount != 3300 {
		t.Errorf("payouts: %+v", sums)
	}
	var credited, all int
	for _, row := range poolCSV(t, with("payouts")...) {
		n, _ := strconv.Atoi(row["credited"])
		switch row["kind"] {
		case "account", "operator":
			credited += n
		case "rewards":
			all = n
		}
	}
	if credited != all || all != 10_000 {
		t.Errorf("credits of %d, rewards of %d", credited, all)
	}
	for command, want := range map[string]string{
		"workers": "low-difficulty 2", "shares": "addr2.b", "blocks": "accepted",
		"payouts": "rewards 0.00010000 = credited to accounts 0.00005657 + operator 0.00004343 (fees 0.00000100)",
	} {
		text := runPool(t, with(command)...)
		if !strings.Contains(text, want) || strings.ContainsRune(text, '\r') {
			t.Errorf("%s does not say %q:\n%s", command, want, text)
		}
		form := runPool(t, with(command, "--json")...)
		for d := json.NewDecoder(strings.NewReader(form)); d.More(); {
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, form)
			}
		}
	}
}

func TestPoolWithoutBooks(t *testing.T) {
	config := filepath.Join(t.TempDir(), configs.FileName)
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"workers", "shares", "blocks", "payouts"} {
		root := newRoot()
		root.SetArgs([]string{"pool", command, "--config", config})
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "no books yet") {
			t.Errorf("%s: %v", command, err)
		}
	}
	root := newRoot()
	root.SetArgs([]string{"pool", "shares", "--config", config, "--since", "yesterday"})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "--since") {
		t.Error(err)
	}
}

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-27": "2026-11-27T00:00:00.000Z", "2026-11-27T10:00:00+01:00": "2026-11-27T09:00:00.000Z", "2026-11-27 10:30": "2026-11-27T10:30:00.000Z",
		"90m": "2026-11-28T10:30:00.000Z", "7d": "2026-11-21T12:00:00.000Z", "1.5d": "2026-11-27T00:00:00.000Z", "": "",
	} {
		if got, err := parseMoment(now, text); err != nil || moment(got) != want {
			t.Errorf("%q: %v, %v", text, moment(got), err)
		}
	}
	for _, text := range []string{"now", "-5m", "d", "2026-13-01"} {
		if _, err := parseMoment(now, text); err == nil {
			t.Errorf("%q is a time", text)
		}
	}
}
