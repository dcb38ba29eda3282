package firmwareapi

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"qcitycoin.org/qcity/hw"
)

const (
	pathHealth   = "/api/v1/health"
	pathStatus   = "/api/v1/status"
	pathStream   = "/api/v1/status/stream"
	pathHardware = "/api/v1/hardware"

	// checkTimeout bounds all health checks of one request.
	checkTimeout = 5 * time.Second
)

// Health is the answer to a health request.
type Health struct {
	Live   bool          `json:"live" doc:"Always true: the program answered"`
	OK     bool          `json:"ok" doc:"Every check passed"`
	Checks []CheckResult `json:"checks" nullable:"false"`
}

// CheckResult is the outcome of one Check.
type CheckResult struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty" doc:"What is wrong; absent when nothing is"`
}

type healthOutput struct {
	Status int
	Body   Health
}

type statusOutput struct{ Body Status }

type hardwareOutput struct{ Body hw.Inventory }

// routes registers every operation, and thereby documents it.
func (s *Server) routes(mux *http.ServeMux) huma.API {
	cfg := huma.DefaultConfig("Qcity firmware API", s.cfg.Version)
	cfg.OpenAPIPath = "/api/openapi"
	cfg.DocsPath = ""     // the page would load scripts from elsewhere
	cfg.SchemasPath = ""  // the document has them all
	cfg.CreateHooks = nil // no $schema field in answers
	describeReadings(cfg.Components.Schemas)
	api := humago.New(mux, cfg)

	huma.Register(api, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: pathHealth,
		Summary:     "Is the program alive, and is every part of it well",
		Description: "Status 200 when every check passes, otherwise 503 with the same body.",
		Responses: map[string]*huma.Response{"503": {
			Description: "At least one check failed",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schemaOf[Health](cfg.Components.Schemas)}},
		}},
	}, s.health)
	huma.Register(api, huma.Operation{
		OperationID: "get-status", Method: http.MethodGet, Path: pathStatus,
		Summary: "The live status", Errors: []int{http.StatusServiceUnavailable},
	}, s.status)
	huma.Register(api, huma.Operation{
		OperationID: "get-hardware", Method: http.MethodGet, Path: pathHardware,
		Summary:     "What machine this is",
		Description: "A reading that the machine does not give is null.",
	}, s.hardware)

	api.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "stream-status", Method: http.MethodGet, Path: pathStream,
		Summary: "The live status, pushed over a WebSocket",
		Description: "The server sends the status as one JSON text message on connecting and after each change, " +
			"a few times a second at most; states in between are skipped. It expects nothing but answers to its pings.",
		Responses: map[string]*huma.Response{
			"101": {Description: "Switched to the WebSocket protocol; each message is a Status"},
			"503": {Description: "Too many streams are open"},
		},
	})
	mux.HandleFunc("GET "+pathStream, s.stream)
	return api
}

func schemaOf[T any](registry huma.Registry) *huma.Schema {
	return registry.Schema(reflect.TypeFor[T](), true, "")
}

// describeReadings documents an hw.Reading as what it is in JSON: its value,
// or null.
func describeReadings(registry huma.Registry) {
	describeReading[string](registry)
	describeReading[bool](registry)
	describeReading[int](registry)
	describeReading[int64](registry)
	describeReading[float64](registry)
	registry.RegisterTypeAlias(reflect.TypeFor[hw.Reading[[]int]](), reflect.TypeFor[[]int]())
}

func describeReading[T any](registry huma.Registry) {
	registry.RegisterTypeAlias(reflect.TypeFor[hw.Reading[T]](), reflect.TypeFor[*T]())
}

func (s *Server) health(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	out := &healthOutput{http.StatusOK, Health{Live: true, OK: true, Checks: []CheckResult{}}}
	for _, c := range s.sources.Checks {
		result := CheckResult{Name: c.Name, OK: true}
		if err := c.Check(ctx); err != nil {
			result = CheckResult{Name: c.Name, Error: err.Error()}
			out.Status, out.Body.OK = http.StatusServiceUnavailable, false
		}
		out.Body.Checks = append(out.Body.Checks, result)
	}
	return out, nil
}

func (s *Server) status(context.Context, *struct{}) (*statusOutput, error) {
	status, _ := s.sources.Status.Latest()
	if status == nil {
		return nil, huma.Error503ServiceUnavailable("the program is still starting: there is no status yet")
	}
	return &statusOutput{*status}, nil
}

func (s *Server) hardware(context.Context, *struct{}) (*hardwareOutput, error) {
	return &hardwareOutput{s.sources.Hardware()}, nil
}
