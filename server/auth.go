package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
)

// Caller is who sent a request.
type Caller struct {
	Key     string // name of the API key; "" where none is needed, or where a sandbox's token was given
	Sandbox string // the only sandbox that it may use; "" is all

	ReadOnly bool // it may look, and change nothing
}

type callerKey struct{}

// CallerOf returns who sent the request. The zero value may do everything: the
// server takes requests without a key.
func CallerOf(r *http.Request) Caller {
	c, _ := r.Context().Value(callerKey{}).(Caller)
	return c
}

// WithCaller returns the request as one that c has sent, for APIs that find that out by themselves.
func WithCaller(r *http.Request, c Caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

// open are the paths that need no key.
var open = []string{"/healthz", "/readyz", "/openapi.yaml"}

// authenticate returns who sent the request.
func (s *server) authenticate(r *http.Request) (Caller, error) {
	if s.Keys.Len() == 0 || slices.Contains(open, r.URL.Path) {
		return Caller{}, nil
	}
	given := credential(r.Header)
	if given == "" && s.Session != nil && fromOwnPage(r) {
		if caller, ok := s.Session(r); ok && (!caller.ReadOnly || readsOnly(r)) {
			return caller, nil
		} else if ok {
			return Caller{}, api.Errorf(api.Forbidden, "this session is read-only")
		}
	}
	if given == "" {
		return Caller{}, api.Errorf(api.Unauthenticated, "no API key: send X-API-Key or Authorization: Bearer")
	}
	if name, ok := s.Keys.Find(given); ok {
		return Caller{Key: name}, nil
	}
	if id := SandboxOf(r); id != "" && s.Token != nil && s.Token(id, given) {
		return Caller{Sandbox: id}, nil
	}
	return Caller{}, api.Errorf(api.Unauthenticated, "the API key is not known here")
}

// credential returns the key or token that the headers have: of X-API-Key, or else of
// Authorization; "" where there is none.
func credential(h http.Header) string {
	if key := h.Get("X-Api-Key"); key != "" {
		return key
	}
	return Bearer(h)
}

// Bearer returns the token of an Authorization header (RFC 6750); "" where there is none.
func Bearer(h http.Header) string {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

const sandboxPath = "/v1/sandboxes/"

// SandboxOf returns the id of the sandbox that the request's path is about; "" where
// it is about none.
func SandboxOf(r *http.Request) string {
	rest, ok := strings.CutPrefix(r.URL.Path, sandboxPath)
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}
