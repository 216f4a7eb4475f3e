package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/k2sandbox/k2sandbox/server"
)

// TestRoutesOfAllSectionsAreFound has paths whose first segments are parameters beside others.
func TestRoutesOfAllSectionsAreFound(t *testing.T) {
	var routes []server.Route
	for _, path := range []string{"/health", "/v1/code", "/v1/runs/{id}", "/v1/runs/{id}/events", "/v1/{what}", "/things/{id}", "/things/{id}/parts/{part}", "/{any}", "/v1/contents/{path:.*}/checkpoints", "/v1/contents/{path:.*}", "/files/{path:.+}"} {
		routes = append(routes, server.Route{Method: "GET", Path: path, Handle: func(w http.ResponseWriter, r *http.Request) error {
			fmt.Fprint(w, path, " ", server.Param(r, "id"))
			return nil
		}})
	}
	routes = append(routes, server.Route{Method: server.AnyMethod, Path: "/v1/ports/{port}/{rest}", Handle: func(w http.ResponseWriter, r *http.Request) error {
		fmt.Fprint(w, "port ", server.Param(r, "port"))
		return nil
	}})
	h := server.New(routes, server.Options{})
	for path, want := range map[string]string{
		"/health": "/health ", "/v1/code": "/v1/code ", "/v1/runs/a": "/v1/runs/{id} a", "/v1/runs/b/events": "/v1/runs/{id}/events b",
		"/v1/other": "/v1/{what} ", "/v1/runs": "/v1/{what} ", "/things/c": "/things/{id} c", "/things/d/parts/1": "/things/{id}/parts/{part} d",
		"/else": "/{any} ", "/v1/ports/80/": "port 80", "/v1/ports/80/x/y": "port 80",
		"/v1/contents/a/b/c": "/v1/contents/{path:.*} ", "/v1/contents/": "/v1/contents/{path:.*} ", "/v1/contents/a/b/checkpoints": "/v1/contents/{path:.*}/checkpoints ", "/files/a/b": "/files/{path:.+} ",
		"/v1/code/": "", "/v1/runs/b/c": "", "//v1/code": "", "/": "", "/v1/": "", "/v1/code/x": "", "/things/d/parts": "",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+path, nil))
		switch {
		case want == "" && w.Code != http.StatusNotFound:
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		case want != "" && w.Body.String() != want:
			t.Errorf("%s: %d %q, not %q", path, w.Code, w.Body, want)
		}
	}
}
