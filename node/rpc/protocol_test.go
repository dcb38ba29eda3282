package rpc_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEnvelope: what comes back around results and errors, in both versions.
func TestEnvelope(t *testing.T) {
	r := start(t)
	genesis := r.net.ID.String()
	for _, c := range []struct {
		name, body string
		status     int
		want       string // the whole body; "code N" and "code N, ID": an error with that code (and id)
	}{
		{"1.0", `{"jsonrpc":"1.0","id":"x","method":"getblockcount","params":[]}`, 200, `{"result":0,"error":null,"id":"x"}`},
		{"1.1", `{"jsonrpc":"1.1","id":7,"method":"getblockcount"}`, 200, `{"result":0,"error":null,"id":7}`},
		{"no version, no id", `{"method":"getblockcount"}`, 200, `{"result":0,"error":null,"id":null}`},
		{"params null", `{"method":"getblockcount","params":null,"id":[1]}`, 200, `{"result":0,"error":null,"id":[1]}`},
		{"white space around", " \r\n\t{\"method\":\"getblockcount\"} \n", 200, `{"result":0,"error":null,"id":null}`},
		{"2.0", `{"jsonrpc":"2.0","id":1,"method":"getblockcount"}`, 200, `{"jsonrpc":"2.0","result":0,"id":1}`},
		{"2.0 id null is no notification", `{"jsonrpc":"2.0","id":null,"method":"getblockcount"}`, 200, `{"jsonrpc":"2.0","result":0,"id":null}`},
		{"2.0 null result", `{"jsonrpc":"2.0","id":1,"method":"gettxout","params":["` + genesis + `",0]}`, 200, `{"jsonrpc":"2.0","result":null,"id":1}`},
		{"named params", `{"method":"getblockhash","params":{"height":0}}`, 200, `{"result":"` + genesis + `","error":null,"id":null}`},
		{"optional named param left out", `{"method":"getrawmempool","params":{}}`, 200, `{"result":[],"error":null,"id":null}`},
		{"2.0 notification", `{"jsonrpc":"2.0","method":"getblockcount"}`, 204, ""},
		{"2.0 notification that fails", `{"jsonrpc":"2.0","method":"getblockhash"}`, 204, ""},

		{"1.0 unknown method", `{"method":"getblokcount","id":1}`, 404, "code -32601, 1"},
		{"2.0 unknown method", `{"jsonrpc":"2.0","method":"getblokcount","id":1}`, 200, "code -32601, 1"},
		{"method with another case", `{"method":"GetBlockCount"}`, 404, "code -32601"},
		{"1.0 error", `{"method":"getblockhash","params":[1],"id":"e"}`, 500, `code -8, "e"`},
		{"2.0 error", `{"jsonrpc":"2.0","method":"getblockhash","params":[1],"id":"e"}`, 200, `code -8, "e"`},

		{"empty", ``, 500, "code -32700"},
		{"not JSON", `getblockcount`, 500, "code -32700"},
		{"cut off", `{"method":"getblockcount"`, 500, "code -32700"},
		{"two calls", `{"method":"getblockcount"}{"method":"getblockcount"}`, 500, "code -32700"},
		{"cut-off batch", `[{"method":"getblockcount"}`, 500, "code -32700"},
		{"deep nesting", strings.Repeat("[", 20000), 500, "code -32700"},
		{"a number", `5`, 400, "code -32600"},
		{"null", `null`, 400, "code -32600"},
		{"a string", `"getblockcount"`, 400, "code -32600"},
		{"no method", `{"id":3}`, 400, "code -32600, 3"},
		{"method null", `{"id":3,"method":null}`, 400, "code -32600, 3"},
		{"method a number", `{"id":3,"method":1}`, 400, "code -32600, 3"},
		{"2.0 method a number", `{"jsonrpc":"2.0","id":3,"method":1}`, 200, "code -32600, 3"},
		{"unknown version", `{"jsonrpc":"3.0","id":3,"method":"getblockcount"}`, 400, "code -32600, 3"},
		{"version a number", `{"jsonrpc":2.0,"id":3,"method":"getblockcount"}`, 400, "code -32600, 3"},
		{"params a string", `{"id":3,"method":"getblockhash","params":"0"}`, 400, "code -32600, 3"},

		{"missing param", `{"id":3,"method":"getblockhash","params":[]}`, 500, "code -1, 3"},
		{"param null", `{"id":3,"method":"getblockhash","params":[null]}`, 500, "code -1, 3"},
		{"surplus param", `{"id":3,"method":"getblockhash","params":[0,0]}`, 500, "code -1, 3"},
		{"surplus param of a call without", `{"id":3,"method":"getblockcount","params":[0]}`, 500, "code -1, 3"},
		{"unknown named param", `{"id":3,"method":"getblockhash","params":{"hight":0}}`, 500, "code -8, 3"},
		{"missing named param", `{"id":3,"method":"getblockhash","params":{}}`, 500, "code -1, 3"},
		{"wrong type", `{"id":3,"method":"getblockhash","params":["0"]}`, 500, "code -3, 3"},
		{"fraction", `{"id":3,"method":"getblockhash","params":[0.5]}`, 500, "code -3, 3"},
		{"wrong named type", `{"id":3,"method":"getblockhash","params":{"height":[]}}`, 500, "code -3, 3"},

		{"batch", `[{"id":1,"method":"getblockcount"},{"jsonrpc":"2.0","id":2,"method":"getbestblockhash"}]`, 200, `[{"result":0,"error":null,"id":1},{"jsonrpc":"2.0","result":"` + genesis + `","id":2}]`},
		{"batch with a notification", `[{"jsonrpc":"2.0","method":"getblockcount"},{"jsonrpc":"2.0","id":2,"method":"getblockcount"}]`, 200, `[{"jsonrpc":"2.0","result":0,"id":2}]`},
		{"batch of notifications", `[{"jsonrpc":"2.0","method":"getblockcount"},{"jsonrpc":"2.0","method":"nothing"}]`, 204, ""},
		{"empty batch", `[]`, 400, "code -32600"},
		{"too large a batch", "[" + strings.TrimSuffix(strings.Repeat("1,", 1001), ",") + "]", 400, "code -32600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := r.send(http.MethodPost, c.body, nil)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if !strings.HasPrefix(c.want, "code") {
				if strings.TrimSuffix(body, "\n") != c.want {
					t.Errorf("got  %s\nwant %s", body, c.want)
				}
				return
			}
			var a reply
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Fatalf("%v in %q", err, body)
			}
			if a.Error == nil || a.Error.Message == "" || (a.Result != nil && string(a.Result) != "null") {
				t.Fatalf("no clear error: %s", body)
			}
			got := fmt.Sprintf("code %d, %s", a.Error.Code, a.ID)
			if got != c.want && got != c.want+", null" {
				t.Errorf("got %s (%s), want %s", got, a.Error.Message, c.want)
			}
			if isV2 := strings.Contains(body, `"jsonrpc":"2.0"`); isV2 != strings.Contains(c.body, `"jsonrpc":"2.0"`) || isV2 == strings.Contains(body, `"result"`) {
				t.Errorf("members of the wrong version: %s", body)
			}
		})
	}
}

// TestBatchElements: elements that are no calls are answered one by one.
func TestBatchElements(t *testing.T) {
	r := start(t)
	_, body := r.send(http.MethodPost, `[1,null,[],{"id":4,"method":"nothing"},{"id":5,"method":"getblockcount"}]`, nil)
	var list []reply
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	var codes []int
	for _, a := range list {
		code := 0
		if a.Error != nil {
			code = a.Error.Code
		}
		codes = append(codes, code)
	}
	if diff := cmp.Diff([]int{-32600, -32600, -32600, -32601, 0}, codes); diff != "" {
		t.Error(diff)
	}
}

// TestHelp lists exactly what can be called, each with its parameters.
func TestHelp(t *testing.T) {
	r := start(t)
	var text string
	r.call(&text, "help")
	listed := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " ") {
			continue
		}
		listed++
		name := strings.Fields(line)[0]
		var one string
		r.call(&one, "help", name)
		if !strings.HasPrefix(one, strings.TrimSpace(line)+"\n") || !strings.Contains(text, one) {
			t.Errorf("help of %s: %q", name, one)
		}
		if e := r.try(nil, name, 1, 2, 3, 4, 5); e == nil || e.Code != -1 {
			t.Errorf("%s with five parameters: %v", name, e)
		}
	}
	if listed != len(calls) {
		t.Errorf("%d calls listed, %d are tested by TestCalls", listed, len(calls))
	}
	for name := range calls {
		if !strings.Contains(text, name) {
			t.Errorf("help does not list %s", name)
		}
	}
	if e := r.try(nil, "help", "nothing"); e == nil || e.Code != -32601 {
		t.Errorf("help of an unknown command: %v", e)
	}
}
