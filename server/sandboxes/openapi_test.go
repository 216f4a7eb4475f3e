package sandboxes_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// openAPI is the server's document, as far as it is compared.
type openAPI struct {
	Paths      map[string]map[string]yaml.Node
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Properties map[string]struct {
		Type any
		Ref  string `yaml:"$ref"`
	}
	Required []string
	Enum     []string
}

type operation struct {
	OperationID string `yaml:"operationId"`
	Parameters  []parameter
	RequestBody struct {
		Content map[string]struct {
			Example  any
			Examples map[string]struct{ Value any }
		}
	} `yaml:"requestBody"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema struct {
				Ref string `yaml:"$ref"`
			}
		}
	}
	method, path string
}

type parameter struct {
	Name, In string
	Example  any
}

func document(t *testing.T) (doc openAPI, all []operation) {
	t.Helper()
	if err := yaml.Unmarshal(api.ServerOpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, node := range methods {
			if method == "parameters" {
				continue
			}
			op := operation{method: strings.ToUpper(method), path: path}
			if err := node.Decode(&op); err != nil {
				t.Fatal(err)
			}
			all = append(all, op)
		}
	}
	return doc, all
}

// same compares two sets of words.
func same(t *testing.T, what string, document, code []string) {
	t.Helper()
	slices.Sort(document)
	slices.Sort(code)
	if !slices.Equal(document, code) {
		t.Errorf("%s: the document has %q, the code has %q", what, document, code)
	}
}

func TestDocumentHasTheRoutes(t *testing.T) {
	_, all := document(t)
	var documented, routed []string
	queries := map[string][]string{}
	for _, op := range all {
		name := op.method + " " + op.path
		documented = append(documented, name)
		for _, p := range op.Parameters {
			if p.In == "query" {
				queries[name] = append(queries[name], p.Name)
			}
		}
	}
	for _, route := range sandboxes.Routes() {
		name := route.Method + " " + route.Path
		if route.Method == server.AnyMethod {
			name = "GET " + route.Path // one stands for all
		}
		routed = append(routed, name)
		same(t, "query of "+name, queries[name], slices.Clone(route.Query))
	}
	same(t, "routes", documented, routed)
}

// payloads are the types that go over the wire, by the name of their schema.
var payloads = map[string]any{
	"SandboxRequest": api.SandboxRequest{}, "LimitsRequest": api.LimitsRequest{}, "NetworkRequest": api.NetworkRequest{}, "TimeoutRequest": api.TimeoutRequest{},
	"Sandbox": api.Sandbox{}, "SandboxLimits": api.SandboxLimits{}, "SandboxNetwork": api.SandboxNetwork{}, "SandboxIsolation": api.SandboxIsolation{},
	"Usage": api.Usage{}, "UsageHistory": api.UsageHistory{}, "Sandboxes": api.Sandboxes{}, "Template": api.Template{}, "Templates": api.Templates{}, "ServerCapabilities": api.ServerCapabilities{},
	"PreviewRequest": api.PreviewRequest{}, "Preview": api.Preview{},
	"Capability": api.Capability{}, "ServerLimits": api.ServerLimits{}, "Health": api.Health{}, "ErrorBody": api.ErrorBody{}, "Error": api.Error{},
}

func TestDocumentHasThePayloads(t *testing.T) {
	doc, _ := document(t)
	for name, payload := range payloads {
		var fields, required []string
		for f := range reflect.TypeOf(payload).Fields() {
			field, omit, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, field)
			if strings.HasSuffix(name, "Request") && f.Tag.Get("api") == "required" || !strings.HasSuffix(name, "Request") && omit == "" {
				required = append(required, field)
			}
			if typ := fmt.Sprint(doc.Components.Schemas[name].Properties[field].Type); typ != "<nil>" && !strings.Contains(typ, jsonType(f.Type)) {
				t.Errorf("%s.%s: the document has %v, the code has %s", name, field, typ, f.Type)
			}
		}
		same(t, name, slices.Collect(maps.Keys(doc.Components.Schemas[name].Properties)), fields)
		same(t, name+" required", doc.Components.Schemas[name].Required, required)
	}
}

// jsonType names how a type looks in JSON.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonType(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array"
	}
	if t.String() == "time.Time" {
		return "string"
	}
	return "object"
}

func TestDocumentHasTheConstants(t *testing.T) {
	doc, _ := document(t)
	var states, reasons, codes []string
	for _, s := range fleet.States {
		states = append(states, string(s))
	}
	for _, r := range fleet.Reasons {
		reasons = append(reasons, string(r))
	}
	for code := range server.Statuses {
		codes = append(codes, string(code))
	}
	ofAPI := []string{string(api.SandboxCreating), string(api.SandboxRunning), string(api.SandboxPaused), string(api.SandboxEnding), string(api.SandboxEnded)}
	same(t, "states", doc.Components.Schemas["SandboxState"].Enum, states)
	same(t, "states of package api", ofAPI, states)
	same(t, "reasons", doc.Components.Schemas["EndReason"].Enum, reasons)
	var inError struct {
		Components struct {
			Schemas struct {
				Error struct {
					Properties struct{ Code struct{ Enum []string } }
				} `yaml:"Error"`
			}
		}
	}
	if err := yaml.Unmarshal(api.ServerOpenAPI, &inError); err != nil {
		t.Fatal(err)
	}
	same(t, "codes", inError.Components.Schemas.Error.Properties.Code.Enum, codes)
}

// TestExamples sends every example of the document, and reads the answers by its schemas.
func TestExamples(t *testing.T) {
	_, all := document(t)
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	for _, op := range all {
		for i, body := range op.examples(t) {
			t.Run(op.OperationID+strconv.Itoa(i), func(t *testing.T) {
				path := strings.NewReplacer("{id}", s.create(t), "{path}", "capabilities").Replace(op.path)
				query := url.Values{}
				for _, p := range op.Parameters {
					if p.In == "query" {
						query.Set(strings.Replace(p.Name, "*", "user", 1), fmt.Sprint(p.Example))
					}
				}
				if len(query) > 0 {
					path += "?" + query.Encode()
				}
				resp := s.call(t, op.method, path, body)
				answer, known := op.Responses[strconv.Itoa(resp.StatusCode)]
				if !known || resp.StatusCode >= 400 {
					t.Fatalf("status %d: %s", resp.StatusCode, servertest.Read(t, resp))
				}
				typ, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
				content, known := answer.Content[typ]
				if _, any := answer.Content["*/*"]; !known && !any && typ != "" {
					t.Errorf("Content-Type %q", typ)
				}
				if name, ok := strings.CutPrefix(content.Schema.Ref, "#/components/schemas/"); ok {
					conforms(t, servertest.Read(t, resp), name)
				}
			})
		}
	}
}

// conforms checks that a text has what the payload of this name has, and no more.
func conforms(t *testing.T, text, name string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(reflect.New(reflect.TypeOf(payloads[name])).Interface()); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	if strings.Contains(strings.ReplaceAll(text, `"expires_at":null`, ""), "null") {
		t.Errorf("null where there should be a value: %s", text)
	}
}

// examples returns the bodies that the document gives for the operation, as JSON;
// one that is empty where it has none.
func (op operation) examples(t *testing.T) []string {
	t.Helper()
	var values []any
	for _, content := range op.RequestBody.Content {
		for _, name := range slices.Sorted(maps.Keys(content.Examples)) {
			values = append(values, content.Examples[name].Value)
		}
		if content.Example != nil {
			values = append(values, content.Example)
		}
	}
	all := []string{}
	for _, value := range values {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(raw))
	}
	if len(all) == 0 {
		return []string{""}
	}
	return all
}
