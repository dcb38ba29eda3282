package simnet

import (
	"fmt"
	"sync"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
)

// books are a node's audit log, in memory: it outlives the node's stops. Real
// logs are random from their first entry on, and blocks carry their ends: a run
// would not repeat.
type books struct {
	mu    sync.Mutex
	heads []types.Hash
}

// Append implements signer.Audit.
func (b *books) Append(e audit.Entry) (audit.Head, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Signature = [64]byte{} // tokens make it at random
	var last types.Hash
	if n := len(b.heads); n > 0 {
		last = b.heads[n-1]
	}
	b.heads = append(b.heads, types.DoubleHash(append(last[:], fmt.Sprintf("%+v", e)...)))
	return b.head(), nil
}

// Head implements signer.Audit.
func (b *books) Head() audit.Head {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head()
}

func (b *books) head() audit.Head {
	n := len(b.heads)
	if n == 0 {
		return audit.Head{}
	}
	return audit.Head{Seq: uint64(n), Hash: b.heads[n-1]}
}

// HashAt implements signer.Audit.
func (b *books) HashAt(seq uint64) (types.Hash, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case seq == 0:
		return types.Hash{}, nil
	case seq > uint64(len(b.heads)):
		return types.Hash{}, audit.ErrSequence
	}
	return b.heads[seq-1], nil
}
