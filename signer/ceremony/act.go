package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/signer/worker"
)

// do carries out one step. Everything in it may be repeated after an interruption.
func (c *Ceremony) do(ctx context.Context, s Step, r *result, interrupted bool) error {
	var v Validator
	if s.validator >= 0 {
		v = c.cfg.Script.Validators[s.validator]
	}
	switch s.action {
	case actBegin:
		return c.begin(r)
	case actTokens:
		return c.tokens(ctx, r)
	case actInit:
		return c.initialise(ctx, v, r, interrupted)
	case actGenerate:
		return c.generate(ctx, v, r, interrupted)
	case actAttributes:
		return c.attributes(ctx, v, r)
	case actAttest:
		return c.attest(ctx, v, r)
	case actProve:
		return c.prove(ctx, v, r)
	case actBackup:
		return c.backup(ctx, r)
	case actRestore:
		return c.restore(ctx, v, r)
	case actNetwork:
		return c.writeNetwork(r)
	case actRecords:
		return c.writeRecords(ctx, r)
	case actEnd:
		return c.end(r)
	}
	return fmt.Errorf("no such action: %d", s.action)
}

func (c *Ceremony) begin(r *result) error {
	script := c.cfg.Script
	if script.BinarySHA256 != "" && script.BinarySHA256 != c.cfg.BinarySHA256 && c.cfg.Kind == Run {
		return failure(ErrOther, "this program has the hash %s, the script wants %s: use the reviewed program", c.cfg.BinarySHA256, script.BinarySHA256)
	}
	r.show("%s", script.Title)
	r.fact("kind", c.cfg.Kind)
	r.fact("script", c.cfg.ScriptSHA256)
	r.fact("binary", c.cfg.BinarySHA256)
	for _, role := range []string{Administrator, Operator, Witness, Custodians} {
		r.show("%-13s %s", role, script.Roles.person(role))
	}
	r.show("%-13s %s", "script words", HashWords(c.cfg.ScriptSHA256))
	r.expect, r.hint = HashWords(c.cfg.ScriptSHA256), "the script's six words, from the printed plan"
	return nil
}

func (c *Ceremony) tokens(ctx context.Context, r *result) error {
	wanted := make(map[string]int)
	labels := make(map[string]bool)
	for _, v := range c.cfg.Script.Validators {
		wanted[v.Module]++
		labels[v.Token] = true
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		w := c.modules[c.module(Validator{Module: name})]
		module, err := w.Open(ctx)
		if err != nil {
			return err
		}
		present, err := w.ListTokens(ctx)
		if err != nil {
			return err
		}
		blanks, err := w.ListBlanks(ctx)
		if err != nil {
			return err
		}
		for _, t := range present {
			if labels[t.Label] {
				return failure(ErrTokenState, "token %s carries a label of the script already: start with blank tokens", t.TokenRef)
			}
		}
		// SoftHSM always shows one blank slot and makes another when it is used.
		if c.module(Validator{Module: name}) != SoftHSM && len(blanks) < wanted[name] {
			return failure(ErrTokenState, "module %q shows %d blank tokens, the script needs %d: connect them, or reset them to factory state", name, len(blanks), wanted[name])
		}
		r.fact("module "+name, fmt.Sprintf("%s, %s, library %s, Cryptoki %s", module.Manufacturer, module.Description, module.Version, module.Cryptoki))
		r.fact("blank "+name, listed(blanks))
		r.fact("others "+name, listed(present))
	}
	return nil
}

func listed(tokens []worker.TokenInfo) string {
	parts := make([]string, 0, len(tokens))
	for _, t := range tokens {
		serial := t.Serial
		if serial == "" {
			serial = "without serial"
		}
		parts = append(parts, strings.TrimSpace(t.Model+" "+serial))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (c *Ceremony) initialise(ctx context.Context, v Validator, r *result, interrupted bool) error {
	w := c.modules[c.module(v)]
	token, err := w.FindToken(ctx, v.Token, "")
	switch {
	case errors.Is(err, worker.ErrTokenNotFound):
		if token, err = c.initToken(ctx, w, v); err != nil {
			return err
		}
	case err != nil:
		return err
	case !interrupted:
		return failure(ErrTokenState, "token %s has appeared since the tokens were shown: find out where it comes from", token.TokenRef)
	case !token.PINInitialised:
		return failure(ErrTokenState, "token %s was left without a user PIN by the interruption: reset it to factory state with the vendor's tool, then run the ceremony again", token.TokenRef)
	default:
		if err := c.login(ctx, w, token.TokenRef, PINs{Token: v.Token}); err != nil {
			return err
		}
	}
	keys, err := w.ListKeys(ctx, token.TokenRef)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		return failure(ErrTokenState, "the new token %s has %d keys in it already: do not use it", token.TokenRef, len(keys))
	}
	r.fact("token", token.Label)
	r.fact("serial", token.Serial)
	r.fact("device", fmt.Sprintf("%s %s, firmware %s", token.Manufacturer, token.Model, token.Firmware))
	r.fact("keys", "none")
	return nil
}

func (c *Ceremony) initToken(ctx context.Context, w *worker.Supervisor, v Validator) (worker.TokenInfo, error) {
	admin, err := c.cfg.PIN(ctx, PINs{Token: v.Token, Admin: true, New: true})
	if err != nil {
		return worker.TokenInfo{}, err
	}
	defer clear(admin)
	user, err := c.cfg.PIN(ctx, PINs{Token: v.Token, New: true})
	if err != nil {
		return worker.TokenInfo{}, err
	}
	defer clear(user)
	return NewToken(ctx, w, v.Token, admin, user)
}

func (c *Ceremony) generate(ctx context.Context, v Validator, r *result, interrupted bool) error {
	w, token, err := c.ready(ctx, v)
	if err != nil {
		return err
	}
	keys, err := w.ListKeys(ctx, token)
	if err != nil {
		return err
	}
	var key worker.Key
	switch {
	case len(keys) == 0:
		key, err = NewKey(ctx, w, token, v.algorithm(), v.Key, v.id())
	case len(keys) == 1 && interrupted:
		// The token was empty when this step began, so this is the key it made.
		if key, err = w.FindKey(ctx, token, worker.KeyQuery{Algorithm: v.algorithm(), Label: v.Key, ID: v.id()}); err == nil {
			err = checkMade(key)
		}
	default:
		err = failure(ErrTokenState, "token %s holds %d keys that this ceremony did not make: do not use it", token, len(keys))
	}
	if err != nil {
		return err
	}
	k := Public(key)
	f := KeyFingerprint(k)
	r.fact("publicKey", k.String())
	if a := Address(c.cfg.Script.Network.Addresses, k); a != "" {
		r.fact("address", a)
	}
	r.fact("fingerprint", f.Hex)
	r.fact("words", f.Words)
	r.fact("id", hex.EncodeToString(key.ID))
	r.show("%-13s %s", "serial", token.Serial)
	r.show("%s", Origin(key.Attributes))
	r.expect, r.hint = f.Words, "the key's six words"
	return nil
}

// found returns the validator's key as it is in its token now, the only one there.
func (c *Ceremony) found(ctx context.Context, v Validator) (Record, error) {
	w, token, err := c.ready(ctx, v)
	if err != nil {
		return Record{}, err
	}
	keys, err := w.ListKeys(ctx, token)
	if err != nil {
		return Record{}, err
	}
	want, err := c.key(v)
	if err != nil {
		return Record{}, err
	}
	if len(keys) != 1 || Public(keys[0]) != want || keys[0].Label != v.Key || hex.EncodeToString(keys[0].ID) != v.ID {
		return Record{}, failure(ErrTokenState, "token %s no longer holds exactly the key %s: stop", token, want)
	}
	if err := checkMade(keys[0]); err != nil {
		return Record{}, err
	}
	return NewRecord(token, keys[0]), nil
}

func (c *Ceremony) attributes(ctx context.Context, v Validator, r *result) error {
	k, err := c.found(ctx, v)
	if err != nil {
		return err
	}
	r.fact("publicKey", k.PublicKey.String())
	r.fact("attributes", describe(k.Attributes))
	return nil
}

func (c *Ceremony) attest(ctx context.Context, v Validator, r *result) error {
	w, token, err := c.ready(ctx, v)
	if err != nil {
		return err
	}
	k, err := c.key(v)
	if err != nil {
		return err
	}
	certificates, err := w.ListCertificates(ctx, token)
	if err != nil {
		return err
	}
	var statement *Attested
	if len(c.cfg.Root) > 0 {
		roots, err := ParseRoot(c.cfg.Root)
		if err != nil {
			return err
		}
		if statement, err = Attest(k, v.id(), certificates, roots, c.cfg.Now()); err != nil {
			return err
		}
	}
	switch {
	case statement != nil:
		r.fact("attestation", strings.Join(statement.Chain, " <- "))
		r.fact("certificate", statement.SHA256)
	case c.cfg.Script.Attestation.Required && c.cfg.Kind == Run:
		return failure(ErrAttestation, "token %s attests nothing about its key, and the script requires it", token)
	default:
		r.fact("attestation", NoAttestation)
	}
	return nil
}

func (c *Ceremony) prove(ctx context.Context, v Validator, r *result) error {
	w, token, err := c.ready(ctx, v)
	if err != nil {
		return err
	}
	return c.proveIn(ctx, w, token, v, r)
}

func (c *Ceremony) proveIn(ctx context.Context, w *worker.Supervisor, token worker.TokenRef, v Validator, r *result) error {
	k, err := c.key(v)
	if err != nil {
		return err
	}
	net, err := c.network()
	if err != nil {
		return err
	}
	p, err := Prove(ctx, w, Ref(token, k), net.ID, NewChallenge(c.cfg.Now()))
	if err != nil {
		return err
	}
	r.fact("network", net.ID.String())
	r.fact("challenge", string(p.Challenge))
	r.facts["proof"] = strings.TrimSuffix(string(p.Encode()), "\n")
	r.show("the proof verifies under %s", k)
	return nil
}

func (c *Ceremony) writeNetwork(r *result) error {
	net, err := c.network()
	if err != nil {
		return err
	}
	path := filepath.Join(c.cfg.Dir, NetworkFile)
	if err := c.cfg.WriteNetwork(path, &net.Params); err != nil {
		return err
	}
	sum, err := fileSHA256(path)
	if err != nil {
		return err
	}
	for i, k := range net.Validators {
		r.show("validator %-3d %s", i, k)
	}
	r.fact("network", net.ID.String())
	r.fact("sha256", sum)
	r.expect, r.hint = HashWords(net.ID.String()), "the network's six words"
	r.show("%-13s %s", "network words", r.expect)
	return nil
}

// recordFile and proofFile are a validator's files within the folder.
func recordFile(v Validator) string { return filepath.Join(RecordsDir, v.Token+".json") }

func proofFile(v Validator) string { return filepath.Join(ProofsDir, v.Token+".json") }

func (c *Ceremony) writeRecords(ctx context.Context, r *result) error {
	for _, v := range c.cfg.Script.Validators {
		k, err := c.found(ctx, v)
		if err != nil {
			return err
		}
		p, err := parseProof(c.facts(actProve, v.Token)["proof"])
		if err != nil {
			return err
		}
		record, proved := recordFile(v), proofFile(v)
		for path, text := range map[string][]byte{record: k.Encode(), proved: p.Encode()} {
			if err := durable.WriteFile(filepath.Join(c.cfg.Dir, path), text, 0o644); err != nil {
				return err
			}
		}
		for _, path := range []string{record, proved} {
			sum, err := fileSHA256(filepath.Join(c.cfg.Dir, path))
			if err != nil {
				return err
			}
			r.fact(path, sum)
		}
	}
	return nil
}

func (c *Ceremony) end(r *result) error {
	head := c.log.entries[len(c.log.entries)-1].Hash
	r.show("%d keys in %d tokens; network %s", len(c.cfg.Script.Validators), len(c.cfg.Script.Validators), factsOf(c.cfg.Script, c.steps, done(c.log.entries), actNetwork, "")["network"])
	r.fact("before", head)
	r.show("%-13s %s", "words", HashWords(head))
	r.show("the transcript's last line follows this hash; everybody writes down the words and signs")
	r.expect, r.hint = HashWords(head), "the transcript's six words"
	r.facts["steps"] = strconv.Itoa(len(c.steps))
	return nil
}
