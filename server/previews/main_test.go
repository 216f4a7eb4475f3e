package previews_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/inside"
	"github.com/k2sandbox/k2sandbox/server/previews"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
	"github.com/k2sandbox/k2sandbox/trace"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// The keys of a server that has some, and the domain of its previews.
const (
	keys   = "ada:key-of-ada\nbob:key-of-bob"
	domain = "previews.test"
)

// site is a server with a fleet.
type site struct {
	*httptest.Server
	*servertest.House
	t     *testing.T
	paths paths
}

// paths is a tracer of no spans, which keeps what they would have as their url.path.
type paths struct {
	mu  sync.Mutex
	all []any
}

func (p *paths) Request(_ http.Header, _ string, attrs ...trace.Attr) trace.Span {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range attrs {
		if a.Key == "url.path" {
			p.all = append(p.all, a.Value)
		}
	}
	return nil
}

// start starts a server with the keys, or without any; given is its --preview-domain. Agents reach servers of this test
// as those inside.
func start(t *testing.T, keys, given string) *site {
	t.Helper()
	known, err := server.ReadKeys(strings.NewReader(keys))
	if err != nil {
		t.Fatal(err)
	}
	at, err := server.ParsePreviewDomain(given)
	if err != nil {
		t.Fatal(err)
	}
	ports := http.StripPrefix(e2b.PortPath, inside.Ports(server.Options{Behind: true, Fail: e2b.Fail}))
	agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, e2b.PortPath) {
			ports.ServeHTTP(w, r)
		}
	})
	runtime := servertest.NewRuntime(servertest.Dir(t), servertest.HTTP(func(fleet.Spec) http.Handler { return agent }))
	s := &site{t: t, House: servertest.Open(t, runtime, nil)}
	common := server.Options{Log: s.Logger(), Keys: known, Hosts: []string{"*.e2b.test"}, Origins: []string{"https://lab.test"}, Tracer: &s.paths}
	native := sandboxes.New(sandboxes.Options{Options: common, Fleet: s.Fleet, Preview: at, Reserved: e2b.Reserved})
	front := e2b.New(e2b.Options{Options: common, Fleet: s.Fleet, Native: native})
	s.Server = s.Serve(previews.New(previews.Options{
		Options: common, Domain: at, Fleet: s.Fleet, Native: native, E2B: front, Reserved: e2b.Reserved, Next: front,
	}))
	return s
}

// call sends a request and follows no redirect; headers are names and values in turns, of which Host is the request's.
func (s *site) call(method, target, body string, headers ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := s.Client().Transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// create makes a sandbox of ada's, or of nobody's.
func (s *site) create() api.Sandbox {
	s.t.Helper()
	return servertest.Decode[api.Sandbox](s.t, s.call("POST", "/v1/sandboxes", "{}", "X-API-Key", "key-of-ada"), 201)
}

// link asks for a link, and returns its host and its token.
func (s *site) link(id string, port int) (host, token string) {
	s.t.Helper()
	link := servertest.Decode[api.Preview](s.t, s.call("POST", "/v1/sandboxes/"+id+"/previews", fmt.Sprintf(`{"port":%d}`, port), "X-API-Key", "key-of-ada"), 201)
	u, err := url.Parse(link.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host, u.Query().Get(server.PreviewParam)
}

// inner starts a server that a sandbox has inside, and returns its port.
func inner(t *testing.T, handle http.HandlerFunc) int {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	port, err := strconv.Atoi(srv.URL[strings.LastIndexByte(srv.URL, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// echo tells what it was asked, as it came.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	server.WriteJSON(w, http.StatusOK, asked{r.Method, r.Host, r.RequestURI, string(body), r.Header})
}

type asked struct {
	Method, Host, URI, Body string
	Head                    http.Header
}

// refused checks that an answer is an error.
func refused(t testing.TB, resp *http.Response, status int, code api.Code) *api.Error {
	t.Helper()
	e := servertest.Decode[api.ErrorBody](t, resp, status).Error
	if e.Code != code || e.Message == "" {
		t.Errorf("got %+v, want %s", e, code)
	}
	return &e
}
