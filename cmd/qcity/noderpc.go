package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node"
)

// nodeRPC calls the node of a configuration file, with the cookie that the node
// makes anew at every start.
type nodeRPC struct {
	url, cookie string
}

func newNodeRPC(c *configs.Config) (*nodeRPC, error) {
	host, port, err := net.SplitHostPort(c.RPC.Listen)
	if err != nil {
		return nil, fmt.Errorf("rpc.listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // it listens everywhere, so here as well
	}
	return &nodeRPC{"http://" + net.JoinHostPort(host, port), filepath.Join(c.Path(c.Data), node.CookieFile)}, nil
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 16 << 20

// rpcError is the node's refusal.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

// errNoNode means that no node answers.
var errNoNode = errors.New("the node does not answer")

// call makes one call; result may be nil. The error is errNoNode, or an
// *rpcError if the node refuses.
func (r *nodeRPC) call(ctx context.Context, result any, method string, params ...any) error {
	cookie, err := os.ReadFile(r.cookie)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing: start the node with `qcity run`", errNoNode, r.cookie)
	}
	if err != nil {
		return fmt.Errorf("read the node's cookie: %w: run this as the node's user", err)
	}
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	user, password, _ := strings.Cut(strings.TrimSpace(string(cookie)), ":")
	req.SetBasicAuth(user, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w at %s: is it running? %w", errNoNode, r.url, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  *rpcError       `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		if resp.StatusCode == http.StatusUnauthorized {
			return fmt.Errorf("%w: the cookie %s is not that of the node at %s: two nodes may share rpc.listen", errNoNode, r.cookie, r.url)
		}
		return fmt.Errorf("the node's answer to %s makes no sense (HTTP %d): %w", method, resp.StatusCode, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}
