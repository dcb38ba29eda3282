package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/signer"
	"qcitycoin.org/qcity/signer/audit"
	"qcitycoin.org/qcity/signer/authority"
	"qcitycoin.org/qcity/signer/ceremony"
	"qcitycoin.org/qcity/signer/worker"
)

// TestOfficersWalk is a security officer's walk from bare tokens to an audited
// hand-over of authority, with real processes. Its log reads as the protocol of
// docs/walk.md.
func TestOfficersWalk(t *testing.T) {
	w := newWalk(t)
	w.makeKeys()
	w.setUpBoxes()
	w.startChain()
	w.pullToken(w.boxes[2])
	leading, standBy := w.addStandBy(w.boxes[0])
	w.takeOver(leading, standBy)
	sixth := w.makeSixth()
	w.handOver(w.boxes[4], sixth)
	w.haltAndResume(w.boxes[1])
	w.endAll()
	w.auditAll(standBy, sixth)
	w.checkWatermarks(w.boxes[4], sixth)
	w.checkGuide()
}

func newWalk(t *testing.T) *walk {
	module, err := worker.SoftHSMModule()
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{T: t, dir: t.TempDir(), module: module, typed: make(map[string]bool)}
	w.rpc = rig{t: t, dir: w.in("node"), rpc: freeAddress(t)}
	return w
}

// makeKeys is the ceremony: planned, rehearsed, run and verified.
func (w *walk) makeKeys() {
	w.heading("Bare tokens, and a ceremony file that was reviewed")
	w.sh("mkdir -m 700 tokens pins", func() error {
		return errors.Join(os.Mkdir(w.in("tokens"), 0o700), os.Mkdir(w.in("pins"), 0o700))
	})
	for i := range demoValidators {
		w.newPINs(fmt.Sprintf("pins/validator-%d", i))
	}
	w.sh("cp configs/ceremony.example.toml ceremony.toml && vi ceremony.toml   # [network]: a slot every third block, a block a second", w.writeCeremonyFile)
	w.sh(`echo "* = @" > answers   # a script answers for the roles; the transcript says so`, func() error {
		return os.WriteFile(w.in("answers"), []byte("* = @\n"), 0o600)
	})
	if plan := w.officer("ceremony", "plan", "ceremony.toml"); !strings.Contains(plan, "36-end") {
		w.Errorf("the plan has other steps:\n%s", plan)
	}
	w.heading("The ceremony is rehearsed, run and verified")
	if out := w.officer("ceremony", "rehearse", "ceremony.toml"); !strings.Contains(out, "rehearsal verified") {
		w.Errorf("rehearsal: %s", out)
	}
	w.officer("ceremony", "run", "ceremony.toml", "--dir", "ceremony", "--softhsm-tokens", "tokens", "--pin", "file:pins/{token}.pin", "--so-pin", "file:pins/{token}.so-pin", "--answers", "answers")
	var report ceremony.Report
	if err := json.Unmarshal([]byte(w.officer("ceremony", "verify", "ceremony.toml", "--dir", "ceremony", "--json")), &report); err != nil {
		w.Fatal(err)
	}
	w.officer("ceremony", "verify", "ceremony.toml", "--dir", "ceremony", "--words", report.Words)
	var err error
	if w.net, err = configs.LoadNetwork(w.in("ceremony/network.toml")); err != nil {
		w.Fatal(err)
	}
	if w.net.ID != report.Network || len(w.net.Validators) != demoValidators {
		w.Fatalf("network %s with %d validators, the transcript names %s", w.net.ID, len(w.net.Validators), report.Network)
	}
}

// newPINs writes a user PIN and a security officer PIN.
func (w *walk) newPINs(name string) {
	w.sh(fmt.Sprintf(`for p in pin so-pin; do (umask 277; shuf -rn12 -i0-9 | tr -d '\n' > %s.$p); done`, name), func() error {
		return errors.Join(
			os.WriteFile(w.in(name+".pin"), []byte(randomDigits()+"\n"), 0o400),
			os.WriteFile(w.in(name+".so-pin"), []byte(randomDigits()+"\n"), 0o400))
	})
}

// writeCeremonyFile makes the example's network one that a test can watch.
func (w *walk) writeCeremonyFile() error {
	text, err := os.ReadFile("../../configs/ceremony.example.toml")
	if err != nil {
		return err
	}
	p, err := configs.DevnetProfile()
	if err != nil {
		return err
	}
	scaleProfile(&p, 1)
	rate, err := measureHashRate(w.Context(), 1, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	p.N = 3
	for name, value := range map[string]string{
		"n": fmt.Sprint(p.N), "genesisTime": fmt.Sprint(now()), "genesisBits": fmt.Sprintf("%q", fmt.Sprintf("%08x", uint32(startBits(rate, &p)))),
		"powLimitBits": fmt.Sprintf("%q", fmt.Sprintf("%08x", uint32(p.PowLimitBits))), "intervalSeconds": fmt.Sprint(p.IntervalSeconds),
		"halfLifeSeconds": fmt.Sprint(p.HalfLifeSeconds), "slotOpenSeconds": fmt.Sprint(p.SlotOpenSeconds), "slotCloseSeconds": fmt.Sprint(p.SlotCloseSeconds),
		"rankStepSeconds": fmt.Sprint(p.RankStepSeconds), "futureLimitSeconds": fmt.Sprint(p.FutureLimitSeconds),
	} {
		line := regexp.MustCompile(`(?m)^` + name + ` = .*$`)
		if n := len(line.FindAll(text, -1)); n != 1 {
			return fmt.Errorf("the example has %d lines %s", n, name)
		}
		text = line.ReplaceAll(text, []byte(name+" = "+value))
	}
	return os.WriteFile(w.in("ceremony.toml"), text, 0o600)
}

// setUpBoxes carries each token to a box of its own and starts its signer.
func (w *walk) setUpBoxes() {
	w.heading("Five signers, each with a token, a journal and an audit log of its own")
	for i := range w.net.Validators {
		b := &signerBox{name: fmt.Sprint("box-", i)}
		record := fmt.Sprintf("ceremony/records/validator-%d.json", i)
		w.furnish(b.name)
		token := w.tokenDir("tokens", w.record(record).Serial)
		w.move("tokens/"+token, b.name+"/tokens/"+token)
		w.move(fmt.Sprintf("pins/validator-%d.pin", i), b.name+"/token.pin")
		w.configure(b, record)
		if b.key != w.net.Validators[i] {
			w.Fatalf("%s is about %s, validator %d is %s", record, b.key, i, w.net.Validators[i])
		}
		w.officer("key", "check", "--record", record, "--softhsm-tokens", b.name+"/tokens", "--pin", "file:"+b.name+"/token.pin")
		w.officer("watermark", "init", "--config", b.config(), "--floor", "0")
		b.run = w.start("signer", "run", "--config", b.config())
		w.boxes = append(w.boxes, b)
	}
	for _, b := range w.boxes {
		w.ready(b, true)
	}
}

func (w *walk) move(from, to string) {
	w.Helper()
	w.sh("mv "+from+" "+to, func() error { return os.Rename(w.in(from), w.in(to)) })
}

// startChain starts the node, which mines, and waits for certified slots.
func (w *walk) startChain() {
	w.heading("One node, and a chain with certified slots")
	w.sh("mkdir -m 700 node", func() error { return os.Mkdir(w.in("node"), 0o700) })
	c := w.nodeConfig("node")
	c.Payout = w.net.Addresses.PubKeyHashAddress([20]byte{1})
	c.Miner.Threads, c.Miner.Kernel = 1, "auto"
	c.Signer = configs.Signer{Socket: "../" + w.boxes[0].socket()}
	for _, b := range w.boxes[1:] {
		c.Signer.Sockets = append(c.Signer.Sockets, "../"+b.socket())
	}
	w.sh("vi node/qcity.toml   # [signer] socket and sockets: those of the five", func() error { return c.Write(w.in("node/qcity.toml")) })
	w.startNode()
	w.onwards(2, "from genesis on")
	w.until("a slot is final", func() bool {
		_, final := w.finality()
		return final > 0
	})
}

func (w *walk) startNode() { w.node = w.start("run", "--config", "node/qcity.toml") }

// introduce has the node ask one more signer.
func (w *walk) introduce(b *signerBox) {
	w.Helper()
	w.stop(w.node)
	w.edit("node/qcity.toml", "signer.sockets: that of "+b.name+" as well", func(c *configs.Config) {
		c.Signer.Sockets = append(c.Signer.Sockets, "../"+b.socket())
	})
	w.startNode()
}

// pullToken takes a token away and brings it back; nothing is restarted.
func (w *walk) pullToken(b *signerBox) {
	w.heading("A token is pulled, and returned")
	r := w.record("ceremony/records/validator-2.json")
	token := w.tokenDir(b.name+"/tokens", r.Serial)
	w.move(b.name+"/tokens/"+token, "tokens/"+token)
	w.ready(b, false)
	w.onwards(2, "without "+b.name)
	w.move("tokens/"+token, b.name+"/tokens/"+token)
	w.ready(b, true)
	w.signs(b, "after its token came back")
	b.story = append(b.story, audit.EventStarted, audit.EventSigned, audit.EventKeyLost, audit.EventKeyReady, audit.EventSigned)
}

// addStandBy gives one of the keys to a second box, with a cluster between them.
func (w *walk) addStandBy(first *signerBox) (leading, standBy *signerBox) {
	w.heading("A second box for the key of " + first.name + ", and an etcd cluster between the two")
	w.startEtcd()
	w.stop(first.run)
	second := &signerBox{name: first.name + "b"}
	w.furnish(second.name)
	w.sh(fmt.Sprintf("cp -a %[1]s/tokens %[1]s/token.pin %[2]s/   # an HSM pair shares the key in its own way", first.name, second.name), func() error {
		return errors.Join(os.Remove(w.in(second.name+"/tokens")), copyTree(w.in(first.name+"/tokens"), w.in(second.name+"/tokens")),
			copyTree(w.in(first.name+"/token.pin"), w.in(second.name+"/token.pin")))
	})
	w.configure(second, "ceremony/records/validator-0.json")
	for _, b := range []*signerBox{first, second} {
		w.edit(b.config(), "[signer.cluster] etcd, state; allow_old_version for a test", func(c *configs.Config) {
			c.Signer.Cluster = configs.Cluster{Etcd: w.etcd, State: "journal/cluster.pin", AllowOldVersion: true}
		})
	}
	w.officer("watermark", "export", "--config", first.config(), "--out", "watermarks-0.json")
	w.officer("watermark", "init", "--config", second.config(), "--floor", "0")
	w.officer("watermark", "import", "--config", second.config(), "watermarks-0.json")
	for _, b := range []*signerBox{first, second} {
		w.join(b)
	}
	first.run = w.start("signer", "run", "--config", first.config())
	w.ready(first, true)
	second.run = w.start("signer", "run", "--config", second.config())
	w.boxes = append(w.boxes, second)
	w.ready(second, true)
	w.introduce(second)
	w.role(first, signer.RoleLeading)
	w.role(second, signer.RoleStandBy)
	w.signs(first, "as the leading box")
	return first, second
}

// join accepts the cluster; its members may still be starting.
func (w *walk) join(b *signerBox) {
	w.Helper()
	args := []string{"signer", "cluster", "join", "--config", b.config(), "--floor", "0"}
	w.until(b.name+" can join", func() bool {
		_, stderr, code := w.quiet(args...)
		if code != 0 && code != exitError {
			w.Fatalf("exit code %d: %s", code, stderr)
		}
		return code == 0
	})
	w.Logf("$ qcity %s", typed(args))
}

func (w *walk) role(b *signerBox, role string) {
	w.Helper()
	w.until(b.name+" is "+role, func() bool {
		st, ok := w.status(b)
		return ok && st.Role == role
	})
}

// takeOver kills the leading box; its stand-by signs with the same key.
func (w *walk) takeOver(leading, standBy *signerBox) {
	w.heading("The leading box dies, its stand-by takes over")
	w.Logf("$ kill -9 %d   # qcity %s", leading.run.pid(), typed(leading.run.args))
	leading.run.kill()
	w.role(standBy, signer.RoleLeading)
	w.signs(standBy, "in the place of "+leading.name)
	w.until(standBy.name+" signs a block with the key, not only votes", func() bool {
		st, _ := w.status(standBy)
		view, _, code := w.quiet("watermark", "show", "--config", leading.config(), "--json")
		var old struct{ Keys []signer.KeyMarks }
		if err := json.Unmarshal([]byte(view), &old); err != nil || code != 0 {
			w.Fatalf("exit code %d, %v", code, err)
		}
		return st.Keys[0].LastSigned > old.Keys[0].Block
	})
	w.Logf("the box that died comes back, as a stand-by")
	leading.run = w.start("signer", "run", "--config", leading.config())
	w.ready(leading, true)
	w.role(leading, signer.RoleStandBy)
}

// makeSixth makes a key in a new token, proves it, and starts its signer.
func (w *walk) makeSixth() *signerBox {
	w.heading("A sixth key, in a new token")
	b := &signerBox{name: "box-5"}
	w.furnish(b.name)
	w.newPINs("pins/validator-5")
	w.officer("key", "generate", "--init", "--token", "validator-5", "--label", "validator-5", "--id", "06", "--network", "ceremony/network.toml",
		"--softhsm-tokens", b.name+"/tokens", "--pin", "file:pins/validator-5.pin", "--so-pin", "file:pins/validator-5.so-pin", "--record", "validator-5.json")
	w.officer("key", "prove", "--network", "ceremony/network.toml", "--token", "validator-5", "--label", "validator-5", "--challenge", "asked by the officers of four",
		"--softhsm-tokens", b.name+"/tokens", "--pin", "file:pins/validator-5.pin", "--out", "new.proof")
	w.officer("key", "prove", "--network", "ceremony/network.toml", "--verify", "new.proof")
	w.move("pins/validator-5.pin", b.name+"/token.pin")
	w.configure(b, "validator-5.json")
	w.officer("watermark", "init", "--config", b.config(), "--floor", "0")
	b.run = w.start("signer", "run", "--config", b.config())
	w.boxes = append(w.boxes, b)
	w.ready(b, true)
	w.introduce(b)
	return b
}

// handOver puts the sixth key in the place of another one.
func (w *walk) handOver(old, sixth *signerBox) {
	w.heading("Authority passes from the key of " + old.name + " to that of " + sixth.name)
	w.onwards(1, "before the change")
	var in authority.Inspection
	if err := json.Unmarshal([]byte(w.officer("authority", "propose", "--config", "node/qcity.toml", "--replace", "4=new.proof",
		"--reason", "the token of validator 4 retires", "--out", "change.json", "--json")), &in); err != nil {
		w.Fatal(err)
	}
	w.officer("authority", "inspect", "change.json", "--network", "ceremony/network.toml")
	answers, err := json.Marshal(answerFile{People: []string{"Ada Adler", "Bob Berg"}, Fingerprint: in.Fingerprint})
	if err != nil {
		w.Fatal(err)
	}
	w.sh("vi people.json   # two people, and the fingerprint as the proposer told it by phone", func() error { return os.WriteFile(w.in("people.json"), answers, 0o600) })
	copies := []string{"authority", "combine", "--network", "ceremony/network.toml", "--out", "complete.json"}
	for _, b := range w.boxes[1:4] {
		signed := "signed-" + b.name + ".json"
		w.officer("authority", "sign", "change.json", "--config", b.config(), "--answers", "people.json", "--out", signed)
		copies = append(copies, signed)
	}
	w.officer(copies...)
	w.officer("authority", "submit", "complete.json", "--config", "node/qcity.toml", "--wait")
	if out := w.officer("authority", "show", "--config", "node/qcity.toml"); !strings.Contains(out, sixth.key.String()) || strings.Contains(out, old.key.String()) {
		w.Errorf("the set in force is another one:\n%s", out)
	}
	w.until("the sixth key signed a block", func() bool {
		st, ok := w.status(sixth)
		return ok && st.Keys[0].LastSigned > 0
	})
	before, _ := w.status(old)
	w.signs(sixth, "as validator 4")
	w.onwards(2, "under the new set")
	if after, ok := w.status(old); !ok || after.Signed != before.Signed {
		w.Errorf("the key that was removed made %d signatures more", after.Signed-before.Signed)
	}
}

// haltAndResume: one person stops a signer, two have it go on.
func (w *walk) haltAndResume(b *signerBox) {
	w.heading("One person halts " + b.name + ", two resume it")
	w.officer("signer", "halt", "--config", b.config(), "--by", "A. Kim", "--reason", "token opened for inspection")
	before, _ := w.status(b)
	w.onwards(2, "without it")
	after, ok := w.status(b)
	if !ok || after.Signed != before.Signed || after.Repeated != before.Repeated || after.Halt == nil {
		w.Errorf("a halted signer went from %d signatures and %d repeats to %d and %d", before.Signed, before.Repeated, after.Signed, after.Repeated)
	}
	w.officer("signer", "resume", "--config", b.config(), "--by", "A. Kim")
	if st, _ := w.status(b); st.Halt == nil {
		w.Error("one person resumed it alone")
	}
	w.officer("signer", "resume", "--config", b.config(), "--by", "B. Lee")
	w.signs(b, "again")
	b.story = append(b.story, audit.EventHalted, audit.EventResuming, audit.EventResumed, audit.EventSigned, audit.EventStopped)
}

// endAll stops everything, as an audit reads what lies on disk.
func (w *walk) endAll() {
	w.heading("Everything is stopped, to be audited")
	w.stop(w.node)
	for _, b := range w.boxes {
		w.stop(b.run)
	}
	w.officer("chain", "verify", "--data", "node/node", "--network", "ceremony/network.toml")
}

// copyTree copies a file or a folder with its modes, as cp -a does.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), info.Mode().Perm())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, info.Mode().Perm())
	})
}
