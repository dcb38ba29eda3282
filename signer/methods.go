package signer

import (
	"context"
	"strings"

	"qcitycoin.org/qcity/signer/authority"
)

// Backend is what a Server serves: a *Service.
type Backend interface {
	SignSlot(context.Context, Request) (Response, error)
	Attest(context.Context, VoteRequest) (Response, error)
	SignSetChange(context.Context, authority.SetChangeRequest) (Response, error)
	Seen(context.Context, SeenRequest) error
	Halt(ctx context.Context, by, reason string) error
	Resume(ctx context.Context, by string) (done bool, err error)
	SlotRecord(ctx context.Context, height uint32) (record SlotRecord, ok bool, err error)
	Status(context.Context) Status
}

// access says for whom a method is, and what a connection may call.
type access uint8

const (
	// forNode: a node, by the socket or by a link it has proved its key on.
	forNode access = 1 << iota
	// forOperator: a person, by the Unix socket, as the daemon's user or root.
	// No node can halt or resume a signer: who has taken over a node must not
	// decide when the signer works.
	forOperator
)

func (a access) who() string {
	var who []string
	if a&forNode != 0 {
		who = append(who, "a node may call it, not the operator's socket of a signer that dials its nodes")
	}
	if a&forOperator != 0 {
		who = append(who, "only the signer's own user and root may call it, on the signer's socket")
	}
	return strings.Join(who, "; ")
}

// method is a row of the table: who may call, and what is called.
type method struct {
	may  access
	call func(ctx context.Context, s *Server, req *wireRequest) (any, error)
}

// methods are all that can be called after hello. To add one: its name in
// wire.go, a row here, a method of Client.
var methods = map[string]method{
	methodStatus: ask(forNode|forOperator, func(b Backend, ctx context.Context, _ wireNothing) (Status, error) {
		return b.Status(ctx), nil
	}),
	methodSignSlot: ask(forNode, Backend.SignSlot),
	methodAttest:   ask(forNode, Backend.Attest),
	methodSeen: ask(forNode, func(b Backend, ctx context.Context, r SeenRequest) (wireNothing, error) {
		return wireNothing{}, b.Seen(ctx, r)
	}),
	methodSignSetChange: ask(forOperator, Backend.SignSetChange),
	methodHalt: ask(forOperator, func(b Backend, ctx context.Context, h wireHalt) (wireNothing, error) {
		return wireNothing{}, b.Halt(ctx, h.By, h.Reason)
	}),
	methodResume: ask(forOperator, func(b Backend, ctx context.Context, r wireResume) (wireResumed, error) {
		done, err := b.Resume(ctx, r.By)
		return wireResumed{done}, err
	}),
	methodSlotRecord: ask(forNode, func(b Backend, ctx context.Context, h wireHeight) (wireSlot, error) {
		record, ok, err := b.SlotRecord(ctx, h.Height)
		if err != nil || !ok {
			return wireSlot{}, err
		}
		return wireSlot{&record}, nil
	}),
}

// ask makes a row of a Backend method. P is what the client sends, R what it
// gets; wireNothing stands for none. A call that takes longer than a signature
// may is ended.
func ask[P, R any](may access, by func(Backend, context.Context, P) (R, error)) method {
	return method{may, func(ctx context.Context, s *Server, req *wireRequest) (any, error) {
		var p P
		if err := decodeParams(req, &p); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, s.c.SignTimeout)
		defer cancel()
		return by(s.c.Backend, ctx, p)
	}}
}
