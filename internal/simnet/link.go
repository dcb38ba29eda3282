package simnet

import (
	"sync"
	"time"

	"qcitycoin.org/qcity/node/syncer"
)

// party is one end of a link: a node, or an adversary.
type party interface {
	name() string
	connected(conn *conn)
	receive(conn *conn, m syncer.Message)
	disconnected(conn *conn)
}

// link is a connection: what is sent at one end arrives at the other in order
// and later, unless it is lost.
type link struct {
	net  *Net
	ends [2]*conn
	once sync.Once
	done chan struct{}
}

// conn is one end of a link as its owner sees it: it implements syncer.Peer.
type conn struct {
	link         *link
	owner, other party
	far          *conn
	queue        chan parcel
}

type parcel struct {
	due time.Time
	m   syncer.Message
}

// queueLength holds several answers.
const queueLength = 1024

func newLink(n *Net, a, b party) *link {
	l := &link{net: n, done: make(chan struct{})}
	l.ends[0] = &conn{link: l, owner: a, other: b, queue: make(chan parcel, queueLength)}
	l.ends[1] = &conn{link: l, owner: b, other: a, queue: make(chan parcel, queueLength)}
	l.ends[0].far, l.ends[1].far = l.ends[1], l.ends[0]
	return l
}

func (l *link) open() {
	for _, c := range l.ends {
		c.owner.connected(c)
	}
	for _, c := range l.ends {
		l.net.wg.Go(c.carry)
	}
}

func (l *link) close(reason string) {
	l.once.Do(func() {
		close(l.done)
		if reason != "cut" {
			l.net.log.add(l.ends[0].owner.name(), "link to %s closed: %s", l.ends[1].owner.name(), reason)
		}
		for _, c := range l.ends {
			c.owner.disconnected(c)
		}
	})
}

func (l *link) closed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// carry brings what was sent at c to the other end.
func (c *conn) carry() {
	for {
		select {
		case <-c.link.done:
			return
		case p := <-c.queue:
			wait := time.NewTimer(time.Until(p.due))
			select {
			case <-c.link.done:
				wait.Stop()
				return
			case <-wait.C:
			}
			if loss := c.link.net.cfg.Loss; loss > 0 && c.link.net.random() < loss {
				continue
			}
			c.other.receive(c.far, p.m)
		}
	}
}

// Send implements syncer.Peer.
func (c *conn) Send(m syncer.Message) bool {
	select {
	case <-c.link.done:
		return true // on its way down: not the queue's fault
	case c.queue <- parcel{time.Now().Add(c.link.net.cfg.Delay), m}:
		return true
	default:
		return false
	}
}

// Close implements syncer.Peer.
func (c *conn) Close(reason string) { go c.link.close("by " + c.owner.name() + ": " + reason) }
