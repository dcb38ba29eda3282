package signer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"qcitycoin.org/qcity/internal/durable/durabletest"
	"qcitycoin.org/qcity/node/consensus"
	"qcitycoin.org/qcity/node/types"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/proof"
)

// onDisk is a signer, whole but for its token and its socket, whose four files
// lie on a disk that fails and loses power: journal, mark, audit log and halt.
type onDisk struct {
	disk    *durabletest.FS
	bench   // its journal, service, keys and token
	log     *audit.Log
	options audit.Options
}

const (
	diskJournal = "j"
	diskAudit   = "a"
	diskHalt    = "h"
)

func newOnDisk(tb testing.TB) *onDisk {
	tb.Helper()
	d := &onDisk{disk: durabletest.New()}
	d.keys, d.limit, d.now = testKeys(), RateLimit{1e6, 1e6}, time.Unix(parentTime+100, 0)
	d.network, d.token = testNetwork(tb, "signertest", publics(d.keys)), newSoftToken(d.keys...)
	d.options = audit.Options{FileSize: 8 << 10, FS: d.disk} // small: files are changed often
	err := errors.Join(
		createJournal(on(d.disk), diskJournal, d.network.ID, publics(d.keys), 0),
		audit.Create(diskAudit, d.network.ID, d.options),
	)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// start opens everything that lies on the disk.
func (d *onDisk) start() (err error) {
	d.options.FS = d.disk
	if d.journal, err = openJournal(on(d.disk), diskJournal, d.network.ID, publics(d.keys)); err != nil {
		return err
	}
	if d.log, err = audit.Open(diskAudit, d.network.ID, d.options); err != nil {
		return err
	}
	d.service, err = NewService(ServiceConfig{
		Network: d.network, Journal: d.journal, Token: d.token, Audit: d.log, Keys: publics(d.keys), Limit: d.limit,
		HaltFile: diskHalt, Clock: func() time.Time { return d.now }, Log: quiet(), files: d.disk,
	})
	return err
}

// stop closes what it can, as a daemon does.
func (d *onDisk) stop() { _ = errors.Join(d.log.Close(), d.journal.Close()) }

// ended reports whether a daemon would have ended by itself.
func (d *onDisk) ended() bool {
	select {
	case <-d.journal.Failed():
	case <-d.log.Failed():
	default:
		return false
	}
	return true
}

// block makes a block that carries the end of the audit log as it is now.
func (d *onDisk) block(height uint32, index uint8, salt byte) *consensus.Proposal {
	return remade(d.proposal(height, index, salt), func(p *consensus.Proposal) { p.CoinOnline.Outputs[2] = anchorOutput(d.log.Head()) })
}

// successor asks key index for a set of this number in which another key has the
// place of validator 3.
func (d *onDisk) successor(number uint32, index uint8, salt byte) authority.SetChangeRequest {
	return successorOf(d.network, d.keys, number, index, salt)
}

func successorOf(n *consensus.Network, keys []softKey, number uint32, index uint8, salt byte) authority.SetChangeRequest {
	fresh := newSoftKey(types.P256, 60+salt)
	next := publics(keys)
	next[3] = fresh.public
	challenge := []byte("a fresh key's challenge")
	r := authority.SetChangeRequest{
		Network: n.ID, Current: consensus.ValidatorSet{Number: number - 1, Keys: publics(keys)}, Keys: next, Reason: "a token was lost", Index: index,
		Proofs:        []proof.Proof{{Key: fresh.public, Network: n.ID, Challenge: challenge, Signature: fresh.sign(proof.Digest(n.ID, fresh.public, challenge))}},
		Authorisation: authority.Authorisation{People: []string{"Ada Adler", "Bob Berg"}},
	}
	r.Authorisation.Fingerprint = authority.Fingerprint(r.Next())
	return r
}

// asked is a request, whatever it asks for, and what was released for it.
type asked struct {
	kind   audit.Kind
	key    types.PublicKey
	height uint32
	digest types.Hash
	link   consensus.Link
	anchor *consensus.AuditAnchor
	ask    func(*Service) (Response, error)
	sig    *[64]byte // nil: nothing was released
}

func (d *onDisk) askBlock(p *consensus.Proposal) *asked {
	return &asked{
		kind: audit.KindBlock, key: d.keys[p.Index].public, height: p.Height, digest: d.network.Digest(p), anchor: consensus.AnchorOf(p.CoinOnline),
		ask: func(s *Service) (Response, error) { return s.SignSlot(context.Background(), NewRequest(p)) },
	}
}

func (d *onDisk) askVote(v *consensus.Ballot) *asked {
	return &asked{
		kind: audit.KindVote, key: d.keys[v.Index].public, height: v.Target.Height, digest: v.Digest(d.network.ID), link: v.Link,
		ask: func(s *Service) (Response, error) { return s.Attest(context.Background(), NewVoteRequest(v)) },
	}
}

func (d *onDisk) askSet(r authority.SetChangeRequest) *asked {
	return &asked{
		kind: audit.KindSetChange, key: d.keys[r.Index].public, height: r.Number(), digest: consensus.SetChangeDigest(d.network.ID, r.Current, r.Keys),
		ask: func(s *Service) (Response, error) { return s.SignSetChange(context.Background(), r) },
	}
}

// observer sees everything that is asked for and what token and signer make of
// it, over all lives. It is safe for concurrent use.
type observer struct {
	mu     sync.Mutex
	w      *witness
	asked  map[types.Hash]*asked // by digest
	list   []*asked
	signed map[string]types.Hash // what the token signed, of each key, kind and height
	links  *witness              // of what the token signed
	repeat int
	broken error
}

func newObserver() *observer {
	return &observer{w: newWitness(), links: newWitness(), asked: make(map[types.Hash]*asked), signed: make(map[string]types.Hash)}
}

func (o *observer) expect(a *asked) *asked {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old := o.asked[a.digest]; old != nil {
		return old
	}
	o.asked[a.digest] = a
	o.list = append(o.list, a)
	return a
}

// tokenSigns: even what is not released is never rivalled. A key's second vote or
// block would be one that somebody who has the token's log can show.
func (o *observer) tokenSigns(key types.PublicKey, digest types.Hash) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.asked[digest]
	if a == nil || a.key != key {
		return fmt.Errorf("the token was asked for %s, which nobody asked the signer for", digest)
	}
	at := fmt.Sprint(a.kind, a.height, key)
	old, ok := o.signed[at]
	if ok && old != digest {
		return fmt.Errorf("the token was asked for %s and %s, of one %s", old, digest, at)
	}
	o.signed[at] = digest
	if !ok && a.kind == audit.KindVote {
		return o.links.mayVote(key, a.link)
	}
	return nil
}

// released takes an answer of the signer.
func (o *observer) released(a *asked, r Response) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	sig := [64]byte(r.Signature)
	if a.sig != nil {
		o.repeat++
		if *a.sig != sig {
			return fmt.Errorf("%s %d: released %x, and then %x", a.kind, a.height, *a.sig, sig)
		}
		return nil
	}
	if err := a.key.Verify(a.digest, sig); err != nil {
		return fmt.Errorf("released a bad signature: %w", err)
	}
	a.sig = &sig
	switch a.kind {
	case audit.KindBlock:
		return o.w.saw(a.height, a.key, a.digest, sig)
	case audit.KindVote:
		return o.w.sawVote(a.key, a.link, sig)
	}
	return o.w.sawSet(a.key, a.height, a.digest, sig)
}

// seen is what a chain with everything that was released shows.
func (o *observer) seen(keys []softKey) (r SeenRequest) {
	for _, k := range keys {
		s := Seen{Key: k.public}
		for _, a := range o.list {
			if a.key != k.public || a.sig == nil {
				continue
			}
			switch a.kind {
			case audit.KindBlock:
				s.Block = max(s.Block, a.height)
			case audit.KindVote:
				s.Vote = max(s.Vote, a.height)
			}
		}
		r.Keys = append(r.Keys, s)
	}
	return r
}

func (o *observer) releases() (list []*asked) {
	for _, a := range o.list {
		if a.sig != nil {
			list = append(list, a)
		}
	}
	return list
}

// campaigner is a signer under random requests.
type campaigner struct {
	*onDisk
	*observer
	rng *rand.Rand
	top uint32
	// halt is the state that must outlive the next cut; doubt: either may.
	halt  *Halt
	doubt bool
}

func newCampaigner(tb testing.TB, seed uint64) *campaigner {
	c := &campaigner{onDisk: newOnDisk(tb), observer: newObserver(), rng: rand.New(rand.NewPCG(seed, 7)), top: 1}
	c.token.observe = c.tokenSigns
	c.token.before = func() error {
		if rand.IntN(10) == 0 {
			return errors.New("the token is away")
		}
		return nil
	}
	return c
}

// lastSlot is where a chain can be by the time that the blocks' parents have.
const lastSlot = (parentTime - 1_700_000_000) / 60 / testSlot

// draw makes the next request: half are votes, some sets, some were asked before.
func (c *campaigner) draw() *asked {
	if n := len(c.list); n > 0 && c.rng.IntN(4) == 0 {
		return c.list[n-1-c.rng.IntN(min(n, 12))]
	}
	slot := c.top - uint32(min(int(c.top)-1, c.rng.IntN(4)))
	if c.rng.IntN(3) == 0 && c.top < lastSlot {
		c.top++
		slot = c.top
	}
	index, salt := uint8(c.rng.IntN(5)), byte(c.rng.IntN(3))
	switch c.rng.IntN(8) {
	case 0:
		return c.expect(c.askSet(c.successor(1+slot/8, index%3, salt)))
	case 1, 2, 3:
		return c.expect(c.askBlock(c.block(slot*testSlot, index, salt)))
	}
	e := c.voting()
	source := e.at((slot-uint32(min(int(slot), 1+c.rng.IntN(2))))*testSlot, byte(c.rng.IntN(2)))
	return c.expect(c.askVote(e.ballot(source, slot*testSlot, index, salt)))
}

// life asks until the power is gone. Requests come alone or three at a time.
func (c *campaigner) life(power *outlet) error {
	together := 1 + 2*c.rng.IntN(2)
	for !power.off() {
		if c.ended() {
			return errors.New("the signer ended, with power")
		}
		if c.service.brake.state() != nil || c.rng.IntN(20) == 0 {
			if err := c.haltOrResume(power); err != nil {
				return err
			}
			continue
		}
		var wg sync.WaitGroup
		for range together {
			a := c.draw()
			wg.Go(func() {
				r, err := a.ask(c.service)
				if err == nil {
					err = c.released(a, r)
				} else if kindly(err) || power.off() {
					err = nil
				}
				if err != nil {
					c.fail(err)
				}
			})
		}
		wg.Wait()
	}
	return c.broken
}

func (o *observer) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = errors.Join(o.broken, err)
}

// kindly reports whether an error is one that whoever asks has to live with.
func kindly(err error) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) || errors.Is(err, ErrUnavailable)
}

func (c *campaigner) haltOrResume(power *outlet) error {
	before := c.halt
	var err error
	if before == nil {
		err = c.service.Halt(context.Background(), "kim", fmt.Sprint("halt ", c.top))
	} else {
		var done bool
		_, first := c.service.Resume(context.Background(), "kim")
		done, err = c.service.Resume(context.Background(), "lee")
		if err = errors.Join(first, err); err == nil && !done {
			return errors.New("two people resumed in vain")
		}
	}
	if err != nil && !power.off() {
		return err
	}
	// What was acknowledged is certain, also if power went while it was booked.
	c.halt, c.doubt = c.service.brake.state(), err != nil
	return nil
}

// outlet cuts the power at a call: then, or in the middle of it, or after it.
type outlet struct {
	mu    sync.Mutex
	left  int
	fault durabletest.Fault
	cut   bool
}

func (p *outlet) fail(durabletest.Op, string) *durabletest.Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.left > 0 {
		return nil
	}
	if p.cut {
		return &durabletest.Fault{Err: syscall.EIO}
	}
	p.cut = true
	return &p.fault
}

func (p *outlet) off() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// restart finds what a power cut, or now and then a kill, leaves.
func (c *campaigner) restart() error {
	c.disk.Fault = nil
	if c.rng.IntN(8) == 0 {
		c.disk = c.disk.Kill()
	} else {
		c.disk = c.disk.Crash(c.rng)
	}
	return c.resumeLife()
}

// resumeLife opens what is there and looks at all of it.
func (c *campaigner) resumeLife() error {
	// Nobody is there to help. Power may go again while it starts.
	if c.rng.IntN(4) == 0 {
		power := c.outlet(12)
		c.disk.Fault = power.fail
		if err := c.start(); err == nil && !power.off() {
			c.stop()
		} else if IsTerminal(err) {
			return fmt.Errorf("starting, and power went: %w", err)
		}
		c.disk.Fault = nil
		c.disk = c.disk.Crash(c.rng)
	}
	if err := c.start(); err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	if got := c.service.brake.state(); !c.doubt && !reflect.DeepEqual(got, c.halt) {
		return fmt.Errorf("halt is %+v, was %+v", got, c.halt)
	}
	c.halt, c.doubt = c.service.brake.state(), false
	if err := c.service.Seen(context.Background(), c.seen(c.keys)); err != nil {
		return err
	}
	if h := c.service.brake.state(); !reflect.DeepEqual(h, c.halt) {
		return fmt.Errorf("halted by what it released itself: %+v", h)
	}
	return nil
}

func (c *campaigner) outlet(most int) *outlet {
	return &outlet{left: 1 + c.rng.IntN(most), fault: durabletest.Fault{
		Err: syscall.EIO, Short: c.rng.IntN(300), After: c.rng.IntN(2) == 0, Drop: c.rng.IntN(4) == 0,
	}}
}

// check wants everything that was ever released in an audit log that is whole and
// that the blocks vouch for, sealed, and to be had again as the same bytes.
func (c *campaigner) check(ctx context.Context) error {
	all := c.releases()
	if err := c.checkBooked(ctx, all); err != nil { // first: asking again books again
		return err
	}
	for _, a := range all {
		var sig [64]byte
		var ok bool
		var err error
		switch a.kind {
		case audit.KindBlock:
			sig, ok, err = c.journal.Sealed(a.height, a.key, a.digest)
		case audit.KindVote:
			sig, ok, err = c.journal.SealedVote(a.key, a.link)
		default:
			var seal *[64]byte
			if seal, err = c.journal.ClaimSetChange(a.key, a.height, a.digest); seal != nil {
				sig, ok = *seal, true
			}
		}
		if err != nil || !ok || sig != *a.sig {
			return fmt.Errorf("%s %d: released %x, the journal has %x, %v", a.kind, a.height, *a.sig, sig, err)
		}
		if c.halt != nil {
			continue
		}
		r, err := a.ask(c.service)
		if err == nil {
			err = c.released(a, r)
		}
		if err != nil || !r.Repeated {
			return fmt.Errorf("%s %d again: repeated %v, %w", a.kind, a.height, r.Repeated, err)
		}
	}
	return nil
}

func (c *campaigner) checkBooked(ctx context.Context, all []*asked) error {
	var anchors []audit.Head
	for _, a := range all {
		if a.anchor != nil {
			anchors = append(anchors, audit.Head{Seq: a.anchor.Seq, Hash: a.anchor.Head})
		}
	}
	if _, err := audit.Verify(ctx, diskAudit, audit.VerifyOptions{Network: c.network.ID, Anchors: anchors, Options: c.options}); err != nil {
		return err
	}
	booked := make(map[[64]byte]bool)
	for r, err := range audit.NewReader(diskAudit, c.options).Records(ctx) {
		if err != nil {
			return err
		}
		if r.Entry.Event == audit.EventSigned || r.Entry.Event == audit.EventRepeated {
			booked[r.Entry.Signature] = true
		}
	}
	if i := slices.IndexFunc(all, func(a *asked) bool { return !booked[*a.sig] }); i >= 0 {
		return fmt.Errorf("%s %d was released and is not in the audit log", all[i].kind, all[i].height)
	}
	return nil
}

// TestPowerCuts cuts the power of a signer at random calls to its disk, while it
// is asked for blocks, votes, sets, their rivals and what it signed before, is
// halted and resumed: SIGNER_CUTS times, by default 1,000, and 100 with the race
// detector. It starts again by itself
// every time; no key signs two things for one height, not even where the token's
// signature was lost; and what was released is sealed, booked and repeated.
func TestPowerCuts(t *testing.T) {
	const each = 50 // with one set of files
	usual := 1000
	if raced {
		usual = 100
	}
	cuts := campaign(t, "SIGNER_CUTS", usual)
	var sum tally
	sets := 0
	for first := 0; first < cuts; first += each {
		c := newCampaigner(t, uint64(first))
		if err := c.resumeLife(); err != nil {
			t.Fatal(err)
		}
		for cut := first; cut < min(first+each, cuts); cut++ {
			power := c.outlet(120)
			c.disk.Fault = power.fail
			err := c.life(power)
			if err == nil {
				err = c.restart()
			}
			if err == nil && cut%5 == 4 {
				err = c.checkBooked(t.Context(), c.releases())
			}
			if err == nil && cut%25 == 24 {
				err = c.check(t.Context())
			}
			if err != nil {
				t.Fatalf("cut %d: %v", cut, err)
			}
		}
		releases := c.releases()
		sum.add(tally{len(releases) + c.repeat, c.repeat, len(c.w.bySlot), len(c.w.byVote)})
		sets += len(c.w.bySet)
	}
	t.Logf("%d power cuts, %s, %d sets", cuts, sum, sets)
	if sum.heights < cuts/2 || sum.votes < cuts/2 || sum.repeats < cuts || sets < cuts/50 {
		t.Fatal("the test saw too little")
	}
}
