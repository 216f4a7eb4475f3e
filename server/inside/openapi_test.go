package inside_test

import (
	"crypto/rand"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/packages"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// same compares two sets of words both ways.
func same(t *testing.T, what string, document, code []string) {
	t.Helper()
	for _, word := range document {
		if !slices.Contains(code, word) {
			t.Errorf("%s: the document has %q, the code has not", what, word)
		}
	}
	for _, word := range code {
		if !slices.Contains(document, word) {
			t.Errorf("%s: the code has %q, the document has not", what, word)
		}
	}
}

func TestDocumentHasTheRoutes(t *testing.T) {
	doc := document(t)
	var documented, routed []string
	queries := map[string][]string{}
	for _, op := range operations(t, doc) {
		documented = append(documented, op.method+" "+op.path)
		for _, p := range parameters(doc, op) {
			if p["in"] == "query" {
				queries[op.method+" "+op.path] = append(queries[op.method+" "+op.path], p["name"].(string))
			}
		}
	}
	for _, route := range inside.Routes() {
		if route.Method == server.AnyMethod {
			routed = append(routed, anyOf(documented, route.Path)...)
			continue
		}
		routed = append(routed, route.Method+" "+route.Path)
		same(t, "query of "+route.Path, queries[route.Method+" "+route.Path], route.Query)
	}
	same(t, "routes", documented, routed)
}

// anyOf returns the operations of a path that takes any method.
func anyOf(documented []string, path string) []string {
	all := slices.DeleteFunc(slices.Clone(documented), func(op string) bool { return !strings.HasSuffix(op, " "+path) })
	return append(all, "GET "+path) // at least
}

// parameters returns the parameters of an operation, with those of its path.
func parameters(doc node, op operation) []node {
	ofPath, _ := toNode(doc.at(doc, "paths")[op.path])["parameters"].([]any)
	own, _ := op.node["parameters"].([]any)
	var all []node
	for _, p := range slices.Concat(ofPath, own) {
		all = append(all, deref(doc, toNode(p)))
	}
	return all
}

// payloads are the types that go over the wire, by the name of their schema.
var payloads = map[string]any{
	"RunRequest":        api.RunRequest{},
	"Execution":         api.Execution{},
	"Executions":        api.Executions{},
	"InputRequest":      api.InputRequest{},
	"ContextRequest":    api.ContextRequest{},
	"Context":           api.Context{},
	"Contexts":          api.Contexts{},
	"CompleteRequest":   api.CompleteRequest{},
	"Completion":        executor.Completion{},
	"InspectRequest":    api.InspectRequest{},
	"Inspection":        executor.Inspection{},
	"Variables":         executor.Variables{},
	"Variable":          executor.Variable{},
	"History":           api.History{},
	"HistoryEntry":      api.HistoryEntry{},
	"Health":            api.Health{},
	"Activity":          api.Activity{},
	"Entry":             files.Entry{},
	"FileList":          api.FileList{},
	"MoveRequest":       api.MoveRequest{},
	"MkdirRequest":      api.MkdirRequest{},
	"Extracted":         files.Extracted{},
	"Distribution":      packages.Distribution{},
	"Packages":          api.Packages{},
	"PackagesRequest":   api.PackagesRequest{},
	"Install":           api.Install{},
	"InstallStart":      api.InstallStart{},
	"InstallOutput":     api.InstallOutput{},
	"InstallEnd":        api.InstallEnd{},
	"Capabilities":      api.Capabilities{},
	"Capability":        api.Capability{},
	"KernelCapability":  api.KernelCapability{},
	"PackageCapability": api.PackageCapability{},
	"PortCapability":    api.PortCapability{},
	"Isolation":         api.Isolation{},
	"Limits":            api.Limits{},
	"NotebookRequest":   api.NotebookRequest{},
	"Notebook":          api.Notebook{},
	"Notebooks":         api.Notebooks{},
	"NotebookEnd":       api.NotebookEnd{},
	"ProcessRequest":    api.ProcessRequest{},
	"Pty":               api.Pty{},
	"Process":           api.Process{},
	"Processes":         api.Processes{},
	"SignalRequest":     api.SignalRequest{},
	"ResizeRequest":     api.ResizeRequest{},
	"Exit":              executor.Exit{},
	"TimelineEvent":     api.TimelineEvent{},
	"StreamHello":       api.StreamHello{},
	"Metrics":           api.Metrics{},
	"Error":             api.Error{},
	"ErrorBody":         api.ErrorBody{},
}

func TestDocumentHasThePayloads(t *testing.T) {
	doc := document(t)
	for name, payload := range payloads {
		schema := doc.at(doc, "components", "schemas", name)
		if schema == nil {
			t.Errorf("no schema %s", name)
			continue
		}
		properties := schema.at(doc, "properties")
		var fields, required []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(payload)) {
			if !f.IsExported() || f.Anonymous {
				continue
			}
			field, omit, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, field)
			if strings.HasSuffix(name, "Request") && f.Tag.Get("api") == "required" || !strings.HasSuffix(name, "Request") && omit == "" {
				required = append(required, field)
			}
			if types := texts(properties.at(doc, field)["type"]); len(types) > 0 && !slices.Contains(types, jsonType(f.Type)) {
				t.Errorf("%s.%s: the document has %v, the code has %s", name, field, types, f.Type)
			}
		}
		same(t, name, slices.Collect(maps.Keys(properties)), fields)
		same(t, name+" required", texts(schema["required"]), required)
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
		if t.Name() == "RawMessage" {
			return "object"
		}
		if t.Elem().Kind() == reflect.Uint8 {
			return "string" // in base64
		}
		return "array"
	}
	if name := t.String(); name == "time.Time" || name == "journal.Time" {
		return "string"
	}
	return "object"
}

func TestDocumentHasTheEvents(t *testing.T) {
	doc := document(t)
	event := doc.at(doc, "components", "schemas", "Event")
	mapping := event.at(doc, "discriminator", "mapping")
	types := slices.DeleteFunc(slices.Concat(constants(t, "journal", "Type"), constants(t, "executor", "Type"), constants(t, "api", "Type")), func(s string) bool { return s == "" })
	same(t, "types of events", slices.Collect(maps.Keys(mapping)), types)

	var documented, fields []string
	for typ, ref := range mapping {
		schema := deref(doc, node{"$ref": ref})
		if schema.at(doc, "properties", "type")["const"] != typ {
			t.Errorf("the schema of %s is for another type", typ)
		}
		if !slices.ContainsFunc(event["oneOf"].([]any), func(one any) bool { return toNode(one)["$ref"] == ref }) {
			t.Errorf("%s is not in the oneOf", typ)
		}
		documented = slices.AppendSeq(documented, maps.Keys(schema.at(doc, "properties")))
	}
	for _, line := range []any{executor.Event{}, api.StreamEnd{}} {
		for f := range reflect.TypeOf(line).Fields() {
			if field, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() {
				fields = append(fields, field)
			}
		}
	}
	same(t, "fields of events", documented, fields)
}

func TestDocumentHasTheConstants(t *testing.T) {
	doc := document(t)
	enum := func(keys ...string) []string {
		return texts(doc.at(doc, append([]string{"components", "schemas"}, keys...)...)["enum"])
	}
	same(t, "statuses", enum("Status"), slices.Concat(constants(t, "executor", "Status"), constants(t, "api", "Status")))
	same(t, "states", enum("State"), constants(t, "executor", "State"))
	same(t, "on_disconnect", slices.DeleteFunc(enum("RunRequest", "properties", "on_disconnect"), func(s string) bool { return s == "" || s == "<nil>" }), constants(t, "api", "OnDisconnect"))
	same(t, "types of the timeline", enum("TimelineEvent", "properties", "type"),
		append(constants(t, "api", "TimelineType"), string(executor.Truncated), string(executor.End), string(api.Ping)))
	same(t, "kinds of clients", enum("TimelineEvent", "properties", "client"), constants(t, "api", "ClientKind"))
	same(t, "sources", enum("Source"), constants(t, "api", "Source"))
	codes := constants(t, "api", "Code")
	same(t, "codes", enum("Error", "properties", "code"), codes)
	var known []string
	for code := range server.Statuses {
		known = append(known, string(code))
	}
	same(t, "statuses of codes", known, codes)
}

// constants returns the string constants of a type that a package of this module
// declares, its own or another package's.
func constants(t *testing.T, pkg, typ string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no package %s: %v", pkg, err)
	}
	var all []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && typeName(spec.Type) == typ && len(spec.Values) == 1 {
				if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
					value, _ := strconv.Unquote(literal.Value)
					all = append(all, value)
				}
			}
			return true
		})
	}
	return all
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// TestExamples sends every example of the document, and checks the answers by its schemas.
func TestExamples(t *testing.T) {
	doc := document(t)
	lines := read(t, call(t, "POST", "/v1/code", api.RunRequest{Code: everyEvent}))
	for line := range strings.Lines(lines) {
		if err := check(doc, doc.at(doc, "components", "schemas", "Event"), line); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	for _, typ := range []string{"start", "stdout", "stderr", "result", "update", "clear", "error", "end"} {
		if !strings.Contains(lines, `"type":"`+typ+`"`) {
			t.Errorf("no %s in %s", typ, lines)
		}
	}
	for _, op := range operations(t, doc) {
		for _, body := range op.examples(t, doc) {
			t.Run(op.id, func(t *testing.T) { example(t, doc, op, body) })
		}
	}
}

func example(t *testing.T, doc node, op operation, body string) {
	exampleFiles(t, op)
	run, finish := exampleRun(t, op.id)
	defer finish()
	path := strings.NewReplacer("{eid}", run, "{cid}", exampleContext(t, op.id), "{pid}", exampleProcess(t, op), "{iid}", exampleInstall(t, op.id), "{nid}", exampleNotebook(t, op.id), "{port}", examplePort(t, op.id), "{path}", "index.html").Replace(op.path)
	query, headers := url.Values{}, []string{}
	for _, p := range parameters(doc, op) {
		value := texts(p["example"])
		switch v := p["example"].(type) {
		case int, bool:
			value = []string{fmt.Sprint(v)}
		}
		if len(value) != 1 {
			t.Fatalf("parameter %s has no example", p["name"])
		}
		switch p["in"] {
		case "query":
			query.Set(p["name"].(string), value[0])
		case "header":
			if p["name"] == "Idempotency-Key" {
				value[0] += rand.Text() // the examples are different requests
			}
			headers = append(headers, p["name"].(string), value[0])
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp := call(t, op.method, path, body, headers...)
	answer := op.at(doc, "responses", strconv.Itoa(resp.StatusCode))
	if answer == nil || resp.StatusCode >= 400 {
		t.Fatalf("status %d: %s", resp.StatusCode, read(t, resp))
	}
	for name := range answer.at(doc, "headers") {
		if resp.Header.Get(name) == "" && name != "X-Output-Truncated" {
			t.Errorf("no header %s", name)
		}
	}
	switch op.id {
	case "followContext", "followTimeline", "stream", "watchFiles", "attachProcess":
		return // it has no end before the sandbox has
	case "createContext":
		made, err := resp.Location()
		if err != nil {
			t.Fatal(err)
		}
		defer call(t, "DELETE", made.Path, nil)
	}
	text, content := read(t, resp), answer.at(doc, "content")
	if len(content) == 0 {
		if text != "" {
			t.Errorf("got %q", text)
		}
		return
	}
	typ, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	schema := content.at(doc, typ, "schema")
	if schema == nil && content.at(doc, "*/*") == nil {
		t.Fatalf("Content-Type %q", typ)
	}
	switch typ {
	case "application/json":
		if err := check(doc, schema, text); err != nil {
			t.Errorf("%v: %s", err, text)
		}
	case "application/x-ndjson":
		for line := range strings.Lines(text) {
			if err := check(doc, schema, line); err != nil {
				t.Errorf("%v: %s", err, line)
			}
		}
	}
}

// exampleFiles makes the files that the examples of files are about.
func exampleFiles(t *testing.T, op operation) {
	t.Helper()
	if !strings.HasPrefix(op.path, "/v1/files") {
		return
	}
	const dir = "/tmp/k2-example"
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.MkdirAll(dir+"/data", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/notes.txt", []byte("Hello, world\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// exampleRun makes the run that an operation's example is about, and returns what to do in the end.
func exampleRun(t *testing.T, operationID string) (string, func()) {
	t.Helper()
	switch operationID {
	case "interruptExecution":
		s := runs(t, api.RunRequest{Code: "import time; time.sleep(60)"})
		s.until(t, executor.Start)
		return s.id, func() { s.end(t, executor.Interrupted) }
	case "answerInput":
		s := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
		s.until(t, executor.Input)
		return s.id, func() { s.end(t, executor.OK) }
	}
	done := get[api.Executions](t, call(t, "GET", "/v1/executions?state=done&limit=1", nil), 200)
	return done.Executions[0].ExecutionID, func() {}
}

// everyEvent makes an event of nearly every type.
const everyEvent = `
import sys
from IPython.display import display, clear_output
print("out"); print("err", file=sys.stderr)
handle = display({"a": 1}, display_id=True)
handle.update(2)
clear_output(wait=True)
1 / 0
`

// exampleContext makes the context that an operation's example is about.
func exampleContext(t *testing.T, operationID string) string {
	t.Helper()
	if operationID != "deleteContext" {
		return agent.DefaultContext
	}
	info := get[agent.ContextInfo](t, call(t, "POST", "/v1/contexts", nil), http.StatusCreated)
	return info.ContextID
}
