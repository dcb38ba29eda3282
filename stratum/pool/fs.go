package pool

import (
	"os"

	"qcitycoin.org/qcity/internal/durable"
)

type osFS struct{ durable.FS }

func (osFS) Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
