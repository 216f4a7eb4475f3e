package k2sandbox_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/k2sandbox/k2sandbox"

// allowed is the import table: what each package may import beside the standard
// library. Imports go one way, down this list's right-hand sides. Tests may import more.
var allowed = map[string][]string{
	"trace":                   {},
	"trace/otlp":              {"trace", otel},
	"internal/otlptest":       {otelproto, protobuf},
	"mime":                    {},
	"internal/leaktest":       {},
	"internal/lazy":           {},
	"internal/imagetest":      {containers},
	"internal/servertest":     {"fleet"},
	"internal/netraw":         {},
	"kernel/wire":             {gjson, uuid},
	"kernel/python":           {"internal/lazy", xsys},
	"process":                 {"journal", gjson, pty, xsys},
	"kernel/kerneltest":       {"kernel", "kernel/python", "process", xsys},
	"kernel":                  {"internal/lazy", "internal/netraw", "kernel/wire", "process", "kernel/python", zmq4, uuid},
	"journal":                 {gjson},
	"files":                   {"internal/lazy", "journal", xsys},
	"packages":                {"internal/lazy", "process"},
	"executor":                {"kernel/wire", "mime", "journal", gjson},
	"notebook":                {"internal/lazy", "executor", "mime", "journal", gjson, uuid},
	"fixtures":                {"kernel/wire", "executor", gjson},
	"agent":                   {"internal/lazy", "api", "kernel", "kernel/wire", "executor", "process", "packages", "files", "journal", "notebook"},
	"api":                     {"internal/lazy", "executor", "files", "process", "packages", "journal", "notebook"},
	"client":                  {"api", "executor", "journal", "process", "packages", "files", websocket},
	"server":                  {"internal/lazy", "api", "agent", "executor", "files", "fleet", "journal", "kernel/wire", mux, "process", "trace"},
	"server/sandboxes":        {"api", "fleet", "server", "trace"},
	"server/jupyter":          {"internal/lazy", "api", "agent", "fleet", "kernel", "server", "server/sandboxes"},
	"server/e2b":              {"internal/lazy", "api", "fleet", "server", "server/sandboxes"},
	"server/e2b/envd":         {"api", "agent", "files", "server", "process", "journal", gjson, xsys},
	"server/e2b/interpreter":  {"api", "agent", "executor", "process", "mime", "server", gjson},
	"server/jupyter/inside":   {"internal/lazy", "api", "agent", "files", "kernel", "notebook", "process", "server", "server/inside", "server/jupyter/channels", websocket},
	"server/jupyter/channels": {"api", "agent", "executor", "kernel", "kernel/wire", "server", gjson, websocket},
	"server/console":          {"api", "server", xtime},
	"server/previews":         {"api", "fleet", "server", "server/e2b", "server/sandboxes"},
	"server/mcp":              {"internal/lazy", "api", "fleet", "server", "server/sandboxes", gosdk},
	"server/mcp/inside":       {"internal/lazy", "api", "agent", "executor", "files", "process", "mime", "journal", "server", gjson, xnet, ximage},
	"server/inside":           {"internal/lazy", "api", "agent", "executor", "files", "server", "process", "journal", websocket},
	"fleet/local":             {"fleet", "fleet/local/cage", "fleet/local/cgroup", "fleet/local/network", "fleet/template", "kernel/python", "sudo", "trace", xsys},
	"fleet/template":          {"internal/lazy", containers, compress, xsys},
	"sudo":                    {"process", xsys},
	"internal/bench":          {"api", "client", "executor"},
	"fleet":                   {"api", "internal/netraw", "trace", bbolt, xtime},
	"fleet/local/cage":        {xsys, xnet},
	"fleet/local/cgroup":      {xsys},
	"fleet/local/network":     {"api", gvisor, xsys, xnet},
	"cmd/k2sandbox":           {"internal/lazy", "api", "internal/bench", "fleet", "fleet/local", "fleet/local/network", "fleet/template", "internal/netraw", "server/sandboxes", "agent", "client", "executor", "journal", "kernel", "kernel/python", "kernel/wire", "mime", "packages", "process", "notebook", "server", "server/inside", "sudo", "server/mcp", "server/mcp/inside", "server/console", "server/e2b", "server/e2b/envd", "server/e2b/interpreter", "server/jupyter", "server/jupyter/inside", "trace", "trace/otlp", "server/previews", cobra, pflag, progressbar, xsys, xterm, yaml},
}

const (
	gjson       = "github.com/tidwall/gjson"
	uuid        = "github.com/google/uuid"
	mux         = "github.com/gorilla/mux"
	zmq4        = "github.com/go-zeromq/zmq4"
	cobra       = "github.com/spf13/cobra"
	progressbar = "github.com/schollz/progressbar/v3"
	pflag       = "github.com/spf13/pflag"
	yaml        = "go.yaml.in/yaml/v3"
	xsys        = "golang.org/x/sys"
	pty         = "github.com/creack/pty"
	xterm       = "golang.org/x/term"
	xnet        = "golang.org/x/net"
	ximage      = "golang.org/x/image"
	bbolt       = "go.etcd.io/bbolt"
	gvisor      = "gvisor.dev/gvisor"
	xtime       = "golang.org/x/time"
	websocket   = "github.com/coder/websocket"
	gosdk       = "github.com/modelcontextprotocol/go-sdk"
	containers  = "github.com/google/go-containerregistry"
	compress    = "github.com/klauspost/compress"
	otel        = "go.opentelemetry.io/otel"
	otelproto   = "go.opentelemetry.io/proto/otlp"
	protobuf    = "google.golang.org/protobuf"
)

func TestImportsGoOneWay(t *testing.T) {
	imported := map[string][]string{} // by folder
	for _, f := range sources(t) {
		imported[f.dir] = slices.AppendSeq(imported[f.dir], maps.Values(f.imports))
		row, ok := allowed[f.dir]
		if !ok && f.library() {
			t.Errorf("%s: package %q has no row in the import table", f.name, f.dir)
		}
		if !ok {
			continue
		}
		for _, imp := range f.imports {
			if !standard(imp) && !allows(row, imp) {
				t.Errorf("%s imports %s, which the table does not allow", f.name, imp)
			}
		}
	}
	for dir, row := range allowed {
		for _, entry := range row {
			if !slices.ContainsFunc(imported[dir], func(imp string) bool { return allows([]string{entry}, imp) }) {
				t.Errorf("%q does not import %q, which the table allows", dir, entry)
			}
		}
		if _, ok := imported[dir]; !ok {
			t.Errorf("the import table has a row for %q, where there is no package", dir)
		}
	}
}

// What is compiled when it is first used would else fail only then.
func TestLazyExpressionsCompile(t *testing.T) {
	found := 0
	for _, f := range sources(t) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			if fun, ok := call.Fun.(*ast.SelectorExpr); !ok || fun.Sel.Name != "Regexp" || !isIdent(fun.X, "lazy") {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok { // those that are put together have tests of their own
				expr, _ := strconv.Unquote(lit.Value)
				if _, err := regexp.Compile(expr); err != nil {
					t.Errorf("%s: %v", f.name, err)
				}
				found++
			}
			return true
		})
	}
	if found < 40 {
		t.Errorf("only %d expressions were found", found)
	}
}

func isIdent(x ast.Expr, name string) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == name
}

func TestOneFileImportsZeroMQ(t *testing.T) {
	var found []string
	for _, f := range sources(t) {
		for _, imp := range f.imports {
			if of(zmq4, imp) {
				found = append(found, f.name)
				break
			}
		}
	}
	if len(found) != 1 {
		t.Errorf("%v import %s: exactly one file may", found, zmq4)
	}
}

// Flags, environment variables and the set-up of the log live in cmd alone. What a
// library passes on to a child is no setting of its own: os.Environ, and in
// kernel/python a look at what the user has set for uv. Packages for tests stand in for cmd.
func TestSettingsOfTheProcessLiveInCmd(t *testing.T) {
	forbidden := []string{
		"os.Getenv", "os.LookupEnv", "os.ExpandEnv", "os.Setenv", "os.Args", "os.Exit",
		"log/slog.SetDefault", "log/slog.NewTextHandler", "log/slog.NewJSONHandler",
		"log.Print", "log.Printf", "log.Println", "log.Fatal", "log.Fatalf",
	}
	for _, f := range sources(t) {
		if !f.library() || strings.HasSuffix(f.dir, "test") {
			continue
		}
		if f.imports["flag"] != "" {
			t.Errorf("%s imports flag", f.name)
		}
		for _, use := range f.uses(f.syntax) {
			if slices.Contains(forbidden, use) && !(f.dir == "kernel/python" && use == "os.LookupEnv") {
				t.Errorf("%s uses %s", f.name, use)
			}
		}
	}
}

// What a library package exports mentions no type of somebody else's module, with
// one exception: wire.Message.Get answers with a gjson.Result, a view of its bytes.
func TestNoForeignTypeIsExported(t *testing.T) {
	for _, f := range sources(t) {
		if !f.library() {
			continue
		}
		for _, part := range exported(f.syntax) {
			for _, use := range f.uses(part) {
				if !standard(use) && !strings.HasPrefix(use, module) && use != gjson+".Result" {
					t.Errorf("%s exports %s", f.name, use)
				}
			}
		}
	}
}

// allows reports whether a row of the table has the import: a package of ours by
// its folder, one of another module by that module.
func allows(row []string, imp string) bool {
	own, ours := strings.CutPrefix(imp, module+"/")
	return slices.ContainsFunc(row, func(entry string) bool {
		return ours && entry == own || !ours && of(entry, imp)
	})
}

func of(parent, imp string) bool { return imp == parent || strings.HasPrefix(imp, parent+"/") }

// file is a Go file of the module that is not a test.
type file struct {
	name, dir string // with slashes
	syntax    *ast.File
	imports   map[string]string // local name → import path
}

// library reports whether others can embed the file's package: it is no program.
func (f file) library() bool {
	top, _, _ := strings.Cut(f.dir, "/")
	return f.syntax.Name.Name != "main" && top != "cmd"
}

// uses lists what the syntax below n takes from other packages, as "path.Name".
func (f file) uses(n ast.Node) []string {
	var found []string
	ast.Inspect(n, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); ok && f.imports[pkg.Name] != "" {
			found = append(found, f.imports[pkg.Name]+"."+sel.Sel.Name)
		}
		return true
	})
	return found
}

// exported lists the signatures and types that a file offers to other packages.
func exported(syntax *ast.File) []ast.Node {
	var found []ast.Node
	for _, decl := range syntax.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
				found = append(found, d.Type)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				found = append(found, exportedSpec(spec)...)
			}
		}
	}
	return found
}

func exportedSpec(spec ast.Spec) []ast.Node {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		if s.Type != nil && s.Names[0].IsExported() {
			return []ast.Node{s.Type}
		}
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return nil
		}
		fields, ok := s.Type.(*ast.StructType)
		if !ok {
			return []ast.Node{s.Type}
		}
		var found []ast.Node
		for _, field := range fields.Fields.List {
			if len(field.Names) == 0 || field.Names[0].IsExported() {
				found = append(found, field.Type)
			}
		}
		return found
	}
	return nil
}

func receiver(d *ast.FuncDecl) string {
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	return typ.(*ast.Ident).Name
}

func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".") || first == imp // "os.Getenv" is a use, "github.com/…" a path
}

func sources(t *testing.T) []file {
	t.Helper()
	var found []file
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		slash := filepath.ToSlash(name)
		found = append(found, file{slash, path.Dir(slash), syntax, importsOf(syntax)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("found no Go files")
	}
	return found
}

func importsOf(syntax *ast.File) map[string]string {
	found := map[string]string{}
	for _, spec := range syntax.Imports {
		full, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(full)
		if version.MatchString(name) {
			name = path.Base(path.Dir(full))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		found[name] = full
	}
	return found
}

var version = regexp.MustCompile(`^v[0-9]+$`)
