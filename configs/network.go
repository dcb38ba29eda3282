package configs

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
)

//go:embed networks/*.toml
var networkFiles embed.FS

// BuiltinNetworks names the networks that ship in the binary and can be used
// as they are.
var BuiltinNetworks = []string{"regtest"}

// DevnetProfile returns the parameters of a devnet with genesis time, genesis
// difficulty and validators still to be filled in.
func DevnetProfile() (consensus.Params, error) {
	var p consensus.Params
	err := decodeEmbedded("devnet", &p)
	return p, err
}

func decodeEmbedded(name string, p *consensus.Params) error {
	file := path.Join("networks", name+".toml")
	data, err := fs.ReadFile(networkFiles, file)
	if err != nil {
		return fmt.Errorf("network %q is not built in: want one of %s, or the path of a network file", name, strings.Join(BuiltinNetworks, ", "))
	}
	return decode(file, data, p)
}

// LoadNetwork returns a built-in network by name, or reads a network file when
// the name contains a path separator or ends in .toml.
func LoadNetwork(name string) (*consensus.Network, error) {
	var p consensus.Params
	var err error
	if strings.ContainsRune(name, os.PathSeparator) || strings.HasSuffix(name, ".toml") {
		err = decodeFile(name, &p)
	} else if slices.Contains(BuiltinNetworks, name) {
		err = decodeEmbedded(name, &p)
	} else {
		err = fmt.Errorf("network %q is not built in: want one of %s, or the path of a network file", name, strings.Join(BuiltinNetworks, ", "))
	}
	if err != nil {
		return nil, err
	}
	n, err := consensus.NewNetwork(p)
	if err != nil {
		return nil, locateParameter(name, err)
	}
	if p.Release != nil && p.Release.Block == (types.Hash{}) {
		return nil, locateParameter(name, errors.New("release.block: want the id of the block at release.height"))
	}
	return n, nil
}

// parameter is how an error about a network begins: with the key in the file.
var parameter = regexp.MustCompile(`^(?:network ".*": )?([a-zA-Z]+(?:\.[a-zA-Z]+)?)\b`)

// locateParameter adds where in the network file the first wrong value is
// written, if it is a file.
func locateParameter(name string, err error) error {
	data, readErr := os.ReadFile(name)
	key := parameter.FindStringSubmatch(err.Error())
	if readErr != nil || key == nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	line, column := locate(data, strings.Split(key[1], "."))
	return &Error{name, line, column, err.Error()}
}

// WriteNetwork writes a network file that LoadNetwork reads back.
func WriteNetwork(file string, p *consensus.Params) error {
	if err := p.Check(); err != nil {
		return fmt.Errorf("write network file: %w", err)
	}
	text, err := encode(p)
	if err != nil {
		return fmt.Errorf("write network file: %w", err)
	}
	head := "# A network is its parameters: the genesis block commits to every number here but\n# those of [release], so a change makes another network.\n"
	return durable.WriteFile(file, append([]byte(head), text...), 0o644)
}
