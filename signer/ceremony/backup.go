package ceremony

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/worker"
)

// sealedHead is the first line of a sealed backup, which is authenticated but not
// secret. What follows it is AES-256-GCM over a tar archive of the token's folder.
type sealedHead struct {
	Format      string   `json:"format"`
	Token       string   `json:"token"`
	Serial      string   `json:"serial"`
	Total       int      `json:"total"`
	Commitments []string `json:"commitments"` // as many as shares are needed
	Nonce       string   `json:"nonce"`
}

const sealedFormat = "qcity/key/backup/1"

// maxBackup bounds a backup and what is in it, in bytes.
const maxBackup = 64 << 20

// aead returns the cipher of one token's backup.
func aead(secret []byte, head sealedHead) (cipher.AEAD, error) {
	key := types.TaggedHash("qcity/key/backup", secret, []byte(head.Token), []byte{0}, []byte(head.Serial))
	defer clear(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// SealSoftHSM archives one token of a SoftHSM token directory and seals it with
// the split's key. Nothing may write to the token meanwhile.
func SealSoftHSM(tokens string, token worker.TokenRef, split *Split) ([]byte, error) {
	folder, err := tokenFolder(tokens, token.Serial)
	if err != nil {
		return nil, err
	}
	archive, err := pack(tokens, folder)
	if err != nil {
		return nil, fmt.Errorf("archive token %s: %w", token, err)
	}
	defer clear(archive)
	nonce := make([]byte, 12)
	rand.Read(nonce) // never fails
	head := sealedHead{
		Format: sealedFormat, Token: token.Label, Serial: token.Serial,
		Total: len(split.Shares), Commitments: split.commitments, Nonce: hex.EncodeToString(nonce),
	}
	box, err := aead(split.secret, head)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	return box.Seal(bytes.Clone(line), nonce, archive, line), nil
}

// RestoreSoftHSM unseals a backup into a fresh token directory, which must be
// empty, and returns the token that is now in it.
func RestoreSoftHSM(sealed []byte, shares []Share, tokens string) (worker.TokenRef, error) {
	line, body, ok := bytes.Cut(sealed, []byte("\n"))
	var head sealedHead
	if !ok || decodeJSON(line, &head) != nil || head.Format != sealedFormat || len(head.Commitments) < 2 {
		return worker.TokenRef{}, failure(ErrBackup, "this file is no backup in the form %s", sealedFormat)
	}
	token := worker.TokenRef{Label: head.Token, Serial: head.Serial}
	if entries, err := os.ReadDir(tokens); err != nil || len(entries) > 0 {
		return token, errors.Join(failure(ErrBackup, "%s must be an empty folder: a backup is never restored over tokens", tokens), err)
	}
	secret, err := join(head.Commitments, shares)
	if err != nil {
		return token, err
	}
	defer clear(secret)
	box, err := aead(secret, head)
	if err != nil {
		return token, err
	}
	nonce, err := hex.DecodeString(head.Nonce)
	if err != nil || len(nonce) != box.NonceSize() {
		return token, failure(ErrBackup, "the backup's head is damaged: use another copy of it")
	}
	archive, err := box.Open(nil, nonce, body, append(line, '\n'))
	if err != nil {
		return token, failure(ErrBackup, "the backup of token %s is damaged: use another copy of it", token)
	}
	defer clear(archive)
	return token, unpack(archive, tokens)
}

// tokenFolder finds the folder of a token. SoftHSM 2 names it by a UUID, whose
// last 16 digits are the serial number.
func tokenFolder(tokens, serial string) (string, error) {
	entries, err := os.ReadDir(tokens)
	if err != nil {
		return "", fmt.Errorf("read SoftHSM's token directory: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && len(serial) == 16 && strings.HasSuffix(strings.ReplaceAll(e.Name(), "-", ""), serial) {
			return e.Name(), nil
		}
	}
	return "", failure(ErrBackup, "%s holds no SoftHSM token with serial %s: name SoftHSM's token directory", tokens, serial)
}

// pack archives the regular files of a folder, with its name.
func pack(dir, folder string) ([]byte, error) {
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			return nil, failure(ErrBackup, "%s in the token's folder is no regular file", e.Name())
		}
		name := filepath.Join(folder, e.Name())
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := t.Write(data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if out.Len() > maxBackup {
		return nil, failure(ErrBackup, "the token's folder has %d bytes, more than %d", out.Len(), maxBackup)
	}
	return out.Bytes(), nil
}

// unpack writes an archive of pack. It is authenticated, so that a name that
// leads elsewhere is a bug and not an attack; it is refused all the same.
func unpack(archive []byte, dir string) error {
	for t := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || strings.Count(h.Name, "/") != 1 {
			return failure(ErrBackup, "the backup holds %q, which is no file of a token", h.Name)
		}
		data, err := io.ReadAll(io.LimitReader(t, maxBackup))
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
}

// RunTool runs a vendor's tool without a shell. Every argument has {token},
// {serial} and {file} replaced. The tool sees no PIN of ours: it asks at the
// device or at the terminal, which it shares.
func RunTool(ctx context.Context, argv []string, token worker.TokenRef, file string) error {
	if len(argv) == 0 {
		return failure(ErrBackup, "the vendor's tool is not named")
	}
	r := strings.NewReplacer("{token}", token.Label, "{serial}", token.Serial, "{file}", file)
	args := make([]string, len(argv))
	for i, a := range argv {
		args[i] = r.Replace(a)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	// It may be at work on a device: it is asked to end, and killed much later.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, lingerLimit
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failure(ErrBackup, "the vendor's tool %s failed: %v", args[0], err)
	}
	return nil
}

// fileSHA256 returns a file's hash in hexadecimal digits.
func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
