package firmwareapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/hw"
)

func sources() Sources {
	return Sources{
		Status: NewBroadcaster(),
		Hardware: func() hw.Inventory {
			return hw.Inventory{
				OS: "linux", Arch: "amd64", Board: hw.Known("a board"),
				CPU:    hw.CPU{Model: hw.Known("a CPU"), LogicalCores: hw.Known(2), Features: []hw.Feature{}},
				CPUs:   []hw.LogicalCPU{{Online: hw.Known(true), Siblings: hw.Known([]int{0, 1})}},
				Usable: hw.Usable{CPUs: hw.Known([]int{0, 1}), Quota: hw.Known(1.5), Threads: 2},
			}
		},
	}
}

func fullStatus() Status {
	validator, cpu, degrees := 3, 2, 71.5
	at := "2026-11-23T12:00:00Z"
	return Status{
		Network:       Network{Name: "devnet", ID: "ab12"},
		UptimeSeconds: 7,
		Tip:           &Tip{Height: 20, ID: "00ff", Type: "signed", Signer: &validator, Time: at, Status: Signed},
		Finality: Finality{
			Signed: 20, Certified: 10, Final: 0,
			Degraded: &Degraded{Since: 10, Missing: Final, Message: "degraded: no slot became final since 10"},
		},
		Slot:      &Slot{Height: 30, BlocksUntil: 9, State: SlotWaiting, InTurn: 4, OpensAt: &at},
		LastSlots: []PastSlot{{Height: 20, Type: "signed", Signer: &validator, Status: Signed}, {Height: 10, Type: "fallback", Status: Certified}},
		HashRate:  1.5e6,
		CPUMiner: &CPUMiner{
			Kernel: "generic", Duty: 0.75, Temperature: &degrees, Workers: []CPUWorker{
				{CPU: &cpu, Kernel: "generic", HashRate: 1.5e6, Hashes: 12345, ActiveSeconds: 2.5}, {},
			},
		},
		Miners:  []Miner{{Worker: "w", Agent: "cpuminer", HashRate: 2e6, Accepted: 5, Rejected: 1, Difficulty: 0.001}},
		Stratum: StratumStatus{Address: "127.0.0.1:3333", Connected: 1},
		Alerts:  []Alert{{Level: "warning", Message: "disk is nearly full", Since: at}},
	}
}

func newServer(s Sources) *Server {
	return New(Config{Version: "v1"}, s, slog.New(slog.DiscardHandler))
}

// get asks the handler as a local program would.
func get(s *Server, path string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8480"+path, nil)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func TestStatus(t *testing.T) {
	src := sources()
	s := newServer(src)
	if w := get(s, pathStatus, nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "starting") {
		t.Errorf("before the first status: %d %s", w.Code, w.Body)
	}
	want := fullStatus()
	if err := src.Status.Publish(want); err != nil {
		t.Fatal(err)
	}
	w := get(s, pathStatus, nil)
	var got Status
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatusIsNormal(t *testing.T) {
	b := NewBroadcaster()
	if err := b.Publish(Status{LastSlots: make([]PastSlot, 50)}); err != nil {
		t.Fatal(err)
	}
	got, _ := b.Latest()
	if len(got.LastSlots) != maxLastSlots || got.Miners == nil || got.Alerts == nil {
		t.Errorf("published %d slots, miners %v, alerts %v", len(got.LastSlots), got.Miners, got.Alerts)
	}
	_, changed := b.Latest()
	if err := b.Publish(*got); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("an unchanged status woke the readers")
	default:
	}
}

func TestStatusRefusesInfinity(t *testing.T) {
	b := NewBroadcaster()
	if err := b.Publish(fullStatus()); err != nil {
		t.Fatal(err)
	}
	bad, zero := fullStatus(), 0.0
	bad.HashRate = 1 / zero
	if err := b.Publish(bad); err == nil {
		t.Error("an infinite hash rate was published")
	}
	if got, _ := b.Latest(); got.HashRate != fullStatus().HashRate {
		t.Errorf("status became %v", got)
	}
}

func TestHealth(t *testing.T) {
	good := Check{"chain", func(context.Context) error { return nil }}
	bad := Check{"signer", func(context.Context) error { return errors.New("token is missing") }}
	for _, c := range []struct {
		name   string
		checks []Check
		code   int
		want   Health
	}{
		{"no checks", nil, 200, Health{true, true, []CheckResult{}}},
		{"all good", []Check{good}, 200, Health{true, true, []CheckResult{{"chain", true, ""}}}},
		{"one bad", []Check{bad, good}, 503, Health{true, false, []CheckResult{{"signer", false, "token is missing"}, {"chain", true, ""}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := sources()
			src.Checks = c.checks
			w := get(newServer(src), pathHealth, nil)
			var got Health
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != c.code {
				t.Fatalf("%d %s: %v", w.Code, w.Body, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHardware(t *testing.T) {
	src := sources()
	w := get(newServer(src), pathHardware, nil)
	want, err := json.Marshal(src.Hardware())
	if err != nil || w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != string(want) {
		t.Errorf("%d %s, expected %s, %v", w.Code, w.Body, want, err)
	}
}

// TestOpenAPI holds the document against the routes and the real answers
// against the document.
func TestOpenAPI(t *testing.T) {
	src := sources()
	src.Checks = []Check{{"bad", func(context.Context) error { return errors.New("bad") }}}
	s := newServer(src)
	if err := src.Status.Publish(fullStatus()); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Info    struct{ Title, Version string }
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]struct{ Description string }
		}
	}
	w := get(s, "/api/openapi.json", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if doc.OpenAPI != "3.1.0" || doc.Info.Version != "v1" || doc.Info.Title == "" {
		t.Errorf("document says %q, %+v", doc.OpenAPI, doc.Info)
	}
	want := []string{pathHardware, pathHealth, pathStatus, pathStream}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(doc.Paths))); diff != "" {
		t.Error(diff)
	}
	ids := map[string]bool{}
	for path, operations := range doc.Paths {
		op, ok := operations["get"]
		if !ok || len(operations) != 1 || op.OperationID == "" || ids[op.OperationID] || len(op.Responses) == 0 {
			t.Errorf("%s: %+v", path, operations)
		}
		ids[op.OperationID] = true
		for code, r := range op.Responses {
			if r.Description == "" {
				t.Errorf("%s: response %s has no description", path, code)
			}
		}
		if code := get(s, path, nil).Code; code == http.StatusNotFound || code == http.StatusMethodNotAllowed {
			t.Errorf("%s is documented, but answers %d", path, code)
		}
	}
	for _, c := range []struct {
		path string
		typ  reflect.Type
	}{
		{pathStatus, reflect.TypeFor[Status]()},
		{pathHealth, reflect.TypeFor[Health]()},
		{pathHardware, reflect.TypeFor[hw.Inventory]()},
	} {
		checkAgainstSchema(t, s, c.path, c.typ)
	}
	// What there is not yet, or never, is null.
	for name, change := range map[string]func(*Status){
		"no CPU miner":  func(s *Status) { s.CPUMiner = nil },
		"no worker yet": func(s *Status) { s.CPUMiner = &CPUMiner{} },
		"no chain yet":  func(s *Status) { s.Tip, s.Slot, s.LastSlots = nil, nil, nil },
		"all is well":   func(s *Status) { s.Finality.Degraded, s.Alerts = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			st := fullStatus()
			change(&st)
			if err := src.Status.Publish(st); err != nil {
				t.Fatal(err)
			}
			checkAgainstSchema(t, s, pathStatus, reflect.TypeFor[Status]())
		})
	}
}

func checkAgainstSchema(t *testing.T, s *Server, path string, typ reflect.Type) {
	t.Helper()
	var answer any
	if err := json.Unmarshal(get(s, path, nil).Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	registry := s.api.OpenAPI().Components.Schemas
	schema := registry.Schema(typ, true, "")
	if _, ok := registry.Map()[strings.TrimPrefix(schema.Ref, "#/components/schemas/")]; !ok {
		t.Fatalf("%s: %q is not in the document", path, schema.Ref)
	}
	check := func(v any) []error {
		var result huma.ValidateResult
		huma.Validate(registry, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, &result)
		return result.Errors
	}
	if errs := check(answer); len(errs) > 0 {
		t.Errorf("%s does not answer as documented: %v", path, errs)
	}
	answer.(map[string]any)["undocumented"] = 1
	if errs := check(answer); len(errs) == 0 {
		t.Errorf("%s: the schema accepts anything", path)
	}
}

func TestGuard(t *testing.T) {
	src := sources()
	if err := src.Status.Publish(fullStatus()); err != nil {
		t.Fatal(err)
	}
	s := newServer(src)
	for _, c := range []struct {
		name, host, origin string
		code               int
	}{
		{"address", "127.0.0.1:8480", "", 200},
		{"other loopback address", "127.9.9.9:8480", "", 200},
		{"IPv6", "[::1]:8480", "", 200},
		{"IPv6 without port", "[::1]", "", 200},
		{"name", "LocalHost:8480", "", 200},
		{"name without port", "localhost", "", 200},
		{"rebound name", "evil.example:8480", "", 421},
		{"name that looks local", "localhost.evil.example", "", 421},
		{"address in a name", "127.0.0.1.evil.example:8480", "", 421},
		{"outside address", "192.0.2.1:8480", "", 421},
		{"unspecified address", "0.0.0.0:8480", "", 421},
		{"no host", "", "", 421},
		{"own page", "localhost:8480", "http://localhost:8480", 200},
		{"foreign page", "localhost:8480", "https://evil.example", 403},
		{"page of another local port", "localhost:8480", "http://localhost:9999", 403},
		{"sandboxed page", "localhost:8480", "null", 403},
		{"page over TLS", "localhost:8480", "https://localhost:8480", 403},
		{"garbage origin", "localhost:8480", "://", 403},
	} {
		for _, path := range []string{pathStatus, pathStream} {
			w := get(s, path, func(r *http.Request) {
				r.Host = c.host
				if c.origin != "" {
					r.Header.Set("Origin", c.origin)
				}
			})
			want := c.code
			if path == pathStream && want == http.StatusOK {
				want = http.StatusBadRequest // past the guard, but no WebSocket handshake
			}
			if w.Code != want {
				t.Errorf("%s: %s answers %d, expected %d: %s", c.name, path, w.Code, want, w.Body)
			}
		}
	}
}

func TestListen(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:80", "no port"} {
		if l, err := Listen(t.Context(), address); err == nil {
			t.Errorf("%s was opened as %s", address, l.Addr())
		}
	}
	l, err := Listen(t.Context(), "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), l.Addr().String()); err == nil {
		t.Error("a port in use was opened")
	}
	_ = l.Close()
}

func TestRunRefusesOutsideListener(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := newServer(sources()).Run(t.Context(), l); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("Run on %s: %v", l.Addr(), err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the refused listener is still open: %v", err)
	}
}

// TestRun serves over a real socket and ends when told to.
func TestRun(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- newServer(sources()).Run(ctx, l) }()
	r, err := http.Get("http://" + l.Addr().String() + pathHealth)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || !strings.Contains(string(body), `"live":true`) {
		t.Errorf("%d %s %v", r.StatusCode, body, err)
	}
	_ = r.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}
