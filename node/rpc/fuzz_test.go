package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
)

// FuzzServeHTTP: whatever the body, the server answers with JSON that is a
// result or an error with a code and a text, one for each call at most.
func FuzzServeHTTP(f *testing.F) {
	server := newFaked(f)
	genesis := server.chain.Network().ID.String()
	for name := range server.methods {
		f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"` + name + `","params":[]}`))
		f.Add([]byte(`{"method":"` + name + `","params":["` + genesis + `",0,null]}`))
		f.Add([]byte(`{"method":"` + name + `","params":[1,"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"]}`))
	}
	g := chaingen.New(f, chaingen.Params())
	g.Fill("a", 10)
	vote := g.Vote("genesis", "a10", 2)
	for name, v := range map[string]interface{ AppendTo([]byte) []byte }{
		"submitattestation": &vote, "submitcertificate": g.Certificate("genesis", "a10", 0, 1, 4),
		"submitsetchange": g.SetChange(chaingen.PublicKeys(types.P256, 0, 1, 2), 0, 1, 2),
	} {
		f.Add(fmt.Appendf(nil, `{"id":1,"method":%q,"params":["%x"]}`, name, v.AppendTo(nil)))
	}
	f.Add(fmt.Appendf(nil, `{"id":1,"method":"setchangedigest","params":[[%q]]}`, g.Network().Validators[0]))
	for _, seed := range []string{
		``, `[`, `[]`, `[{}]`, `{}`, `null`, `"\ud800"`, `{"id":{"a":[1e999]},"method":"help"}`, `[{"jsonrpc":"2.0","method":"uptime"}]`,
		`{"method":"getblock","params":{"blockhash":"` + genesis + `","verbosity":2}}`, `{"method":"sendrawtransaction","params":["00","1e400"]}`,
		`{"method":"testmempoolaccept","params":[["00"],0]}`, "\xff\xfe{}", `{"ID":1,"METHOD":"help"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w := server.post(context.Background(), string(body))
		out := w.Body.Bytes()
		if w.Code == http.StatusNoContent && len(out) == 0 {
			return
		}
		switch w.Code {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusInternalServerError:
		default:
			if w.Code != http.StatusRequestEntityTooLarge {
				t.Fatalf("status %d", w.Code)
			}
			return
		}
		var list []json.RawMessage
		if json.Unmarshal(out, &list) != nil {
			list = []json.RawMessage{out}
		}
		if len(list) == 0 || len(list) > maxBatch {
			t.Fatalf("%d answers", len(list))
		}
		for _, one := range list {
			checkReply(t, one)
		}
		if len(server.running) != 0 || len(server.polls) != 0 {
			t.Fatalf("%d requests and %d polls are left", len(server.running), len(server.polls))
		}
	})
}

func checkReply(t *testing.T, one []byte) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(one, &members); err != nil {
		t.Fatalf("%v in %q", err, one)
	}
	raw, failed := members["error"]
	result, ok := members["result"]
	v1 := members["jsonrpc"] == nil
	if members["id"] == nil || (v1 && (!ok || !failed)) || (!v1 && ok == failed) {
		t.Fatalf("members of no version: %s", one)
	}
	if failed && string(raw) != "null" {
		var e Error
		if err := json.Unmarshal(raw, &e); err != nil || e.Code >= 0 || e.Message == "" || (v1 && string(result) != "null") {
			t.Fatalf("error is not clear: %s", one)
		}
	}
}
