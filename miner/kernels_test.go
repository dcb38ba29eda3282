package miner

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qcitycoin.org/qcity/hw"
	"qcitycoin.org/qcity/miner/sha256d"
	"qcitycoin.org/qcity/miner/work"
)

// drawer is a Store in memory.
type drawer struct {
	content          []byte
	loadErr, saveErr error
	saves            int
}

func (d *drawer) Load() ([]byte, error) { return d.content, d.loadErr }

func (d *drawer) Save(b []byte) error {
	if d.saveErr != nil {
		return d.saveErr
	}
	d.saves++
	d.content = b
	return nil
}

var testMachine = hw.Inventory{CPU: hw.CPU{Model: hw.Known("a CPU")}}

// pairOfKernels returns a slow kernel and a fast one: 500 and 1,000 hashes a
// second, so that tests over hours have not too many calls.
func pairOfKernels(r *recorder) (slow, fast *fake, kernels []sha256d.Kernel) {
	r.forget = true
	slow, fast = &fake{rate: 500}, &fake{rate: 1000}
	return slow, fast, []sha256d.Kernel{r.faked("slow", 1, slow), r.faked("fast", 4, fast)}
}

// TestChoiceIsRemembered: the first start measures, the second does not, not
// even when the other kernel has become the faster one.
func TestChoiceIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, _, kernels := pairOfKernels(&recorder{})
		store := &drawer{loadErr: errors.New("no such file")}
		cfg := Config{Workers: 2, Kernel: sha256d.Auto, Machine: testMachine, Memory: store}
		for i, measured := range []int{2, 0} {
			m := startWith(t, cfg, noSolutions(t), kernels...)
			m.feed.Publish(newJob(1, 'P', work.Target{}))
			time.Sleep(time.Minute)
			if s := m.Stats(); s.Kernel != "fast" || s.Workers[0].Kernel != "fast" || s.Total.Hashes == 0 {
				t.Errorf("start %d: %+v", i, s)
			}
			if n := len(m.logs.lines("kernel measured")); n != measured {
				t.Errorf("start %d measured %d kernels, want %d", i, n, measured)
			}
			m.end(t)
			slow.setRate(1e4)
			store.loadErr = nil
		}
		if store.saves != 1 {
			t.Errorf("remembered %d times", store.saves)
		}
	})
}

// TestMemory: only what was measured on this very machine, by a program with
// these very kernels, counts; everything else costs a measurement and no more.
func TestMemory(t *testing.T) {
	r := &recorder{}
	kernels := []sha256d.Kernel{r.kernel(1), r.faked("other", 1, &fake{rate: 1})}
	features := []hw.Feature{hw.AVX2, hw.SHANI}
	store := &drawer{}
	if err := newMemory(store, &testMachine, features, kernels).save(&choice{kernels[1], 5e6}); err != nil {
		t.Fatal(err)
	}
	good := string(store.content)
	changed := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s holds no %s", good, old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, c := range []struct {
		name, content string
		err           error
		want          string // kernel; "": forgotten
	}{
		{"as it was", good, nil, "other"},
		{"another CPU", changed("a CPU", "another CPU"), nil, ""},
		{"a feature less", changed("\"avx2\",", ""), nil, ""},
		{"other kernels", changed("\"recorder\",", ""), nil, ""},
		{"other versions", changed("\"versions\": 16777216", "\"versions\": 4"), nil, ""},
		{"a kernel that is not there", changed("\"kernel\": \"other\"", "\"kernel\": \"gone\""), nil, ""},
		{"no rate", changed("5000000", "0"), nil, ""},
		{"rate below zero", changed("5000000", "-5"), nil, ""},
		{"rate that is no number", changed("5000000", "\"fast\""), nil, ""},
		{"rate that is too large", changed("5000000", "1e999"), nil, ""},
		{"cut off", good[:len(good)/2], nil, ""},
		{"empty", "", nil, ""},
		{"foreign", "[1, 2]", nil, ""},
		{"null", "null", nil, ""},
		{"not readable", good, errors.New("permission denied"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory(&drawer{content: []byte(c.content), loadErr: c.err}, &testMachine, features, kernels)
			kernel, rate, ok := m.load()
			if ok != (c.want != "") || kernel != c.want || ok && rate != 5e6 {
				t.Fatalf("%q at %g, %t; want %q", kernel, rate, ok, c.want)
			}
		})
	}
	if _, _, ok := newMemory(nil, &testMachine, features, kernels).load(); ok {
		t.Error("no store remembers something")
	}
}

// TestBadMemoryCostsNothing: neither a foreign file nor one that cannot be
// written keeps anybody from mining.
func TestBadMemoryCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, kernels := pairOfKernels(&recorder{})
		store := &drawer{content: []byte("\x00\x01"), saveErr: errors.New("disk full")}
		m := startWith(t, Config{Workers: 1, Kernel: sha256d.Auto, Memory: store}, noSolutions(t), kernels...)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(time.Minute)
		if s := m.Stats(); s.Kernel != "fast" || s.Total.Hashes == 0 {
			t.Errorf("%+v", s)
		}
		m.logs.wantOneLine(t, "not remembered")
		m.end(t)
	})
}

// TestForcedKernel is used although it is slower, and no file is touched.
func TestForcedKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, kernels := pairOfKernels(&recorder{})
		store := &drawer{}
		m := startWith(t, Config{Workers: 1, Kernel: "slow", Memory: store}, noSolutions(t), kernels...)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(30 * time.Minute)
		if s := m.Stats(); s.Kernel != "slow" || store.saves != 0 || len(m.logs.lines("measured")) != 0 {
			t.Errorf("%+v, %d saves", s, store.saves)
		}
		m.end(t)
	})
}

// Faults of a bad kernel. The first argument of each is a correct engine.
func findsNothing(_ sha256d.Engine, _ bool, _ uint32, _ int, hits []sha256d.Hit) []sha256d.Hit {
	return hits
}

func findsTooMuch(_ sha256d.Engine, _ bool, first uint32, n int, hits []sha256d.Hit) []sha256d.Hit {
	for i := range uint32(n) {
		hits = append(hits, sha256d.Hit{Version: 0x7fffffff, Nonce: first + i}, sha256d.Hit{Version: 0x20000000, Nonce: first - i})
	}
	return hits
}

func panics(sha256d.Engine, bool, uint32, int, []sha256d.Hit) []sha256d.Hit {
	panic("index out of range")
}

// whileMining makes a fault that no self test sees.
func whileMining(how fault) fault {
	return func(e sha256d.Engine, mining bool, first uint32, n int, hits []sha256d.Hit) []sha256d.Hit {
		if mining {
			return how(e, mining, first, n, hits)
		}
		return e.Scan(first, n, hits)
	}
}

// TestBadKernelIsDisabled: one that fails its self test is not used, however
// fast it is; there is one line in the log and an entry for the operator.
func TestBadKernelIsDisabled(t *testing.T) {
	for name, how := range map[string]fault{"misses": findsNothing, "wrong hits only": findsTooMuch, "panics": panics} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, fast, kernels := pairOfKernels(&recorder{})
				fast.setFault(how)
				m := startWith(t, Config{Workers: 2, Kernel: sha256d.Auto}, noSolutions(t), kernels...)
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(time.Minute)
				checkDisabled(t, m)
				m.end(t)
			})
		})
	}
}

// checkDisabled: the miner goes on with the slow kernel.
func checkDisabled(t *testing.T, m *running) {
	t.Helper()
	s := m.Stats()
	if s.Kernel != "slow" || s.Workers[0].Kernel != "slow" || s.Workers[1].Kernel != "slow" || s.Active != 2 {
		t.Errorf("stats %+v", s)
	}
	if len(s.Disabled) != 1 || s.Disabled[0].Name != "fast" || s.Disabled[0].Reason == "" || s.Disabled[0].Since.IsZero() {
		t.Errorf("disabled: %+v", s.Disabled)
	}
	m.logs.wantOneLine(t, "kernel disabled")
}

// TestRememberedKernelFails: its self test comes before everything.
func TestRememberedKernelFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fast, kernels := pairOfKernels(&recorder{})
		store := &drawer{}
		if err := newMemory(store, &testMachine, hw.Features(), kernels).save(&choice{kernels[1], 1e6}); err != nil {
			t.Fatal(err)
		}
		fast.setFault(findsNothing)
		m := startWith(t, Config{Workers: 2, Kernel: sha256d.Auto, Machine: testMachine, Memory: store}, noSolutions(t), kernels...)
		m.feed.Publish(newJob(1, 'P', work.Target{}))
		time.Sleep(time.Minute)
		checkDisabled(t, m)
		m.end(t)
		var now memo
		if err := json.Unmarshal(store.content, &now); err != nil || now.Kernel != "slow" {
			t.Errorf("remembers %s, error %v", store.content, err)
		}
	})
}

// TestProbe: no kernel is run for the first time but by the prober, whichever way
// it comes to be the chosen one, and one that the prober refuses is never run.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name, kernel, remembered string
		asked                    []string // kernels, by call
	}{
		{"the fastest", sha256d.Auto, "", []string{"slow, fast"}},
		{"a remembered one", sha256d.Auto, "fast", []string{"fast", "slow"}},
		{"a remembered one that has become slower", sha256d.Auto, "slow", []string{"slow", "slow, fast"}},
		{"a configured one", "slow", "", []string{"slow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, fast, kernels := pairOfKernels(&recorder{})
				fast.setFault(func(sha256d.Engine, bool, uint32, int, []sha256d.Hit) []sha256d.Hit {
					t.Error("the kernel that the prober refuses was run")
					return nil
				})
				store := &drawer{}
				for i, k := range kernels {
					if k.Name == c.remembered {
						if err := newMemory(store, &testMachine, hw.Features(), kernels).save(&choice{kernels[i], 1e3}); err != nil {
							t.Fatal(err)
						}
					}
				}
				var asked []string
				cfg := Config{Workers: 1, Kernel: c.kernel, Machine: testMachine, Memory: store}
				cfg.Probe = func(_ context.Context, tested []sha256d.Kernel) []error {
					asked = append(asked, sha256d.Names(tested))
					errs := make([]error, len(tested))
					for i := range tested {
						if tested[i].Name == "fast" {
							errs[i] = errors.New("the CPU does not know an instruction of it")
						}
					}
					return errs
				}
				m := startWith(t, cfg, noSolutions(t), kernels...)
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(time.Minute)
				if s := m.Stats(); s.Kernel != "slow" || len(s.Disabled) > 1 || len(s.Disabled) == 1 && s.Disabled[0].Reason != "the CPU does not know an instruction of it" {
					t.Errorf("%+v", s)
				}
				m.end(t)
				if !slices.Equal(asked, c.asked) {
					t.Errorf("the prober was asked %q, want %q", asked, c.asked)
				}
			})
		})
	}
}

// TestOverrideIsLogged: features that are not what the CPU says cost a line.
func TestOverrideIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := testMachine
		machine.CPU.FeatureOverride = "-avx2"
		r := &recorder{}
		m := startWith(t, Config{Workers: 1, Kernel: "recorder", Machine: machine}, noSolutions(t), r.kernel(1))
		synctest.Wait()
		m.logs.wantOneLine(t, "changed by QCITY_CPU_FEATURES\" by=-avx2")
		m.end(t)
	})
}

// TestKernelCrashesWhileMining: it is replaced, by however many workers it
// crashes, also when it was configured, and nothing else happens.
func TestKernelCrashesWhileMining(t *testing.T) {
	for _, name := range []string{sha256d.Auto, "fast"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, fast, kernels := pairOfKernels(&recorder{})
				m := startWith(t, Config{Workers: 2, Kernel: name}, noSolutions(t), kernels...)
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				time.Sleep(time.Minute)
				if s := m.Stats(); s.Kernel != "fast" || len(s.Disabled) != 0 {
					t.Errorf("before: %+v", s)
				}
				fast.setFault(whileMining(panics))
				time.Sleep(time.Minute)
				checkDisabled(t, m)
				before := m.Stats().Total.Hashes
				time.Sleep(10 * time.Second)
				if m.Stats().Total.Hashes == before {
					t.Error("nothing is hashed any more")
				}
				m.end(t)
			})
		})
	}
}

// TestNoWrongShare: hits that do not meet the target never leave the miner.
func TestNoWrongShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		k := r.faked("k", 1, &fake{rate: fakeRate, fault: whileMining(findsTooMuch)})
		m := start(t, 2, k, noSolutions(t))
		m.feed.Publish(newJob(1, 'P', work.Target{31: 1}))
		time.Sleep(time.Second)
		m.end(t)
		if len(r.scans) == 0 || m.Stats().Blocks != (BlockStats{}) {
			t.Errorf("%d scans, blocks %+v", len(r.scans), m.Stats().Blocks)
		}
	})
}

// TestNoKernelLeft ends Run with an error that says so.
func TestNoKernelLeft(t *testing.T) {
	for name, during := range map[string]fault{"from the start": findsNothing, "while mining": whileMining(panics)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{}
				m := startWith(t, Config{Workers: 2, Kernel: sha256d.Auto}, noSolutions(t), r.faked("k", 1, &fake{rate: fakeRate, fault: during}))
				m.feed.Publish(newJob(1, 'P', work.Target{}))
				err := <-m.done
				if err == nil || !strings.Contains(err.Error(), "no hashing kernel works on this machine") {
					t.Fatalf("error %v", err)
				}
				m.stop()
			})
		})
	}
}
