package cluster

import (
	"context"
	"io/fs"

	clientv3 "go.etcd.io/etcd/client/v3"

	"qcitycoin.org/qcity/internal/durable"
)

// Disk keeps the file of a pin for tests.
type Disk struct {
	Data []byte
	Fail error
	FS   durable.FS // nil: Data is all there is
}

func (d *Disk) write(path string, data []byte, perm fs.FileMode) error {
	if d.FS != nil {
		err := durable.WriteFileOn(d.FS, path, data, perm)
		d.Data, _ = durable.ReadFileOn(d.FS, path)
		return err
	}
	if d.Fail == nil {
		d.Data = data
	}
	return d.Fail
}

// Revision is what the file says.
func (d *Disk) Revision() int64 {
	s, err := decodeState(d.Data)
	if err != nil {
		panic(err)
	}
	return s.Revision
}

// Start returns the Claims of a box with this disk, without asking the cluster, as
// after a crash. An empty disk has joined cluster 1 with members 1, 2 and 3.
func Start(ctx context.Context, c Config, kv clientv3.KV, d *Disk) *Claims {
	return startWith(ctx, c, kv, d, d.state(c))
}

func (d *Disk) state(c Config) state {
	s := state{Network: c.Network, Cluster: 1, Members: []id{1, 2, 3}}
	if d.Data != nil {
		var err error
		if s, err = decodeState(d.Data); err != nil {
			panic(err)
		}
	}
	return s
}

func startWith(ctx context.Context, c Config, kv clientv3.KV, d *Disk, s state) *Claims {
	client := clientv3.NewCtxClient(ctx)
	client.KV = kv
	p := newPin("pin", s)
	p.write = d.write
	c = c.withDefaults()
	return &Claims{
		config: c, client: client, names: newNames(c.Prefix, c.Network), pin: p, log: c.Log,
		turn: turn{changed: make(chan struct{})}, heads: make(map[slot]head),
	}
}

// Rejoin is what Join does once it knows the members.
func Rejoin(ctx context.Context, c Config, kv clientv3.KV, d *Disk, past Past) error {
	before := d.state(c)
	fresh := state{Network: c.Network, Cluster: before.Cluster, Members: before.Members}
	return startWith(ctx, c, kv, d, fresh).bring(ctx, &before, past)
}
