package mcp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	methodCancelled = "notifications/cancelled"

	sessionHeader  = "Mcp-Session-Id"
	sessionQuery   = "session"
	sandboxQuery   = "sandbox"
	longestSession = 128 // bytes
)

var validSession = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

// visit is one HTTP request.
type visit struct {
	r       *http.Request
	id      string          // of the request
	client  string          // the id that it was given by initialize; "" where there is none
	session string          // of the client, or of several that know its name; "" where it has none
	sandbox string          // for calls that name none; "" is the session's own
	ended   context.Context // by the client, with another request
}

type visitKey struct{}

// visitOf returns the request that a call has come with.
func visitOf(ctx context.Context) *visit { return ctx.Value(visitKey{}).(*visit) }

// visit returns what a request says beside its message.
func (a *API) visit(r *http.Request) (*visit, error) {
	query := r.URL.Query()
	v := &visit{r: r, client: r.Header.Get(sessionHeader), sandbox: query.Get(sandboxQuery)}
	v.session = cmp.Or(query.Get(sessionQuery), v.client)
	for _, name := range []string{v.session, v.client} {
		if name != "" && (len(name) > longestSession || !validSession().MatchString(name)) {
			return nil, api.Invalid(sessionQuery, "expected at most %d letters, digits and . _ : -", longestSession)
		}
	}
	caller, err := a.authenticate(r, v.sandbox)
	if err != nil {
		return nil, err
	}
	v.r = server.WithCaller(r, caller)
	v.sandbox = cmp.Or(v.sandbox, caller.Sandbox)
	return v, nil
}

var (
	errNoKey      error = api.Errorf(api.Unauthenticated, "no API key: send Authorization: Bearer or X-API-Key")
	errUnknownKey error = api.Errorf(api.Unauthenticated, "the API key is not known here")
)

// authenticate returns who sent a request: with an API key, or with the access token of the sandbox that its URL names.
func (a *API) authenticate(r *http.Request, sandbox string) (server.Caller, error) {
	if a.keys.Len() == 0 {
		return server.Caller{}, nil
	}
	given := cmp.Or(r.Header.Get("X-Api-Key"), server.Bearer(r.Header))
	if given == "" {
		return server.Caller{}, errNoKey
	}
	if name, ok := a.keys.Find(given); ok {
		return server.Caller{Key: name}, nil
	}
	if sandbox != "" && a.o.Fleet.Token(sandbox, given) {
		return server.Caller{Sandbox: sandbox}, nil
	}
	return server.Caller{}, errUnknownKey
}

// serve answers one request.
func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	server.TraceRoute(r, Path)
	v, err := a.visit(r)
	if err == errNoKey || err == errUnknownKey {
		w.Header().Set("WWW-Authenticate", `Bearer realm="k2sandbox"`) // RFC 6750
	}
	if err != nil {
		return err
	}
	switch {
	case r.Method == http.MethodPost:
		return a.post(w, v)
	case r.Method == http.MethodDelete && v.session != "":
		return a.endSession(w, v)
	}
	a.protocol.ServeHTTP(w, r) // refuses it, as the protocol wants it to be
	return nil
}

// post answers a message. To the SDK each is for itself, so that clients of the newest protocol are served, too, and that
// nothing is lost with the server's process: the id of a session is no more than the name of its sandbox and of its calls.
func (a *API) post(w http.ResponseWriter, v *visit) error {
	body, err := a.readBody(w, v.r)
	if err != nil {
		return err
	}
	m := parseMessage(body)
	if m.Method == "initialize" && v.client == "" { // also where the session has a name: others who know it have the same ids of calls
		v.client = rand.Text()
		v.session = cmp.Or(v.session, v.client)
		w.Header().Set(sessionHeader, v.client)
	}
	caller := server.CallerOf(v.r)
	if m.Method == methodCancelled {
		a.calls.cancel(callID{caller, v.client, string(m.Params.RequestID)})
	}
	v.id = w.Header().Get("X-Request-Id")
	var done func()
	v.ended, done = a.calls.begin(callID{caller, v.client, string(m.ID)})
	defer done()
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold progress back
	r := v.r.WithContext(context.WithValue(v.r.Context(), visitKey{}, v))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	a.protocol.ServeHTTP(w, r)
	return nil
}

func (a *API) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	sent := server.Body(w, r, a.o.Options)
	defer sent.Close()
	body, err := io.ReadAll(http.MaxBytesReader(w, sent, a.o.MaxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, api.Errorf(api.TooLarge, "the body is longer than %d bytes", large.Limit)
	}
	return body, err
}

// message is what is to be known of a JSON-RPC message.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		RequestID json.RawMessage `json:"requestId"`
	} `json:"params"`
}

// parseMessage returns no id and no method of what is no single message: of a batch nothing can be cancelled.
func parseMessage(body []byte) message {
	var m message
	if json.Unmarshal(body, &m) != nil {
		return message{}
	}
	return m
}
