package signer

import (
	"context"
	"strings"

	"qcitycoin.org/qcity/signer/link"
)

// DaemonStatus is what the daemon knows beside the service.
type DaemonStatus struct {
	Role   string        `json:"role"` // one of the roles
	Worker WorkerStatus  `json:"worker"`
	Links  []link.Status `json:"links,omitempty"` // nodes that are dialled
}

// The roles.
const (
	RoleOnly    = "only"     // shares its keys with no other box
	RoleLeading = "leading"  // of the boxes with these keys it tries first
	RoleStandBy = "stand-by" // another one does
)

// WorkerStatus is the state of the process that holds the PKCS#11 module.
type WorkerStatus struct {
	PID        int    `json:"pid"`      // 0: there is none at the moment
	Module     string `json:"module"`   // maker, name and version, as the library has them
	Restarts   uint64 `json:"restarts"` // workers replaced after a failure
	Signatures uint64 `json:"signatures"`
	Down       bool   `json:"down"`             // restarts did not help: the HSM counts as down
	Halted     string `json:"halted,omitempty"` // why it signs no more until a person has acted
}

// backend is the service of a daemon, which knows more of itself.
type backend struct {
	*Service
	daemon *Daemon
}

func (b backend) Status(ctx context.Context) Status { return b.daemon.Status(ctx) }

// Status describes the daemon.
func (d *Daemon) Status(ctx context.Context) Status {
	st := d.service.Status(ctx)
	w := d.worker.Status()
	switch {
	case d.claims == nil:
		st.Role = RoleOnly
	case d.claims.Leading():
		st.Role = RoleLeading
	default:
		st.Role = RoleStandBy
	}
	st.Worker = WorkerStatus{
		PID: w.PID, Module: strings.Join([]string{w.Module.Manufacturer, w.Module.Description, w.Module.Version}, ", "), Restarts: w.Restarts, Signatures: w.Signatures, Down: w.Down, Halted: w.Halted,
	}
	for _, l := range d.links {
		st.Links = append(st.Links, l.Status())
	}
	return st
}
