package server_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/server"
)

// answerTo returns what a client is told of an error.
func answerTo(t *testing.T, err error) (*http.Response, api.Error) {
	t.Helper()
	h := server.New([]server.Route{{Method: "GET", Path: "/", Handle: func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("cannot do it: %w", err)
	}}}, server.Options{})
	resp := ask(h, "GET", "/")
	return resp, fault(t, resp)
}

// sentinels are all errors of the packages below that a caller can act on.
var sentinels = map[string]struct {
	err    error
	status int
}{
	"agent.ErrNotFound":         {agent.ErrNotFound, 404},
	"agent.ErrClosed":           {agent.ErrClosed, 410},
	"agent.ErrUnknownKernel":    {agent.ErrUnknownKernel, 422},
	"agent.ErrTooManyContexts":  {agent.ErrTooManyContexts, 429},
	"agent.ErrDefaultContext":   {agent.ErrDefaultContext, 409},
	"agent.ErrNoRoot":           {agent.ErrNoRoot, 403},
	"agent.ErrNoPackages":       {agent.ErrNoPackages, 422},
	"agent.ErrTooManyInstalls":  {agent.ErrTooManyInstalls, 429},
	"agent.ErrTooManyNotebooks": {agent.ErrTooManyNotebooks, 429},
	"agent.ErrBadNotebook":      {agent.ErrBadNotebook, 422},
	"agent.ErrBadParameter":     {agent.ErrBadParameter, 400},
	"agent.ErrRunning":          {agent.ErrRunning, 409},
	"executor.ErrQueueFull":     {executor.ErrQueueFull, 429},
	"executor.ErrClosed":        {executor.ErrClosed, 410},
	"executor.ErrNotWaiting":    {executor.ErrNotWaiting, 409},
	"executor.ErrFinished":      {executor.ErrFinished, 409},
	"executor.ErrEvicted":       {executor.ErrEvicted, 410},
	"executor.ErrUnsupported":   {executor.ErrUnsupported, 422},
}

func TestEverySentinelHasAStatus(t *testing.T) {
	for _, name := range append(exportedErrors(t, "executor"), exportedErrors(t, "agent")...) {
		if _, ok := sentinels[name]; !ok {
			t.Errorf("%s is not in this test, and perhaps not in the table", name)
		}
	}
	for name, want := range sentinels {
		resp, e := answerTo(t, want.err)
		if resp.StatusCode != want.status || e.Message != "cannot do it: "+want.err.Error() {
			t.Errorf("%s: status %d, %+v", name, resp.StatusCode, e)
		}
		if after := resp.Header.Get("Retry-After"); (after != "") != (want.status == 429) {
			t.Errorf("%s: Retry-After %q", name, after)
		}
	}
}

// exportedErrors lists the variables Err… of a package.
func exportedErrors(t *testing.T, pkg string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no package %s: %v", pkg, err)
	}
	var names []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			for _, spec := range vars.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(id.Name, "Err") {
						names = append(names, pkg+"."+id.Name)
					}
				}
			}
		}
	}
	return names
}

func TestOtherErrors(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   api.Code
	}{
		{context.DeadlineExceeded, 504, api.DeadlineExceeded},
		{context.Canceled, 499, api.ClientClosed},
		{syscall.ENOSPC, 507, api.DiskFull},
		{&wire.Death{Signal: "SIGKILL"}, 503, api.Unavailable},
		{api.Invalid("field", "is wrong"), 400, api.InvalidRequest},
		{server.Explain(api.Unprocessable, errors.New("it does not start")), 422, api.Unprocessable},
		{server.Explain(api.Unprocessable, agent.ErrClosed), 410, api.Gone},
		{errors.New("a secret"), 500, api.Internal},
	} {
		resp, e := answerTo(t, test.err)
		if resp.StatusCode != test.status || e.Code != test.code {
			t.Errorf("%v: status %d, %+v", test.err, resp.StatusCode, e)
		}
	}
}
