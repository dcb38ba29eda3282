package consensus

import (
	"encoding/binary"

	"qcitycoin.org/qcity/node/types"
)

// AuditAnchor is the end of the audit log of the signer that signs the block it
// is in. It binds the chain to nothing: it proves to whoever audits that signer
// that its log had this entry, with these before it, when the block was signed.
type AuditAnchor struct {
	Seq  uint64     `json:"seq"`  // number of the log's last entry
	Head types.Hash `json:"head"` // hash of that entry, which covers all before it
}

// AppendTo appends the anchor: u64 seq ‖ head (32).
func (a *AuditAnchor) AppendTo(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, a.Seq), a.Head[:]...)
}

// DecodeFrom reads what AppendTo writes.
func (a *AuditAnchor) DecodeFrom(d *types.Decoder) {
	a.Seq = d.Uint64()
	a.Head = d.Hash()
}

// AnchorOf returns the anchor that a CoinOnline carries, nil if it carries none
// or no readable records.
func AnchorOf(coinOnline *types.Transaction) *AuditAnchor {
	list, err := Records(coinOnline)
	if err != nil {
		return nil
	}
	for _, r := range list {
		if a, ok := r.(*AuditAnchor); ok {
			return a
		}
	}
	return nil
}
