package rpc_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/rpc"
)

// Methods of other parts of the box take named and listed strings, are in the
// help, and say in their own words why they refuse.
func TestAddedCalls(t *testing.T) {
	r := start(t, func(c *node.Config) {
		c.Calls = func() []rpc.Call {
			return []rpc.Call{{
				Name: "poolecho", Params: "text [worker]", Help: "says it again",
				Run: func(_ context.Context, p []string) (any, error) {
					if p[0] == "no" {
						return nil, errors.New("not that")
					}
					return strings.Join(p, "|"), nil
				},
			}}
		}
	})
	for body, want := range map[string]string{
		`{"method":"poolecho","params":["a","b"]}`:        `"result":"a|b"`,
		`{"method":"poolecho","params":{"text":"a"}}`:     `"result":"a|"`,
		`{"method":"poolecho","params":[5]}`:              `"code":-3`,
		`{"method":"poolecho","params":[]}`:               `is missing`,
		`{"method":"poolecho","params":["no"]}`:           `"poolecho: not that"`,
		`{"method":"help","params":["poolecho"]}`:         `poolecho text [worker]`,
		`{"method":"poolecho","params":["a","b","more"]}`: `takes: text [worker]`,
	} {
		if _, got := r.send(http.MethodPost, body, nil); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}
