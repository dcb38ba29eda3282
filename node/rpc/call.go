package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// method is one call: its parameters by name, in order, a line of help, and
// what it does. Parameters in brackets are optional.
type method struct {
	params string
	help   string
	run    func(ctx context.Context, a *args) (any, error)
}

func (s *Server) table() map[string]method {
	return map[string]method{
		"getbestblockhash":  {"", "id of the best block", s.getBestBlockHash},
		"getblock":          {"blockhash [verbosity]", "a block: 0 hex, 1 with transaction ids, 2 with transactions", s.getBlock},
		"getblockchaininfo": {"", "state of the chain", s.getBlockchainInfo},
		"getblockcount":     {"", "height of the best block", s.getBlockCount},
		"getblockhash":      {"height", "id of the best chain's block at a height", s.getBlockHash},
		"getblockheader":    {"blockhash [verbose]", "a header: an object, or 80 bytes in hex", s.getBlockHeader},
		"getdifficulty":     {"", "difficulty of the best block", s.getDifficulty},
		"getslotinfo":       {"", "the next slot, its turns and windows, and the last slots", s.getSlotInfo},
		"getvalidators":     {"", "the validator set, the one that follows, disabled keys", s.getValidators},
		"getfinality":       {"", "newest signed, certified and final slot, and what is missing", s.getFinality},
		"getcertificates":   {"", "the newest certificates, in hex", s.getCertificates},
		"submitcertificate": {"hexdata", "hand in a certificate", s.submitCertificate},
		"submitattestation": {"hexdata", "hand in a validator's vote", s.submitAttestation},
		"submitsetchange":   {"hexdata", "hand in a change of the validator set, signed by its majority", s.submitSetChange},
		"setchangedigest":   {"publickeys", "what validators sign to put this set in place of theirs", s.setChangeDigest},

		"getmempoolinfo":       {"", "size of the mempool", s.getMempoolInfo},
		"getrawmempool":        {"[verbose]", "ids, or entries, of the mempool", s.getRawMempool},
		"getrawtransaction":    {"txid [verbose] [blockhash]", "a transaction of the mempool, or of the block named", s.getRawTransaction},
		"decoderawtransaction": {"hexstring", "a transaction in JSON", s.decodeRawTransaction},
		"sendrawtransaction":   {"hexstring [maxfeerate]", "hand in a signed transaction", s.sendRawTransaction},
		"testmempoolaccept":    {"rawtxs [maxfeerate]", "whether transactions would be accepted", s.testMempoolAccept},
		"gettxout":             {"txid n [include_mempool]", "an unspent output", s.getTxOut},
		"validateaddress":      {"address", "whether an address is one of this network", s.validateAddress},

		"getblocktemplate":  {"[template_request]", "work for a miner (BIP 22), with long poll", s.getBlockTemplate},
		"submitblock":       {"hexdata [dummy]", "hand in a solved block, in Bitcoin's serialisation or with VchBlockSig", s.submitBlock},
		"getmininginfo":     {"", "state of mining", s.getMiningInfo},
		"generatetoaddress": {"nblocks address [maxtries]", "regtest: mine blocks at once", s.generateToAddress},

		"getnetworkinfo": {"", "version and network", s.getNetworkInfo},
		"uptime":         {"", "seconds since the start", s.uptime},
		"help":           {"[command]", "this list", s.help},
	}
}

func (s *Server) call(ctx context.Context, name string, params json.RawMessage) (any, error) {
	m, ok := s.methods[name]
	if !ok {
		return nil, fail(codeUnknownMethod, "method %q not found: `help` lists what there is", name)
	}
	a, err := parseArgs(name, m.params, params)
	if err != nil {
		return nil, err
	}
	return m.run(ctx, a)
}

func (s *Server) help(_ context.Context, a *args) (any, error) {
	command := ""
	if err := a.get(0, &command); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(s.methods))
	for name := range s.methods {
		if command == "" || command == name {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fail(codeUnknownMethod, "help: unknown command %q", command)
	}
	slices.Sort(names)
	lines := make([]string, len(names))
	for i, name := range names {
		lines[i] = strings.TrimSpace(name+" "+s.methods[name].params) + "\n    " + s.methods[name].help
	}
	return strings.Join(lines, "\n"), nil
}

func (s *Server) uptime(context.Context, *args) (any, error) {
	return int64(time.Since(s.started).Seconds()), nil
}

func (c Call) run(ctx context.Context, a *args) (any, error) {
	params := make([]string, len(a.names))
	for i := range params {
		if err := a.get(i, &params[i]); err != nil {
			return nil, err
		}
	}
	result, err := c.Run(ctx, params)
	if err != nil {
		return nil, fail(codeMisc, "%s: %v", a.call, err)
	}
	return result, nil
}

// args are the parameters of one call, put in order.
type args struct {
	call   string
	names  []string
	values []json.RawMessage
}

func parseArgs(call, spec string, params json.RawMessage) (*args, error) {
	a := &args{call: call, names: strings.Fields(spec)}
	required := 0
	for i, name := range a.names {
		if a.names[i] = strings.Trim(name, "[]"); a.names[i] == name {
			required = i + 1
		}
	}
	a.values = make([]json.RawMessage, len(a.names))
	switch body := bytes.TrimSpace(params); {
	case len(body) == 0 || bytes.Equal(body, []byte("null")):
	case body[0] == '[':
		var list []json.RawMessage
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, fail(codeInvalidRequest, "%s: params: %v", call, err)
		}
		if len(list) > len(a.names) {
			return nil, fail(codeMisc, "%s takes: %s", call, orNothing(spec))
		}
		copy(a.values, list)
	default:
		var named map[string]json.RawMessage
		if err := json.Unmarshal(body, &named); err != nil {
			return nil, fail(codeInvalidRequest, "%s: params must be a list or an object", call)
		}
		for name, value := range named {
			i := slices.Index(a.names, name)
			if i < 0 {
				return nil, fail(codeParameter, "%s: unknown parameter %q; it takes: %s", call, name, orNothing(spec))
			}
			a.values[i] = value
		}
	}
	for i := range required {
		if !a.has(i) {
			return nil, fail(codeMisc, "%s: parameter %q is missing; it takes: %s", call, a.names[i], spec)
		}
	}
	return a, nil
}

func orNothing(spec string) string {
	if spec == "" {
		return "nothing"
	}
	return spec
}

func (a *args) has(i int) bool {
	return len(a.values[i]) > 0 && string(a.values[i]) != "null"
}

// get reads parameter i into v, which keeps its value when the caller left it out.
func (a *args) get(i int, v any) error {
	if !a.has(i) {
		return nil
	}
	if err := json.Unmarshal(a.values[i], v); err != nil {
		return fail(codeType, "%s: parameter %q has the wrong type: %v", a.call, a.names[i], err)
	}
	return nil
}

// getBoolOrLevel reads a parameter that bitcoind takes as a number or as true/false.
func (a *args) getBoolOrLevel(i int, level *int) error {
	if a.has(i) {
		var b bool
		if json.Unmarshal(a.values[i], &b) == nil {
			*level = 0
			if b {
				*level = 1
			}
			return nil
		}
	}
	return a.get(i, level)
}
