package cluster_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/cluster"
	"qcitycoin.org/qcity/signer/cluster/clustertest"
)

func config(k *clustertest.Key) cluster.Config {
	return cluster.Config{Network: types.Hash{7}, Keys: []types.PublicKey{k.PublicKey}, Name: "box"}
}

func start(t *testing.T, k *clustertest.Key, f *fakeEtcd, d *cluster.Disk) *cluster.Claims {
	t.Helper()
	return cluster.Start(t.Context(), config(k), f, d)
}

func mustClaim(t *testing.T, b *cluster.Claims, c cluster.Claim) {
	t.Helper()
	if _, err := b.Claim(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// TestClaimProperty: three boxes claim and seal what they like, answers are lost
// before and after they were acted on, boxes crash and come back with what their disk has. No
// two claims that were let pass contradict each other, and no height has two signatures.
func TestClaimProperty(t *testing.T) {
	k := clustertest.NewKey()
	rapid.Check(t, func(rt *rapid.T) {
		f := newFake()
		disks := [3]*cluster.Disk{{}, {}, {}}
		var boxes [3]*cluster.Claims
		c := config(k)
		// Nothing waits: an answer that is lost ends the call.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range boxes {
			boxes[i] = cluster.Start(t.Context(), c, f, disks[i])
		}
		passed := map[cluster.Claim]bool{}
		seals := map[cluster.Claim][64]byte{}
		var top uint32 = 100
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			f.fault = func() fault { return fault(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(rt, "fault")) }
			i := rapid.IntRange(0, 2).Draw(rt, "box")
			height := top + 10*uint32(rapid.IntRange(-3, 2).Draw(rt, "height"))
			branch := rapid.IntRange(0, 1).Draw(rt, "branch")
			cl := k.Block(height, branch)
			if rapid.Bool().Draw(rt, "vote") {
				cl = k.Vote(height-10*uint32(rapid.IntRange(1, 4).Draw(rt, "back")), height, branch)
			}
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				boxes[i] = cluster.Start(t.Context(), c, f, disks[i])
			default:
				seal, err := boxes[i].Claim(ctx, cl)
				if cluster.IsTerminal(err) {
					rt.Fatal(err)
				}
				if err != nil {
					continue
				}
				passed[cl], top = true, max(top, height)
				if seal == nil {
					sig, err := clustertest.Seal(ctx, boxes[i], k, cl)
					if err != nil {
						continue
					}
					seal = &sig
				}
				if old, ok := seals[cl]; ok && old != *seal {
					rt.Fatalf("%v has two signatures", cl)
				}
				seals[cl] = *seal
			}
		}
		if bad := contradiction(passed); bad != nil {
			rt.Fatal(bad)
		}
		if f.readOnly > 0 {
			rt.Fatalf("%d questions could be answered without the log", f.readOnly)
		}
	})
}

// contradiction judges what was let pass by the rules of the chain alone.
func contradiction(passed map[cluster.Claim]bool) error {
	for a := range passed {
		for b := range passed {
			if a == b || a.Kind != b.Kind {
				continue
			}
			if a.Kind == cluster.Block && a.Height == b.Height {
				return errors.New("two blocks at one height")
			}
			if a.Kind == cluster.Vote {
				link := func(c cluster.Claim) consensus.Link {
					return consensus.Link{Source: c.Source, Target: consensus.Checkpoint{Height: c.Height, ID: c.Digest}}
				}
				if err := consensus.Conflict(link(a), link(b)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// TestAnswersNotBelieved: an answer whose head is wrong is refused whatever it
// says, and so is everything after it.
func TestAnswersNotBelieved(t *testing.T) {
	for name, c := range map[string]struct {
		head func(*pb.ResponseHeader)
		want cluster.ErrorKind
	}{
		"revision of before": {func(h *pb.ResponseHeader) { h.Revision-- }, cluster.ErrRolledBack},
		"revision far below": {func(h *pb.ResponseHeader) { h.Revision = 1 }, cluster.ErrRolledBack},
		"other cluster":      {func(h *pb.ResponseHeader) { h.ClusterId = 2 }, cluster.ErrMisconfigured},
		"unknown member":     {func(h *pb.ResponseHeader) { h.MemberId = 9 }, cluster.ErrMisconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			k, f := clustertest.NewKey(), newFake()
			b := start(t, k, f, &cluster.Disk{})
			mustClaim(t, b, k.Block(10, 0))
			f.head = c.head
			_, err := b.Claim(t.Context(), k.Block(20, 0))
			if !errors.Is(err, c.want) || !cluster.IsTerminal(err) {
				t.Fatalf("%v, want %s", err, c.want)
			}
			f.head = nil
			if _, again := b.Claim(t.Context(), k.Block(10, 0)); !errors.Is(again, err) {
				t.Errorf("went on with %v", again)
			}
			if _, again := b.Known(t.Context()); !errors.Is(again, err) {
				t.Errorf("went on with %v", again)
			}
		})
	}
}

// TestClaimGone: the revision is high enough, but a claim that was seen is gone,
// whoever made it, and whatever was claimed since.
func TestClaimGone(t *testing.T) {
	for _, cached := range []bool{true, false} {
		for _, since := range []uint32{0, 20, 30} {
			k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{}
			other, b := start(t, k, f, &cluster.Disk{}), start(t, k, f, disk)
			mustClaim(t, other, k.Block(10, 0))
			old := maps.Clone(f.keys)
			mustClaim(t, other, k.Block(20, 0))
			if _, err := b.Known(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.keys, f.rev = old, f.rev+1000
			if since > 0 {
				mustClaim(t, start(t, k, f, &cluster.Disk{}), k.Block(since, 1))
			}
			if !cached {
				b = start(t, k, f, disk)
			}
			if _, err := b.Claim(t.Context(), k.Block(40, 0)); !errors.Is(err, cluster.ErrRolledBack) {
				t.Errorf("cached %v, %d claimed since: %v", cached, since, err)
			}
		}
	}
}

// TestSameRevision: a rival's claim has taken the very revision of the one that was
// lost, so that every number looks right.
func TestSameRevision(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	a, rival := start(t, k, f, &cluster.Disk{}), start(t, k, f, &cluster.Disk{})
	mustClaim(t, a, k.Block(10, 0))
	if _, err := rival.Known(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, rev := maps.Clone(f.keys), f.rev
	mustClaim(t, a, k.Block(20, 0))
	f.keys, f.rev = keys, rev
	mustClaim(t, rival, k.Block(20, 1))
	if f.rev != rev+1 {
		t.Fatalf("revision %d: this tests nothing", f.rev)
	}
	if _, err := a.Claim(t.Context(), k.Block(30, 0)); !errors.Is(err, cluster.ErrRolledBack) {
		t.Error(err)
	}
}

// TestLastDeleted: even if somebody deletes the record of the last claim, a claim
// that exists is not written over, and who has seen it goes no lower.
func TestLastDeleted(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	b, other := start(t, k, f, &cluster.Disk{}), start(t, k, f, &cluster.Disk{})
	if _, err := b.Known(t.Context()); err != nil { // it remembers that there is none
		t.Fatal(err)
	}
	mustClaim(t, other, k.Block(20, 0))
	maps.DeleteFunc(f.keys, func(name string, _ *mvccpb.KeyValue) bool { return strings.HasSuffix(name, "/last") })
	var conflict *cluster.Conflict
	if _, err := b.Claim(t.Context(), k.Block(20, 1)); !errors.As(err, &conflict) || conflict.Winner != k.Block(20, 0).Digest {
		t.Error(err)
	}
	if _, err := other.Claim(t.Context(), k.Block(15, 0)); !errors.Is(err, cluster.ErrRolledBack) {
		t.Errorf("below what was seen: %v", err)
	}
}

// TestFirstSeal: two boxes are let through with one claim, and sign it both. Both
// release the first signature.
func TestFirstSeal(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	a, b := start(t, k, f, &cluster.Disk{}), start(t, k, f, &cluster.Disk{})
	c := k.Block(10, 0)
	mustClaim(t, a, c)
	mustClaim(t, b, c)
	one, err := clustertest.Seal(t.Context(), a, k, c)
	if err != nil {
		t.Fatal(err)
	}
	two, err := clustertest.Seal(t.Context(), b, k, c)
	if err != nil || two != one {
		t.Fatalf("%x and %x: %v", one, two, err)
	}
	if seal, err := b.Claim(t.Context(), c); err != nil || seal == nil || *seal != one {
		t.Fatal(seal, err)
	}
}

// TestPinBeforeRelease: what rests on an answer comes out only when the pin on
// disk has its revision.
func TestPinBeforeRelease(t *testing.T) {
	k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{}
	b := start(t, k, f, disk)
	for h := uint32(10); h <= 50; h += 10 {
		c := k.Block(h, 0)
		disk.Fail = errors.New("no space")
		if _, err := b.Claim(t.Context(), c); !errors.Is(err, cluster.ErrUnavailable) || !errors.Is(err, disk.Fail) {
			t.Fatalf("claim: %v", err)
		}
		disk.Fail = nil
		mustClaim(t, b, c)
		if disk.Revision() != f.rev {
			t.Fatalf("claimed at revision %d, the pin on disk has %d", f.rev, disk.Revision())
		}
		disk.Fail = errors.New("no space")
		if sig, err := clustertest.Seal(t.Context(), b, k, c); !errors.Is(err, cluster.ErrUnavailable) || sig != [64]byte{} {
			t.Fatalf("seal: %v", err)
		}
		disk.Fail = nil
		if _, err := clustertest.Seal(t.Context(), b, k, c); err != nil || disk.Revision() != f.rev {
			t.Fatalf("sealed at revision %d, the pin on disk has %d: %v", f.rev, disk.Revision(), err)
		}
	}
}

// TestFullDisk fills the disk at every call that the pin's file takes: neither
// claim nor seal comes out before the file has its revision, whoever asked is told
// what to do, and with room the same is answered.
func TestFullDisk(t *testing.T) {
	for at := 1; ; at++ {
		hit := false
		for _, lasting := range []bool{false, true} {
			for _, after := range []bool{false, true} {
				fsys, n := durabletest.New(), 0
				k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{FS: fsys}
				b := start(t, k, f, disk)
				fsys.Fault = func(op durabletest.Op, _ string) *durabletest.Fault {
					if op == durabletest.Remove || op == durabletest.Open {
						return nil
					}
					if n++; n < at || n > at && !lasting {
						return nil
					}
					hit = true
					return &durabletest.Fault{Err: syscall.ENOSPC, Short: 10, After: after}
				}
				for h := uint32(10); h <= 30; h += 10 {
					c := k.Block(h, 0)
					for _, ask := range []func() error{
						func() error { _, err := b.Claim(t.Context(), c); return err },
						func() error { _, err := clustertest.Seal(t.Context(), b, k, c); return err },
					} {
						err := ask()
						if err != nil {
							if !errors.Is(err, cluster.ErrUnavailable) || !strings.Contains(err.Error(), "free some space") {
								t.Fatalf("call %d, height %d: %v", at, h, err)
							}
							fsys.Fault = nil
							err = ask()
						}
						if err != nil || disk.Revision() != f.rev {
							t.Fatalf("call %d: answered at revision %d, the pin on disk has %d: %v", at, f.rev, disk.Revision(), err)
						}
					}
				}
			}
		}
		if !hit {
			if at < 20 {
				t.Fatalf("only %d calls", at)
			}
			return
		}
	}
}

// TestPatience: without an answer the question is asked again, the same, until
// patience ends; the caller may ask further.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, f := clustertest.NewKey(), newFake()
		b := start(t, k, f, &cluster.Disk{})
		asked := 0
		f.fault = func() fault { asked++; return lostAfter }
		begin := time.Now()
		_, err := b.Claim(t.Context(), k.Block(10, 0))
		if took := time.Since(begin); !errors.Is(err, cluster.ErrUnavailable) || took != 5*time.Second || asked < 5 {
			t.Fatalf("after %v and %d questions: %v", took, asked, err)
		}
		f.fault = nil
		if _, err := b.Claim(t.Context(), k.Block(10, 1)); err != nil {
			t.Fatal(err) // only the question what is there was lost
		}
		f.fault = func() fault { return lostAfter }
		if _, err := b.Claim(t.Context(), k.Block(20, 0)); !errors.Is(err, cluster.ErrUnavailable) {
			t.Fatal(err)
		}
		f.fault = nil
		var conflict *cluster.Conflict
		if _, err := b.Claim(t.Context(), k.Block(20, 1)); !errors.As(err, &conflict) || conflict.Winner != k.Block(20, 0).Digest {
			t.Fatalf("another payload after an ambiguous answer: %v", err)
		}
		mustClaim(t, b, k.Block(20, 0))
	})
}

// TestDamagedRecords: what no signer wrote is refused, and stops everything.
func TestDamagedRecords(t *testing.T) {
	k := clustertest.NewKey()
	for name, text := range map[string]string{
		"claim": "", "last": "{}", "claim ": `{"digest":"00"}`, "last ": k.Block(10, 0).Digest.String(),
		"seal": "", "seal ": strings.Repeat("0", 128), "seal  ": strings.Repeat("A", 128), "last  ": `{"height":10,"digest":"` + k.Block(10, 0).Digest.String() + `" }`,
	} {
		f := newFake()
		b := start(t, k, f, &cluster.Disk{})
		mustClaim(t, b, k.Block(10, 0))
		if _, err := clustertest.Seal(t.Context(), b, k, k.Block(10, 0)); err != nil {
			t.Fatal(err)
		}
		b = start(t, k, f, &cluster.Disk{})
		for key, kv := range f.keys {
			if strings.HasSuffix(key, "/"+strings.TrimSpace(name)) {
				f.keys[key] = &mvccpb.KeyValue{Key: kv.GetKey(), Value: []byte(text), CreateRevision: kv.GetCreateRevision(), ModRevision: kv.GetModRevision()}
			}
		}
		if _, err := b.Claim(t.Context(), k.Block(10, 0)); !errors.Is(err, cluster.ErrDamaged) {
			t.Errorf("%s as %q: %v", name, text, err)
		}
	}
}

// TestNoSuchClaim: bugs of a caller are named, and nothing is asked.
func TestNoSuchClaim(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	b := start(t, k, f, &cluster.Disk{})
	with := func(change func(*cluster.Claim)) cluster.Claim {
		c := k.Block(10, 0)
		change(&c)
		return c
	}
	for _, c := range []cluster.Claim{
		with(func(c *cluster.Claim) { c.Kind = "cheque" }),
		with(func(c *cluster.Claim) { c.Digest = types.Hash{} }),
		with(func(c *cluster.Claim) { c.Source.Height = 1 }),
		clustertest.NewKey().Block(10, 0),
	} {
		if _, err := b.Claim(t.Context(), c); !errors.Is(err, cluster.ErrMisconfigured) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if f.rev != 1 {
		t.Error("etcd was asked")
	}
}

// TestKnown: what each key has, and nothing for what it never did.
func TestKnown(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	b := start(t, k, f, &cluster.Disk{})
	if known, err := b.Known(t.Context()); err != nil || len(known) != 0 {
		t.Fatalf("%v, %v", known, err)
	}
	v := k.Vote(10, 20, 0)
	mustClaim(t, b, k.Block(10, 0))
	mustClaim(t, b, k.Block(20, 0))
	mustClaim(t, b, v)
	want := []cluster.Mark{
		{Kind: cluster.Block, Key: k.PublicKey, Height: 20, Digest: k.Block(20, 0).Digest},
		{Kind: cluster.Vote, Key: k.PublicKey, Height: 20, Source: v.Source, Digest: v.Digest},
	}
	if known, err := start(t, k, f, &cluster.Disk{}).Known(t.Context()); err != nil || !slices.Equal(known, want) {
		t.Fatalf("%v, %v, want %v", known, err, want)
	}
}

// change is a claim of k for a successor set; other digits are other sets.
func change(k *clustertest.Key, number uint32, set byte) cluster.Claim {
	return cluster.Claim{Kind: cluster.SetChange, Key: k.PublicKey, Height: number, Digest: types.Hash{set}}
}

func rejoin(t *testing.T, k *clustertest.Key, f *fakeEtcd, d *cluster.Disk, past cluster.Past) {
	t.Helper()
	if err := cluster.Rejoin(t.Context(), config(k), f, d, past); err != nil {
		t.Fatal(err)
	}
}

// TestOpenClaimsEndAtTheFloor: what was claimed and not sealed in etcd may have been
// signed, and its seal forgotten with what came after. A floor that rises over it ends it,
// whoever asks; what has its seal is answered with it.
func TestOpenClaimsEndAtTheFloor(t *testing.T) {
	k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{}
	b, other := start(t, k, f, disk), start(t, k, f, &cluster.Disk{})
	sealed, open, vote := k.Block(10, 0), k.Block(20, 0), k.Vote(10, 20, 0)
	for _, c := range []cluster.Claim{sealed, open, vote} {
		mustClaim(t, b, c)
	}
	one, err := clustertest.Seal(t.Context(), b, k, sealed)
	if err != nil {
		t.Fatal(err)
	}
	rejoin(t, k, f, disk, cluster.Past{Floor: 20})
	for _, box := range []*cluster.Claims{start(t, k, f, disk), other} {
		for _, c := range []cluster.Claim{open, vote} {
			if seal, err := box.Claim(t.Context(), c); !errors.Is(err, cluster.ErrConflict) {
				t.Errorf("an open %s below the floor: %v, %v", c.Kind, seal, err)
			}
		}
		if seal, err := box.Claim(t.Context(), sealed); err != nil || seal == nil || *seal != one {
			t.Errorf("what was sealed: %v, %v", seal, err)
		}
	}
	mustClaim(t, other, k.Block(30, 0))
	mustClaim(t, other, change(k, 1, 1)) // a floor is a height, no number of a set
}

// TestFloorGone: a floor that this box has seen is as little to be forgotten as a claim,
// and joining anew brings it back.
func TestFloorGone(t *testing.T) {
	k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{}
	old := maps.Clone(f.keys)
	rejoin(t, k, f, disk, cluster.Past{Floor: 100})
	f.keys, f.rev = old, f.rev+1000
	mustClaim(t, start(t, k, f, &cluster.Disk{}), k.Block(50, 0))
	if _, err := start(t, k, f, disk).Claim(t.Context(), k.Block(60, 0)); !errors.Is(err, cluster.ErrRolledBack) {
		t.Errorf("a claim: %v", err)
	}
	if _, err := start(t, k, f, disk).Known(t.Context()); !errors.Is(err, cluster.ErrRolledBack) {
		t.Errorf("at the start: %v", err)
	}
	rejoin(t, k, f, disk, cluster.Past{})
	for _, c := range []cluster.Claim{k.Block(100, 0), k.Vote(90, 110, 0)} {
		if _, err := start(t, k, f, &cluster.Disk{}).Claim(t.Context(), c); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("a %s below the floor of before: %v", c.Kind, err)
		}
	}
}

// TestFloorBroughtBack: joining anew brings back the floor that this box has seen, beside
// a claim that is still there as beside one that is gone, too.
func TestFloorBroughtBack(t *testing.T) {
	for _, gone := range []bool{false, true} {
		k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{}
		keys := maps.Clone(f.keys)
		mustClaim(t, start(t, k, f, disk), k.Block(10, 0))
		if !gone {
			keys = maps.Clone(f.keys)
		}
		rejoin(t, k, f, disk, cluster.Past{Floor: 100})
		f.keys, f.rev = keys, f.rev+1000
		rejoin(t, k, f, disk, cluster.Past{})
		for _, c := range []cluster.Claim{k.Block(100, 0), k.Vote(90, 110, 0)} {
			if _, err := start(t, k, f, &cluster.Disk{}).Claim(t.Context(), c); !errors.Is(err, cluster.ErrConflict) {
				t.Errorf("claim gone %v: a %s below the floor of before: %v", gone, c.Kind, err)
			}
		}
	}
}

// TestSealRefused: what lost, or does not verify, is not stored as a seal.
func TestSealRefused(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	b := start(t, k, f, &cluster.Disk{})
	won, lost := k.Block(10, 0), k.Block(10, 1)
	mustClaim(t, b, won)
	var conflict *cluster.Conflict
	if sig, err := clustertest.Seal(t.Context(), b, k, lost); !errors.As(err, &conflict) || conflict.Winner != won.Digest || sig != [64]byte{} {
		t.Errorf("of what lost: %x, %v", sig, err)
	}
	if sig, err := b.Seal(t.Context(), won, k.Sign(lost.Digest)); !errors.Is(err, cluster.ErrMisconfigured) || sig != [64]byte{} {
		t.Errorf("over something else: %x, %v", sig, err)
	}
	if sig, err := clustertest.Seal(t.Context(), b, k, k.Block(20, 0)); !errors.Is(err, cluster.ErrMisconfigured) || sig != [64]byte{} {
		t.Errorf("of what was not claimed: %x, %v", sig, err)
	}
	for name := range f.keys {
		if strings.HasSuffix(name, "/seal") {
			t.Errorf("%s was written", name)
		}
	}
}

// TestJoinBringsSetChanges: a set that a box signed before it joined is not signed
// again as another one.
func TestJoinBringsSetChanges(t *testing.T) {
	k, f := clustertest.NewKey(), newFake()
	rejoin(t, k, f, &cluster.Disk{}, cluster.Past{SetChanges: map[types.PublicKey]uint32{k.PublicKey: 3}})
	other := start(t, k, f, &cluster.Disk{})
	if _, err := other.Claim(t.Context(), change(k, 3, 1)); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("a set of that number: %v", err)
	}
	mustClaim(t, other, change(k, 4, 1))
}

// TestJoinBringsSeals: etcd was put back to between a claim and its seal. The box that
// released the signature brings it, and no other one is made.
func TestJoinBringsSeals(t *testing.T) {
	k, f, disk := clustertest.NewKey(), newFake(), &cluster.Disk{}
	b, other := start(t, k, f, disk), start(t, k, f, &cluster.Disk{})
	c := k.Block(10, 0)
	mustClaim(t, b, c)
	old := maps.Clone(f.keys)
	released, err := clustertest.Seal(t.Context(), b, k, c)
	if err != nil {
		t.Fatal(err)
	}
	f.keys, f.rev = old, f.rev+1000
	bad := k.Sign(k.Block(10, 1).Digest)
	brings := func(sig *[64]byte) cluster.Past {
		return cluster.Past{Seal: func(of cluster.Claim) *[64]byte {
			if of == c {
				return sig
			}
			return nil
		}}
	}
	before := disk.Data
	if err := cluster.Rejoin(t.Context(), config(k), f, disk, brings(&bad)); !errors.Is(err, cluster.ErrMisconfigured) {
		t.Errorf("a signature over something else: %v", err)
	}
	if string(disk.Data) != string(before) {
		t.Error("a join that failed changed the pin")
	}
	rejoin(t, k, f, disk, brings(&released))
	if seal, err := other.Claim(t.Context(), c); err != nil || seal == nil || *seal != released {
		t.Errorf("%v, %v", seal, err)
	}
}
