package configs

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"qcitycoin.org/qcity/internal/durable"
)

// FileName is the configuration file inside a data directory.
const FileName = "qcity.toml"

// Config is the whole configuration of a box. Paths that are not absolute
// count from the folder of the file. It never holds a secret: PINs and
// passwords are named by file.
type Config struct {
	// Network is a built-in network's name or the path of a network file.
	Network string `toml:"network"`
	// Data is the folder of the chain database and the RPC cookie.
	Data string `toml:"data"`
	// Payout is the address mined blocks pay. Empty: this box does not mine and
	// hands out no work.
	Payout string `toml:"payout"`

	RPC     RPC     `toml:"rpc"`
	API     API     `toml:"api"`
	Miner   Miner   `toml:"miner"`
	Stratum Stratum `toml:"stratum"`
	Pool    Pool    `toml:"pool"`
	Signer  Signer  `toml:"signer"`

	dir string
}

// RPC is the JSON-RPC server, which speaks Bitcoin's calls.
type RPC struct {
	// Listen is host:port. Calls need the cookie in the data directory.
	Listen string `toml:"listen"`
}

// API is the appliance's HTTP and WebSocket interface.
type API struct {
	// Listen is host:port on a loopback address. Empty: off.
	Listen string `toml:"listen"`
}

// Miner is the CPU miner of this box.
type Miner struct {
	// Threads is the number of CPU workers; 0 switches the CPU miner off. The
	// default leaves one of the CPUs that this process may use to the node.
	Threads int `toml:"threads"`
	// Kernel forces a SHA-256d kernel by name; "auto" measures and takes the fastest.
	Kernel string `toml:"kernel"`
	// Nice is the scheduling priority of the workers, 0 (normal) to 19 (idle).
	Nice int `toml:"nice"`
	// CPUs says where the workers run: "auto" (each on a CPU of its own, where the
	// system can do that), "off" (where the system likes), or a list such as
	// "0,2-5", one worker on each in this order.
	CPUs string `toml:"cpus"`
	// Duty is the part of the time that the workers hash, in percent, 1 to 100.
	Duty int `toml:"duty"`
	// MaxTemperature, in °C, and MaxPower, in watts of the processor packages, are
	// what the miner keeps below by hashing less. Zero: no limit.
	MaxTemperature float64 `toml:"max_temperature"`
	MaxPower       float64 `toml:"max_power"`
}

// Stratum is the port that ASIC, FPGA and other miners connect to.
type Stratum struct {
	// Listen is host:port. Empty: off.
	Listen string `toml:"listen"`
	// StartDifficulty is the share difficulty a new session begins with; 1 is
	// 2^32 hashes a share. It adapts from there.
	StartDifficulty float64 `toml:"start_difficulty"`
	// MinDifficulty and MaxDifficulty bound it.
	MinDifficulty float64 `toml:"min_difficulty"`
	MaxDifficulty float64 `toml:"max_difficulty"`
	// MaxSessions bounds the connections.
	MaxSessions int `toml:"max_sessions"`
	// TLS says whether the port serves TLS besides plain connections and WebSocket,
	// all on one address (docs/stratum-port.md): "auto" or "off".
	TLS string `toml:"tls"`
	// Cert and Key are PEM files of a certificate chain and its private key; they
	// may be one file, and are read again when they change. Empty: a certificate that
	// this box makes for itself, stratum-tls.pem in the data folder.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// MaxCoinbase is the size, in bytes, that no coinbase transaction passes, 128 to
	// 16384. All devices take 220, which is four payouts; docs/found.md says which stop
	// mining above what.
	MaxCoinbase int `toml:"max_coinbase"`
	// Devices come before the built-in table of devices (docs/stratum.md): [[stratum.devices]].
	Devices []StratumDevice `toml:"devices"`
}

// StratumDevice says what miners with one kind of user agent start with.
type StratumDevice struct {
	// Agent is how the user agent begins, in either case. Empty: everybody, and the
	// built-in table is not used.
	Agent string `toml:"agent"`
	// Start is the first difficulty and Floor the least one; 0 leaves that to
	// start_difficulty and min_difficulty.
	Start float64 `toml:"start"`
	Floor float64 `toml:"floor"`
	// Extranonce2 is 8, or 4 for firmware that does not ask for the size; 0 is 8.
	Extranonce2 int `toml:"extranonce2"`
}

func (d StratumDevice) ok() bool {
	return d.Start >= 0 && d.Floor >= 0 && (d.Start == 0 || d.Floor <= d.Start) && (d.Extranonce2 == 0 || d.Extranonce2 == 4 || d.Extranonce2 == 8)
}

// Values of Stratum.TLS.
const (
	TLSAuto = "auto"
	TLSOff  = "off"
)

// Signer says how node and signer daemon meet and which keys the daemon holds.
// On one machine they meet at a Unix socket (socket). Otherwise the daemon dials
// the node over TLS: the node's file has listen, pins and identity, the
// daemon's file nodes and identity, and its socket is for its operators.
type Signer struct {
	// Socket is the Unix socket of the signer. Empty, without listen: this node
	// has no signer and follows the validators of others.
	Socket string `toml:"socket"`
	// Sockets are those of further signers on this machine that the node asks: with
	// keys of their own, or a stand-by with the same ones. The daemon ignores them.
	Sockets []string `toml:"sockets"`
	// Listen is host:port where signers dial this node. Empty: off. The node then
	// does not use the socket.
	Listen string `toml:"listen"`
	// Pins are the identities of the signers that may connect, ed25519:HEX as
	// `qcity signer identity` prints them: with keys of their own, or a stand-by with
	// the same ones.
	Pins []string `toml:"pins"`
	// Identity is the key file of this side of the TLS link, mode 0600, made by
	// `qcity node identity` or `qcity signer identity`. Node and signer have one each.
	Identity string `toml:"identity"`
	// NodeUIDs are the users, by number, that nodes on the socket run as, besides the
	// signer's own user and root.
	NodeUIDs []uint32 `toml:"node_uids"`
	// Nodes are dialled by the signer, which then needs no listening port.
	Nodes []SignerNode `toml:"nodes"`
	// Journal is the file of everything ever signed. It is trusted, must never
	// be copied to a second signer, rolled back or deleted.
	Journal string `toml:"journal"`
	// Audit is the file of the audit log: what was asked of the signer and what it
	// did, each entry bound to all before it. It goes on in files of the same name
	// with .2, .3 … behind. Empty: audit.log beside the journal.
	Audit string `toml:"audit"`
	// Module is the PKCS#11 library of the HSM's vendor.
	Module string `toml:"module"`
	// ModuleArgs is a string that the library wants when it starts; that of NSS
	// does, and those of HSMs do not.
	ModuleArgs string `toml:"module_args"`
	// Worker is the qcity-p11 program. Empty: beside this program.
	Worker string `toml:"worker"`
	// PristineTokens is for SoftHSM only: the folder of its tokens. The worker
	// runs on a throw-away copy, as SoftHSM truncates a token's file at every
	// login and a process killed in that moment loses the token.
	PristineTokens string `toml:"pristine_tokens"`
	// ModuleEnv is the module's environment besides PATH, HOME, LANG, TZ and
	// SOFTHSM2_CONF: NAME=value sets a variable, NAME passes the signer's own on.
	ModuleEnv []string `toml:"module_env"`
	// ModuleWrites are files and folders where the module may write: its tokens,
	// locks, logs. It may write nowhere else, and may not read the journal's folder.
	ModuleWrites []string `toml:"module_writes"`
	// ModuleNetwork lets the module use the network, as that of a network HSM must.
	ModuleNetwork bool `toml:"module_network"`
	// Sessions is how many signatures one token is asked for at the same time.
	// Zero: two, one at work and one spare. For a network HSM: one for each key.
	Sessions int `toml:"sessions"`
	// VendorCodes says what to do about return codes of the module's vendor, such as
	// "0x80000005" = "stop": re-find, new-session, restart or stop. Others: restart.
	VendorCodes map[string]string `toml:"vendor_codes"`
	// SignaturesPerSecond and SignatureBurst bound how fast new signatures are
	// made. Zero: 12 a second, 120 at once: two slots a second with five votes each.
	SignaturesPerSecond float64 `toml:"signatures_per_second"`
	SignatureBurst      int     `toml:"signature_burst"`
	// StartupWait leaves the first slot after a start to other boxes: should a copy
	// of these keys be at work elsewhere, its block shows before this box signs.
	StartupWait bool `toml:"startup_wait"`
	// Keys are the validator keys this signer holds.
	Keys []SignerKey `toml:"keys"`
	// Cluster, if other machines hold the same keys.
	Cluster Cluster `toml:"cluster"`
}

// Cluster is the etcd cluster in which machines with the same keys claim what they
// sign before they sign it (docs/cluster.md).
type Cluster struct {
	// Etcd are the client URLs of its members, "https://host:2379": three or five of
	// them, etcd 3.5.14 or newer. Empty: no other machine has these keys. http is for
	// loopback addresses only.
	Etcd []string `toml:"etcd"`
	// CA is the file of the certificate that signed those of the members; Cert and
	// Key are the files of this box's own. All three are needed with https.
	CA   string `toml:"ca"`
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Username and PasswordFile log in to etcd, where it wants that besides the
	// certificate. The file has one line and mode 0400 or 0600.
	Username     string `toml:"username"`
	PasswordFile string `toml:"password_file"`
	// State is the file of what this box has seen of the cluster, by which it
	// notices one that was rolled back. Lost, it is made again by joining anew.
	State string `toml:"state"`
	// Prefix of all names in etcd, the same on every machine. Empty: "/qcity/signer".
	Prefix string `toml:"prefix"`
	// AllowSingleMember accepts fewer than three members: for devnets only, as one
	// member alone was seen to lose what it had acknowledged.
	AllowSingleMember bool `toml:"allow_single_member"`
	// AllowOldVersion accepts versions of etcd with known faults: for devnets only.
	AllowOldVersion bool `toml:"allow_old_version"`
}

// SignerNode is a node that the signer dials.
type SignerNode struct {
	// Dial is host:port: the node's signer.listen.
	Dial string `toml:"dial"`
	// Pin is the node's identity, ed25519:HEX as `qcity node identity` prints it.
	Pin string `toml:"pin"`
}

// SignerKey is one validator key in a token.
type SignerKey struct {
	// PublicKey is ALGORITHM:HEX as in the network file; it pins the key.
	PublicKey string `toml:"public_key"`
	// Token and Serial name the token; its slot number is never used, as it may
	// change at every start.
	Token  string `toml:"token"`
	Serial string `toml:"serial"`
	// Label of the key inside the token.
	Label string `toml:"label"`
	// ID of the key inside the token (CKA_ID) in hex. Empty: not checked.
	ID string `toml:"id"`
	// PIN says where the user PIN comes from: "credential:NAME" (systemd), "fd:N",
	// "file:PATH" (one line; mode 0400 or 0600), "keyring:NAME", "terminal" (typed at
	// the start), or "device" (entered at the token). Never the PIN itself.
	PIN string `toml:"pin"`
	// AllowExtractable accepts a key that the token would hand out.
	AllowExtractable bool `toml:"allow_extractable"`
}

// Default returns the configuration that a missing key stands for.
func Default() Config {
	return Config{
		Network: "regtest",
		Data:    ".",
		RPC:     RPC{Listen: "127.0.0.1:9332"},
		API:     API{Listen: "127.0.0.1:9380"},
		Miner:   Miner{Threads: max(1, usableThreads()-1), Kernel: "auto", Nice: 10, CPUs: PinAuto, Duty: 100},
		Stratum: Stratum{
			Listen: "127.0.0.1:3333", StartDifficulty: 1,
			MinDifficulty: 1.0 / (1 << 24), MaxDifficulty: 1 << 50, MaxSessions: 10_000,
			MaxCoinbase: 220, TLS: TLSAuto,
		},
		Pool:   Pool{Rewards: "own", PPLNSFactor: 2, MinPayout: 1_000_000, RetentionDays: 7, MaxMiB: 4096},
		Signer: Signer{StartupWait: true},
	}
}

// Load reads a configuration file over the defaults and checks it.
func Load(file string) (Config, error) {
	c, err := LoadIncomplete(file)
	if err != nil {
		return c, err
	}
	return c, c.check(file)
}

// LoadIncomplete is Load for files that are still being written: keys are
// checked for being known, values are not checked against each other.
func LoadIncomplete(file string) (Config, error) {
	c := Default()
	if err := decodeFile(file, &c); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return c, fmt.Errorf("no configuration at %s: write one, or run `qcity demo` to make a devnet", file)
		}
		return c, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	c.dir = filepath.Dir(abs)
	return c, nil
}

// Path resolves a path written in the file; "" stays "".
func (c *Config) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// AuditLog returns the path of the signer's audit log; "" if it has no journal either.
func (c *Config) AuditLog() string {
	switch {
	case c.Signer.Audit != "":
		return c.Path(c.Signer.Audit)
	case c.Signer.Journal != "":
		return filepath.Join(filepath.Dir(c.Path(c.Signer.Journal)), "audit.log")
	}
	return ""
}

// NetworkName resolves Network for LoadNetwork.
func (c *Config) NetworkName() string {
	if filepath.Ext(c.Network) == ".toml" {
		return c.Path(c.Network)
	}
	return c.Network
}

// rule is what must hold of the value of a key.
type rule struct {
	key  toml.Key
	ok   bool
	want string
}

// check reports the first value that cannot work, at its place in the file.
func (c *Config) check(file string) error {
	_, cpusErr := c.Miner.CPUList()
	rules := []rule{
		{toml.Key{"rpc", "listen"}, validListen(c.RPC.Listen), "want host:port, for example 127.0.0.1:9332"},
		{toml.Key{"api", "listen"}, c.API.Listen == "" || validListen(c.API.Listen), "want host:port on loopback, for example 127.0.0.1:9380, or \"\" to switch it off"},
		{toml.Key{"stratum", "listen"}, c.Stratum.Listen == "" || validListen(c.Stratum.Listen), "want host:port, for example 0.0.0.0:3333, or \"\" to switch it off"},
		{toml.Key{"miner", "threads"}, c.Miner.Threads >= 0 && c.Miner.Threads <= 4096, "want 0 to 4096"},
		{toml.Key{"miner", "kernel"}, c.Miner.Kernel != "", "want \"auto\" or the name of a kernel, see `qcity bench`"},
		{toml.Key{"miner", "cpus"}, cpusErr == nil, fmt.Sprint(cpusErr)},
		{toml.Key{"miner", "duty"}, c.Miner.Duty >= 1 && c.Miner.Duty <= 100, "want 1 to 100 percent"},
		{toml.Key{"miner", "max_temperature"}, within(c.Miner.MaxTemperature, 30, 120), "want 30 to 120 °C, or 0 for no limit"},
		{toml.Key{"miner", "max_power"}, within(c.Miner.MaxPower, 1, 10_000), "want 1 to 10000 watts, or 0 for no limit"},
		{toml.Key{"miner", "nice"}, c.Miner.Nice >= 0 && c.Miner.Nice <= 19, "want 0 to 19"},
		{toml.Key{"signer", "cluster", "etcd"}, c.Signer.Cluster.validEtcd(), "want URLs such as https://host:2379; http is for loopback addresses, as without TLS anybody on the way can answer"},
		{toml.Key{"signer", "cluster", "ca"}, !c.Signer.Cluster.secure() || c.Signer.Cluster.CA != "" && c.Signer.Cluster.Cert != "" && c.Signer.Cluster.Key != "", "https needs the three files ca, cert and key"},
		{toml.Key{"signer", "cluster", "username"}, (c.Signer.Cluster.Username == "") == (c.Signer.Cluster.PasswordFile == ""), "want username and password_file, or neither"},
		{toml.Key{"signer", "cluster", "state"}, len(c.Signer.Cluster.Etcd) == 0 || c.Signer.Cluster.State != "", "name the file in which this box keeps what it has seen of the cluster"},
		{toml.Key{"signer", "cluster", "prefix"}, c.Signer.Cluster.Prefix == "" || path.IsAbs(c.Signer.Cluster.Prefix) && path.Clean(c.Signer.Cluster.Prefix) == c.Signer.Cluster.Prefix && c.Signer.Cluster.Prefix != "/", "want /name/…/name, or \"\" for /qcity/signer"},
		{toml.Key{"stratum", "min_difficulty"}, c.Stratum.MinDifficulty > 0, "want more than 0"},
		{toml.Key{"stratum", "start_difficulty"}, c.Stratum.StartDifficulty >= c.Stratum.MinDifficulty && c.Stratum.StartDifficulty <= c.Stratum.MaxDifficulty, "want a value between min_difficulty and max_difficulty"},
		{toml.Key{"stratum", "tls"}, c.Stratum.TLS == TLSAuto || c.Stratum.TLS == TLSOff, "want \"auto\" or \"off\""},
		{toml.Key{"stratum", "cert"}, (c.Stratum.Cert == "") == (c.Stratum.Key == ""), "want cert and key, or neither: then this box makes a certificate for itself"},
		{toml.Key{"stratum", "devices"}, !slices.ContainsFunc(c.Stratum.Devices, func(d StratumDevice) bool { return !d.ok() }), "want start and floor of 0 or more, start not below floor, and an extranonce2 of 0, 4 or 8"},
		{toml.Key{"stratum", "max_sessions"}, c.Stratum.MaxSessions >= 1, "want at least 1"},
		{toml.Key{"stratum", "max_coinbase"}, c.Stratum.MaxCoinbase >= 128 && c.Stratum.MaxCoinbase <= 16_384, "want 128 to 16384 bytes; above 220 some devices stop mining"},
	}
	rules = append(rules, c.Pool.rules()...)
	rules = append(rules, c.Signer.rules()...)
	for _, r := range rules {
		if !r.ok {
			data, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read configuration: %w", err)
			}
			line, column := locate(data, r.key)
			return &Error{file, line, column, r.key.String() + ": " + r.want}
		}
	}
	return nil
}

// within accepts a limit that makes sense, and 0, which is none.
func within(limit, least, most float64) bool { return limit == 0 || limit >= least && limit <= most }

// validEtcd is what package signer/cluster checks too, before it trusts an answer.
func (c *Cluster) validEtcd() bool {
	for _, text := range c.Etcd {
		u, err := url.Parse(text)
		if err != nil || u.Port() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			return false
		}
		loopback := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
		if u.Scheme != "https" && !(u.Scheme == "http" && loopback) {
			return false
		}
	}
	return true
}

func (c *Cluster) secure() bool {
	return slices.ContainsFunc(c.Etcd, func(e string) bool { return strings.HasPrefix(e, "https:") })
}

func validListen(s string) bool {
	_, port, err := net.SplitHostPort(s)
	return err == nil && port != ""
}

// Write writes the configuration file; it never overwrites one.
func (c *Config) Write(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s exists: remove it first if it should be made anew", file)
	}
	text, err := encode(c)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return durable.WriteFile(file, text, 0o644)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := toml.NewEncoder(&b)
	e.Indent = ""
	err := e.Encode(v)
	return b.Bytes(), err
}
