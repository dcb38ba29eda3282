package embedtest

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

// TestMain runs more tests at once than there are CPUs: they wait for disks and elections.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "10"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// etcd is a cluster of servers in this process.
type etcd struct {
	t       testing.TB
	dir     string
	token   string
	clients []string
	peers   []string
	servers []*embed.Etcd
	tls     transport.TLSInfo // of the clients; zero: none
}

func freeURL(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func startEtcd(t testing.TB, members int) *etcd {
	e := &etcd{t: t, dir: t.TempDir(), token: "first", servers: make([]*embed.Etcd, members)}
	for range members {
		e.clients, e.peers = append(e.clients, freeURL(t)), append(e.peers, freeURL(t))
	}
	t.Cleanup(e.stop)
	e.start()
	return e
}

func (e *etcd) data(i int) string { return filepath.Join(e.dir, fmt.Sprint("m", i)) }

func (e *etcd) initial() string {
	var list []string
	for i, p := range e.peers {
		list = append(list, fmt.Sprintf("m%d=%s", i, p))
	}
	return strings.Join(list, ",")
}

// start starts what is stopped, and waits until all are ready.
func (e *etcd) start() {
	e.t.Helper()
	for i := range e.servers {
		if e.servers[i] == nil {
			e.servers[i] = e.startOne(i)
		}
	}
	for _, s := range e.servers {
		select {
		case <-s.Server.ReadyNotify():
		case err := <-s.Err():
			e.t.Fatal(err)
		case <-time.After(time.Minute):
			e.t.Fatal("etcd does not start")
		}
	}
}

func (e *etcd) startOne(i int) *embed.Etcd {
	parse := func(s string) []url.URL {
		u, err := url.Parse(s)
		if err != nil {
			e.t.Fatal(err)
		}
		return []url.URL{*u}
	}
	c := embed.NewConfig()
	c.Name, c.Dir = fmt.Sprint("m", i), e.data(i)
	c.ListenClientUrls, c.AdvertiseClientUrls = parse(e.clients[i]), parse(e.clients[i])
	c.ListenPeerUrls, c.AdvertisePeerUrls = parse(e.peers[i]), parse(e.peers[i])
	c.ClientTLSInfo = e.tls
	c.StrictReconfigCheck = false // it waits for members to have been up for a while
	c.InitialCluster, c.InitialClusterToken = e.initial(), e.token
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	s, err := embed.StartEtcd(c)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

func (e *etcd) stop() {
	for i := range e.servers {
		e.stopOne(i)
	}
}

func (e *etcd) stopOne(i int) {
	if e.servers[i] != nil {
		e.servers[i].Close()
		e.servers[i] = nil
	}
}

func (e *etcd) leader() int {
	for i, s := range e.servers {
		if s != nil && s.Server.Leader() == s.Server.MemberID() {
			return i
		}
	}
	e.t.Fatal("etcd has no leader")
	return 0
}

// copyData copies the data of all members, which must be stopped.
func (e *etcd) copyData(to string) {
	for i := range e.servers {
		if err := os.CopyFS(filepath.Join(to, fmt.Sprint("m", i)), os.DirFS(e.data(i))); err != nil {
			e.t.Fatal(err)
		}
	}
}

// putBack replaces the data by a copy.
func (e *etcd) putBack(from string) {
	for i := range e.servers {
		if err := os.RemoveAll(e.data(i)); err != nil {
			e.t.Fatal(err)
		}
		if err := os.CopyFS(e.data(i), os.DirFS(filepath.Join(from, fmt.Sprint("m", i)))); err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *etcd) client() *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: e.clients, Logger: zap.NewNop()})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (e *etcd) snapshot(file string) {
	_, err := snapshot.NewV3(zap.NewNop()).Save(e.t.Context(), clientv3.Config{Endpoints: e.clients[:1], Logger: zap.NewNop()}, file)
	if err != nil {
		e.t.Fatal(err)
	}
}

// restore puts every member, all stopped, on a snapshot.
func (e *etcd) restore(file string, bump uint64) {
	for i := range e.servers {
		if err := os.RemoveAll(e.data(i)); err != nil {
			e.t.Fatal(err)
		}
		if err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
			SnapshotPath: file, Name: fmt.Sprint("m", i), OutputDataDir: e.data(i), PeerURLs: e.peers[i : i+1],
			InitialCluster: e.initial(), InitialClusterToken: e.token, RevisionBump: bump, MarkCompacted: bump > 0,
		}); err != nil {
			e.t.Fatal(err)
		}
	}
}

// box is the configuration of a machine with the key.
func (e *etcd) box(k *clustertest.Key, name string) cluster.Config {
	return cluster.Config{
		Endpoints: e.clients, Network: types.Hash{7}, Keys: []types.PublicKey{k.PublicKey}, Name: name,
		StatePath: filepath.Join(e.dir, name+".pin"), AllowSingleMember: true,
		Timeouts: cluster.Timeouts{Attempt: 400 * time.Millisecond, Patience: 20 * time.Second},
	}
}

func join(t testing.TB, c cluster.Config, floor uint32) {
	t.Helper()
	if err := cluster.Join(t.Context(), c, cluster.Past{Floor: floor}); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, c cluster.Config) *cluster.Claims {
	t.Helper()
	b, err := cluster.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func shut(t testing.TB, b *cluster.Claims) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// boxes makes, joins and opens n boxes.
func (e *etcd) boxes(k *clustertest.Key, n int) (list []*cluster.Claims) {
	for i := range n {
		c := e.box(k, fmt.Sprint("box", i))
		join(e.t, c, 0)
		list = append(list, open(e.t, c))
	}
	return list
}

// contest is clustertest.Contest for tests.
func contest(t testing.TB, boxes []*cluster.Claims, k *clustertest.Key, height uint32) cluster.Claim {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	won, err := clustertest.Contest(ctx, boxes, k, height, new(atomic.Int64))
	if err != nil {
		t.Fatal(err)
	}
	return won
}

func seal(t testing.TB, b *cluster.Claims, k *clustertest.Key, c cluster.Claim) [64]byte {
	t.Helper()
	sig, err := clustertest.Seal(t.Context(), b, k, c)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func claim(t testing.TB, b *cluster.Claims, c cluster.Claim) *[64]byte {
	t.Helper()
	seal, err := b.Claim(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return seal
}
