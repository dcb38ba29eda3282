package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/consensus/chaingen"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

// office is a box whose node is made up: it says what a node would at genesis,
// and with each look after a change was handed in the chain is further on.
type office struct {
	*testing.T
	dir, config string
	net         *consensus.Network
	cfg         configs.Config

	mu        sync.Mutex
	set       consensus.ValidatorSet
	next      *consensus.ValidatorSet
	disabled  types.PublicKey
	submitted int
	looks     int // at the set since the change was handed in
	forget    bool
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{T: t, dir: t.TempDir()}
	p := chaingen.Params()
	var err error
	if o.net, err = consensus.NewNetwork(p); err != nil {
		t.Fatal(err)
	}
	o.set = consensus.ValidatorSet{Keys: o.net.Validators}
	server := httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(server.Close)
	c := configs.Default()
	c.Network, c.Data, c.RPC.Listen = networkFile, nodeDir, strings.TrimPrefix(server.URL, "http://")
	for i := range 2 {
		c.Signer.Keys = append(c.Signer.Keys, configs.SignerKey{PublicKey: key(i + 2).Public().String(), Token: "t"})
	}
	o.config = filepath.Join(o.dir, configs.FileName)
	if err := errors.Join(configs.WriteNetwork(filepath.Join(o.dir, networkFile), &p), c.Write(o.config), os.Mkdir(filepath.Join(o.dir, nodeDir), 0o700),
		os.WriteFile(filepath.Join(o.dir, nodeDir, node.CookieFile), []byte("__cookie__:secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if o.cfg, err = configs.Load(o.config); err != nil {
		t.Fatal(err)
	}
	return o
}

func key(i int) chaingen.Key { return chaingen.ValidatorKey(types.Secp256k1, i) }

func (o *office) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var req struct {
		Method string
		Params []string
	}
	if user, password, _ := r.BasicAuth(); user != "__cookie__" || password != "secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		o.Error(err)
	}
	result, err := o.answer(req.Method, req.Params)
	answer := map[string]any{"result": result, "error": nil}
	if err != nil {
		answer = map[string]any{"result": nil, "error": map[string]any{"code": -26, "message": err.Error()}}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		o.Error(err)
	}
}

func (o *office) answer(method string, params []string) (any, error) {
	switch method {
	case "getblockchaininfo":
		return map[string]any{"networkid": o.net.ID, "blocks": 14}, nil
	case "getfinality":
		return map[string]any{"certified": map[string]any{"height": 10}, "final": map[string]any{"height": 0}}, nil
	case "getvalidators":
		return o.validators(), nil
	case "submitsetchange":
		raw, err := hex.DecodeString(params[0])
		if err != nil {
			return nil, err
		}
		c, err := consensus.DecodeSetChange(raw)
		if err != nil {
			return nil, err
		}
		g := o.net.GenesisState()
		if err := g.CheckRecord(&c); err != nil {
			return nil, err
		}
		o.submitted++
		if o.forget { // restarted
			o.forget = false
			return nil, nil
		}
		o.next, o.looks = &consensus.ValidatorSet{Number: 1, Keys: c.Keys}, 0
		return nil, nil
	}
	return nil, errors.New("no such call")
}

func (o *office) validators() any {
	o.looks++
	if o.next != nil && o.looks > 5 {
		o.set, o.next = *o.next, nil
	}
	m := o.setJSON(&o.set)
	if m["next"] = nil; o.next != nil {
		next := o.setJSON(o.next)
		next["carrier"], next["certifiedabove"] = map[string]any{"height": 20, "hash": types.Hash{1}}, o.looks
		m["next"] = next
	}
	return m
}

func (o *office) setJSON(set *consensus.ValidatorSet) map[string]any {
	var keys []map[string]any
	for i, k := range set.Keys {
		keys = append(keys, map[string]any{
			"index": i, "algorithm": k.Algorithm.String(), "publicKey": hex.EncodeToString(k.Point[:]), "disabled": k == o.disabled,
		})
	}
	return map[string]any{"number": set.Number, "id": set.ID(), "validators": keys}
}

// do runs a command and returns what it printed.
func (o *office) do(args ...string) (string, error) {
	o.Helper()
	var out, talk bytes.Buffer
	root := newRoot()
	root.SetArgs(append([]string{"authority"}, append(args, "--config", o.config)...))
	root.SetOut(&out)
	root.SetErr(&talk)
	err := root.ExecuteContext(o.Context())
	return out.String(), err
}

func (o *office) path(name string) string { return filepath.Join(o.dir, name) }

// proof writes the proof of a new key.
func (o *office) proof(i int) string {
	o.Helper()
	challenge, k := []byte("asked by the officers"), key(i)
	p := proof.Proof{Key: k.Public(), Network: o.net.ID, Challenge: challenge}
	p.Signature = k.Sign(proof.Digest(o.net.ID, p.Key, challenge))
	path := o.path(fmt.Sprintf("%d.proof", i))
	if err := os.WriteFile(path, p.Encode(), 0o600); err != nil {
		o.Fatal(err)
	}
	return path
}

// propose writes the proposal that hands validator 3 over to key 5.
func (o *office) propose() (string, *authority.Proposal) {
	o.Helper()
	path := o.path("change.json")
	if _, err := o.do("propose", "--replace", "3="+o.proof(5), "--reason", "token of 3 lost", "--out", path); err != nil {
		o.Fatal(err)
	}
	p, err := readProposal(path, o.net)
	if err != nil {
		o.Fatal(err)
	}
	return path, p
}

// softSigner signs set changes with made-up keys, past a journal in memory.
type softSigner struct {
	net    *consensus.Network
	claims map[types.PublicKey]types.Hash
}

func (s *softSigner) SignSetChange(_ context.Context, r authority.SetChangeRequest) (signer.Response, error) {
	k, digest, err := r.Check(s.net)
	if err != nil {
		return signer.Response{}, err
	}
	if old, ok := s.claims[k]; ok && old != digest {
		return signer.Response{}, &signer.Refusal{Rule: "set-change-double", Detail: "another set of this number"}
	}
	s.claims[k] = digest
	for i := range 9 {
		if key(i).Public() == k {
			sig := key(i).Sign(digest)
			return signer.Response{Index: r.Index, Signature: sig[:]}, nil
		}
	}
	return signer.Response{}, errors.New("no such key")
}

// sign has people at a terminal sign; it returns what they saw.
func (o *office) sign(s *softSigner, path, key, typed string, change ...func(*authoritySign)) (string, error) {
	o.Helper()
	var talk bytes.Buffer
	c := authoritySign{
		file: o.config, key: key, out: o.path("signed-" + key + ".json"), in: strings.NewReader(typed), terminal: true, talk: &talk,
		connect: func(context.Context) (setChangeSigner, func() error, error) {
			return s, func() error { return nil }, nil
		},
	}
	for _, f := range change {
		f(&c)
	}
	_, err := c.run(o.Context(), &o.cfg, o.net, path)
	return talk.String(), err
}

func answers(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
