package configs

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"qcitycoin.org/qcity/internal/durable"
	"qcitycoin.org/qcity/node/consensus"
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
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
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
	head := "# A network is its parameters: the genesis block commits to every number here,\n# so a change makes another network.\n"
	return durable.WriteFile(file, append([]byte(head), text...), 0o644)
}
