package ceremony

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/signer/worker"
)

// restorePrefix begins the name of a folder that a token is restored into.
const restorePrefix = "restore-"

// driver is the one that is used. SoftHSM stands in for every device in a rehearsal.
func driver(s *Script, kind string) string {
	if kind == Rehearsal {
		return DriverSoftHSM
	}
	return s.Backup.Driver
}

func (c *Ceremony) driver() string { return driver(c.cfg.Script, c.cfg.Kind) }

func (c *Ceremony) backupFile(v Validator) string {
	return filepath.Join(c.cfg.Dir, BackupDir, v.Token+".backup")
}

func (c *Ceremony) shareFile(i int) string {
	return filepath.Join(c.cfg.Dir, SharesDir, fmt.Sprintf("custodian-%d.share", i+1))
}

// backup backs up all tokens in one step, because they are sealed with one key,
// which exists only within it: a step that was interrupted starts with a new key.
func (c *Ceremony) backup(ctx context.Context, r *result) error {
	roles := c.cfg.Script.Roles
	r.fact("driver", c.driver())
	var split *Split
	if c.driver() == DriverSoftHSM {
		var err error
		if split, err = NewSplit(roles.Custodians, roles.Threshold); err != nil {
			return err
		}
		defer split.Clear()
		for i, s := range split.Shares {
			if err := durable.WriteFile(c.shareFile(i), s.Encode(), 0o400); err != nil {
				return err
			}
		}
	}
	for i, name := range roles.Custodians {
		r.show("%-13s %s", fmt.Sprintf("custodian %d", i+1), name)
	}
	for _, v := range c.cfg.Script.Validators {
		token := worker.TokenRef{Label: v.Token, Serial: c.facts(actInit, v.Token)["serial"]}
		if err := c.backupToken(ctx, v, token, split); err != nil {
			return err
		}
		sum, err := fileSHA256(c.backupFile(v))
		if err != nil {
			return err
		}
		r.fact(v.Token, sum)
	}
	r.hint = "how many custodians open a backup, as \"M of N\""
	r.expect = fmt.Sprintf("%d of %d", roles.Threshold, len(roles.Custodians))
	r.show("%-13s %s", "to open it", r.expect)
	return nil
}

func (c *Ceremony) backupToken(ctx context.Context, v Validator, token worker.TokenRef, split *Split) error {
	if split == nil {
		// Of a repeated step, whose backup nobody confirmed. Left there it would stop a
		// tool that overwrites nothing, or pass for the work of one that did nothing.
		if err := os.Remove(c.backupFile(v)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return RunTool(ctx, c.cfg.Script.Backup.Backup, token, c.backupFile(v))
	}
	sealed, err := SealSoftHSM(c.cfg.SoftHSMTokens, token, split)
	if err != nil {
		return err
	}
	return durable.WriteFile(c.backupFile(v), sealed, 0o600)
}

func (c *Ceremony) restore(ctx context.Context, v Validator, r *result) error {
	sum, err := fileSHA256(c.backupFile(v))
	if err != nil {
		return err
	}
	if was := c.facts(actBackup, "")[v.Token]; sum != was {
		return failure(ErrBackup, "the backup of token %s is not the one that was shown (%s, now %s)", v.Token, was, sum)
	}
	if c.driver() == DriverSoftHSM {
		return c.restoreSoftHSM(ctx, v, r)
	}
	return c.restoreCommand(ctx, v, r)
}

func (c *Ceremony) restoreSoftHSM(ctx context.Context, v Validator, r *result) (err error) {
	dir, err := os.MkdirTemp(c.cfg.Dir, restorePrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return err
	}
	sealed, err := os.ReadFile(c.backupFile(v))
	if err != nil {
		return err
	}
	var shares []Share
	for i := range c.cfg.Script.Roles.Threshold {
		text, err := os.ReadFile(c.shareFile(i))
		if err != nil {
			return fmt.Errorf("a custodian's share is missing: %w", err)
		}
		s, err := ParseShare(text)
		clear(text)
		if err != nil {
			return err
		}
		shares = append(shares, s)
	}
	token, err := RestoreSoftHSM(sealed, shares, tokens)
	if err != nil {
		return err
	}
	cfg, err := c.softHSM(tokens, "restore.conf")
	if err != nil {
		return err
	}
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return c.proveRestored(ctx, w, token, v, PINs{Token: v.Token}, r)
}

func (c *Ceremony) restoreCommand(ctx context.Context, v Validator, r *result) (err error) {
	b := c.cfg.Script.Backup
	original := worker.TokenRef{Label: v.Token, Serial: c.facts(actInit, v.Token)["serial"]}
	if err := RunTool(ctx, b.Restore, original, c.backupFile(v)); err != nil {
		return err
	}
	// A worker of its own: libraries are not sure to see a device that came later.
	w, err := c.worker(c.module(v))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	label := strings.ReplaceAll(b.RestoredToken, "{token}", v.Token)
	tokens, err := w.ListTokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t.Label == label && t.Serial != original.Serial {
			return c.proveRestored(ctx, w, t.TokenRef, v, PINs{Token: label}, r)
		}
	}
	return failure(ErrBackup, "after the restore there is no token labelled %q besides the original: see what the vendor's tool said", label)
}

// proveRestored shows that the restored token signs with the same key.
func (c *Ceremony) proveRestored(ctx context.Context, w *worker.Supervisor, token worker.TokenRef, v Validator, pin PINs, r *result) error {
	if err := c.login(ctx, w, token, pin); err != nil {
		return err
	}
	r.fact("restored", token.Serial)
	return c.proveIn(ctx, w, token, v, r)
}
