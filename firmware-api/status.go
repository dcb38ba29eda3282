// Package firmwareapi serves a machine's state to its owner over HTTP and
// WebSocket, on loopback addresses only. It shows what it is given: every
// number comes from a Source that the program's main hands in.
package firmwareapi

// Confirmation says how much stands behind a block.
type Confirmation string

// The confirmation vocabulary, weakest first.
const (
	PoW       Confirmation = "pow"       // proof of work above it, no signed block yet
	Signed    Confirmation = "signed"    // a validator's signed block is at or above it
	Certified Confirmation = "certified" // a certified slot is at or above it
	Final     Confirmation = "final"     // a final slot is at or above it
)

// SlotState says what the next slot is waiting for.
type SlotState string

// The states of the next slot.
const (
	SlotWaiting  SlotState = "waiting"  // blocks are missing before it
	SlotOpen     SlotState = "open"     // a validator may sign it
	SlotFallback SlotState = "fallback" // miners may fill it
)

// Status is one machine's live state: what the terminal shows and the stream
// pushes. All times are UTC in RFC 3339.
type Status struct {
	Network       Network       `json:"network"`
	UptimeSeconds int64         `json:"uptimeSeconds" doc:"Whole seconds since the program started"`
	Tip           *Tip          `json:"tip" doc:"Best block; null until the chain is loaded"`
	Finality      Finality      `json:"finality"`
	Slot          *Slot         `json:"slot" doc:"Next slot; null until the chain is loaded"`
	LastSlots     []PastSlot    `json:"lastSlots" nullable:"false" maxItems:"20" doc:"Newest first"`
	HashRate      float64       `json:"hashRate" doc:"Local CPU miner, hashes per second; 0 when it is off"`
	CPUMiner      *CPUMiner     `json:"cpuMiner" doc:"Local CPU miner; null when it is off"`
	Miners        []Miner       `json:"miners" nullable:"false" doc:"Connected Stratum workers"`
	Stratum       StratumStatus `json:"stratum"`
	Blocks        Blocks        `json:"blocks"`
	Signer        SignerStatus  `json:"signer"`
	Mempool       Mempool       `json:"mempool"`
	Alerts        []Alert       `json:"alerts" nullable:"false" doc:"What needs the operator's attention, most urgent first"`
}

// Network names the chain.
type Network struct {
	Name string `json:"name" doc:"As in the network file, for example devnet"`
	ID   string `json:"id" doc:"Hash that tells this network from every other, hex"`
}

// Tip is the best block.
type Tip struct {
	_ struct{} `nullable:"true"` // the document must say so of the type

	Height uint32       `json:"height"`
	ID     string       `json:"id" doc:"Block hash as people write it, hex, leading zeros first"`
	Type   string       `json:"type" enum:"genesis,mined,signed,fallback"`
	Signer *int         `json:"signer" doc:"Index of the validator that signed it; null for other types"`
	Time   string       `json:"time" format:"date-time" doc:"Header time"`
	Status Confirmation `json:"status" enum:"pow,signed,certified,final"`
}

// Finality says up to where the chain is certain.
type Finality struct {
	Signed    uint32    `json:"signed" doc:"Height of the newest signed slot, 0 before the first"`
	Certified uint32    `json:"certified" doc:"Height of the newest certified slot, 0 before the first"`
	Final     uint32    `json:"final" doc:"Height of the newest final slot, 0 before the first"`
	Degraded  *Degraded `json:"degraded" doc:"What the validators owe; null when nothing"`
}

// Degraded says what is missing of the validators' work, and since when.
type Degraded struct {
	_ struct{} `nullable:"true"`

	Since   uint32       `json:"since" doc:"Height of the first slot that lacks it"`
	Missing Confirmation `json:"missing" enum:"signed,certified,final"`
	Message string       `json:"message"`
}

// Slot is the next height that a validator may sign.
type Slot struct {
	_ struct{} `nullable:"true"`

	Height      uint32    `json:"height"`
	BlocksUntil uint32    `json:"blocksUntil" doc:"Blocks still missing before the slot's own; 0 when it is next"`
	State       SlotState `json:"state" enum:"waiting,open,fallback"`
	InTurn      int       `json:"inTurn" doc:"Index of the validator of rank 0"`
	OpensAt     *string   `json:"opensAt" format:"date-time" doc:"When the validators' window opens; null while waiting"`
	ClosesAt    *string   `json:"closesAt" format:"date-time" doc:"When a fallback block may take the slot; null while waiting"`
}

// PastSlot is a slot on the best chain.
type PastSlot struct {
	Height uint32       `json:"height"`
	Type   string       `json:"type" enum:"signed,fallback"`
	Signer *int         `json:"signer" doc:"Index of the validator; null for a fallback block"`
	Status Confirmation `json:"status" enum:"pow,signed,certified,final"`
}

// Miner is one Stratum worker.
type Miner struct {
	Worker     string  `json:"worker" doc:"Name the miner authorised with"`
	Agent      string  `json:"agent" doc:"What the miner calls itself"`
	HashRate   float64 `json:"hashRate" doc:"Estimated from its accepted shares, hashes per second"`
	Accepted   uint64  `json:"accepted" doc:"Shares"`
	Rejected   uint64  `json:"rejected" doc:"Shares"`
	Difficulty float64 `json:"difficulty" doc:"Of its shares, in pool units (1 = compact target 1d00ffff)"`
}

// CPUMiner is this machine's own miner.
type CPUMiner struct {
	_ struct{} `nullable:"true"`

	Kernel      string      `json:"kernel" doc:"SHA-256d code in use; empty until one is chosen"`
	Duty        float64     `json:"duty" minimum:"0" maximum:"1" doc:"Part of the time that its workers hash"`
	Temperature *float64    `json:"temperature" doc:"CPU, °C; null without a temperature limit or a sensor"`
	Power       *float64    `json:"power" doc:"CPU packages, watts; null without a power limit or a sensor"`
	Workers     []CPUWorker `json:"workers" nullable:"false"`
}

// CPUWorker is one of its threads.
type CPUWorker struct {
	CPU           *int    `json:"cpu" doc:"That it is pinned to; null when it has none of its own"`
	Kernel        string  `json:"kernel" doc:"Code it runs; empty until its first job"`
	HashRate      float64 `json:"hashRate" doc:"Hashes per second over the last minute, waits included"`
	Hashes        uint64  `json:"hashes" doc:"Headers hashed since the start"`
	ActiveSeconds float64 `json:"activeSeconds" doc:"Time spent hashing since the start"`
}

// StratumStatus is the port that outside miners use.
type StratumStatus struct {
	Address   string `json:"address" doc:"host:port; empty when it is off"`
	Connected int    `json:"connected" doc:"Open sessions"`
}

// Blocks counts this program's blocks since it started.
type Blocks struct {
	Mined    uint64 `json:"mined" doc:"Accepted mined blocks found here"`
	Signed   uint64 `json:"signed" doc:"Accepted signed blocks made here"`
	Fallback uint64 `json:"fallback" doc:"Accepted fallback blocks found here"`
	Stale    uint64 `json:"stale" doc:"Found here, but another block took the height first"`
	Rejected uint64 `json:"rejected" doc:"Found here and refused by the chain"`
}

// SignerStatus is the signing process as the node sees it.
type SignerStatus struct {
	Connected bool   `json:"connected"`
	KeysReady int    `json:"keysReady" doc:"Validator keys that can sign now"`
	KeysTotal int    `json:"keysTotal" doc:"Validator keys configured here"`
	Error     string `json:"error" doc:"What keeps it from signing; empty when nothing does"`
}

// Mempool is what waits for a block.
type Mempool struct {
	Transactions int   `json:"transactions"`
	Bytes        int64 `json:"bytes"`
}

// Alert is one thing the operator should know.
type Alert struct {
	Level   string `json:"level" enum:"warning,error"`
	Message string `json:"message"`
	Since   string `json:"since" format:"date-time"`
}

// maxLastSlots is the longest history a Status carries.
const maxLastSlots = 20

// normal returns s as it is published: lists are never null, and the history
// is not longer than documented.
func (s Status) normal() Status {
	if s.LastSlots == nil {
		s.LastSlots = []PastSlot{}
	}
	s.LastSlots = s.LastSlots[:min(len(s.LastSlots), maxLastSlots)]
	if s.Miners == nil {
		s.Miners = []Miner{}
	}
	if s.Alerts == nil {
		s.Alerts = []Alert{}
	}
	if s.CPUMiner != nil && s.CPUMiner.Workers == nil {
		m := *s.CPUMiner // the caller's own stays as it is
		m.Workers = []CPUWorker{}
		s.CPUMiner = &m
	}
	return s
}
