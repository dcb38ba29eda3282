package signer

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"qcitycoin.org/qcity/signer/audit"
)

// TestOldAuditFileChanged: a byte that was changed in a file of the audit log
// which is not the newest does not keep the daemon from starting, but halts it.
func TestOldAuditFileChanged(t *testing.T) {
	v := newVault(t)
	v.generate(t, testKeys()[0].public.Algorithm)
	v.found(t)
	log := need[*audit.Log](t)(audit.Open(v.config.Audit, v.network.ID, audit.Options{}))
	for range 3 {
		need[audit.Head](t)(log.Append(audit.Entry{Time: time.Now(), Event: audit.EventRefused, Detail: "an old refusal"}))
	}
	if err := log.Rotate(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	file := need[[]byte](t)(os.ReadFile(v.config.Audit))
	changed := bytes.Replace(file, []byte("an old refusal"), []byte("an old signing"), 1)
	if bytes.Equal(file, changed) {
		t.Fatal("nothing was changed")
	}
	if err := os.WriteFile(v.config.Audit, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	c, stop := v.start(t)
	defer stop()
	ctx := patience(t)
	for {
		st := need[Status](t)(c.Status(ctx))
		if st.Halt != nil {
			if st.Halt.By != "signer" || !strings.Contains(st.Halt.Reason, "audit log") {
				t.Fatalf("%+v", st.Halt)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatal("it goes on signing")
		}
	}
}
