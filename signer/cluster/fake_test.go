package cluster_test

import (
	"context"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fault is what goes wrong with one transaction.
type fault int

const (
	none       fault = iota
	lostBefore       // not applied, no answer
	lostAfter        // applied, no answer
)

// fakeEtcd is etcd's transactions in memory, for faults that the real one does not
// show on order. It is safe for concurrent use.
type fakeEtcd struct {
	clientv3.KV
	mu   sync.Mutex
	rev  int64
	keys map[string]*mvccpb.KeyValue

	fault func() fault             // nil: none
	head  func(*pb.ResponseHeader) // changes the head of an answer; nil: does not
	// readOnly counts transactions that might be answered without the log.
	readOnly int
}

func newFake() *fakeEtcd { return &fakeEtcd{rev: 1, keys: make(map[string]*mvccpb.KeyValue)} }

func (f *fakeEtcd) Txn(context.Context) clientv3.Txn { return &fakeTxn{f: f} }

type fakeTxn struct {
	f               *fakeEtcd
	cmps            []clientv3.Cmp
	then, otherwise []clientv3.Op
}

func (t *fakeTxn) If(c ...clientv3.Cmp) clientv3.Txn  { t.cmps = c; return t }
func (t *fakeTxn) Then(o ...clientv3.Op) clientv3.Txn { t.then = o; return t }
func (t *fakeTxn) Else(o ...clientv3.Op) clientv3.Txn { t.otherwise = o; return t }

func (t *fakeTxn) Commit() (*clientv3.TxnResponse, error) {
	f := t.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(t.then, clientv3.Op.IsPut) || !slices.ContainsFunc(t.otherwise, clientv3.Op.IsPut) {
		f.readOnly++
	}
	what := none
	if f.fault != nil {
		what = f.fault()
	}
	if what == lostBefore {
		return nil, rpctypes.ErrTimeout
	}
	resp := f.apply(t)
	if what == lostAfter {
		return nil, rpctypes.ErrTimeout
	}
	if f.head != nil {
		f.head(resp.Header)
	}
	return resp, nil
}

func (f *fakeEtcd) apply(t *fakeTxn) *clientv3.TxnResponse {
	resp := &clientv3.TxnResponse{Succeeded: true}
	for _, c := range t.cmps {
		resp.Succeeded = resp.Succeeded && f.holds(&c)
	}
	ops := t.then
	if !resp.Succeeded {
		ops = t.otherwise
	}
	rev := f.rev
	for _, op := range ops {
		key := string(op.KeyBytes())
		if !op.IsPut() {
			r := &pb.RangeResponse{}
			if kv := f.keys[key]; kv != nil {
				r.Kvs = append(r.Kvs, kv)
			}
			resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: r}})
			continue
		}
		f.rev = rev + 1
		kv := &mvccpb.KeyValue{Key: op.KeyBytes(), Value: op.ValueBytes(), CreateRevision: f.rev, ModRevision: f.rev}
		if old := f.keys[key]; old != nil {
			kv.CreateRevision = old.GetCreateRevision()
		}
		f.keys[key] = kv
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}})
	}
	resp.Header = &pb.ResponseHeader{ClusterId: 1, MemberId: 1 + uint64(f.rev%3), Revision: f.rev}
	return resp
}

func (f *fakeEtcd) holds(c *clientv3.Cmp) bool {
	kv := f.keys[string(c.KeyBytes())]
	switch want := c.GetCompare(); want.GetTarget() {
	case pb.Compare_CREATE:
		return kv.GetCreateRevision() == want.GetCreateRevision()
	case pb.Compare_MOD:
		return kv.GetModRevision() == want.GetModRevision()
	case pb.Compare_VALUE:
		return kv != nil && string(kv.GetValue()) == string(want.GetValue())
	}
	panic("a comparison that the fake does not know")
}
