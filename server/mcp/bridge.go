package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// Server is where the API is answered.
type Server struct {
	URL    string // of the server: http://HOST:PORT
	Client *http.Client
}

// BridgeOptions describe a Bridge. Find is required.
type BridgeOptions struct {
	Version string
	Log     *slog.Logger

	// Find returns the server, which may have to be started first. It is called for each call of a tool, and may be called
	// by several at once.
	Find func(ctx context.Context) (Server, error)

	Key     string // "" where there is none
	Session string // names the session, whose default sandbox calls use
	Sandbox string // is used instead of that; "" where there is none
	Keep    bool   // the default sandbox stays when the client leaves
}

// Bridge answers a client at the other end of a pipe, by a server that it finds only when a tool is called: so
// that clients, which wait but seconds for a program to be there, do not see how long a server may take to start.
type Bridge struct {
	o     BridgeOptions
	calls atomic.Int64           // so far; they are tokens of progress
	used  atomic.Pointer[Server] // that was found; nil: none yet

	mu       sync.Mutex
	progress map[int64]func(*sdk.ProgressNotificationParams)
}

// NewBridge returns a bridge.
func NewBridge(o BridgeOptions) *Bridge {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Bridge{o: o, progress: map[int64]func(*sdk.ProgressNotificationParams){}}
}

// Serve answers what comes from in, to out: a message of JSON-RPC a line. It returns when in has ended and all is answered,
// or with the error of ctx; then the session's sandbox has been ended. It closes neither.
func (b *Bridge) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	s := newServer(server.Options{Version: b.o.Version})
	for _, t := range tools(nil) {
		s.AddTool(t.describe(false), b.tool(t))
	}
	for _, t := range resourceTemplates {
		s.AddResourceTemplate(&t, b.readResource)
	}
	pipe := newPipe(in, out)
	err := s.Run(ctx, &sdk.IOTransport{Reader: pipe, Writer: pipe, MaxLineLength: -1})
	pipe.Close()
	if at := b.used.Load(); at != nil && !b.o.Keep && b.o.Sandbox == "" {
		b.end(*at)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// tool returns what the SDK calls for a tool.
func (b *Bridge) tool(t tool) sdk.ToolHandler {
	return func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		result, err := b.call(ctx, req, t)
		var wire *jsonrpc.Error
		var told *api.Error
		switch {
		case err == nil:
			delete(result.Meta, sdk.MetaKeyServerInfo) // and what else the protocol between us and the server has, and the client's has not
			return &sdk.CallToolResult{Meta: result.Meta, Content: result.Content, StructuredContent: result.StructuredContent, IsError: result.IsError}, nil
		case errors.As(err, &told):
			err = told
		case errors.As(err, &wire):
			return nil, wire // as the server says it
		case ctx.Err() != nil:
			err = api.Errorf(api.ClientClosed, "the call was cancelled")
		default:
			err = api.Errorf(api.Unavailable, "the k2sandbox server does not answer: %s", plain(err.Error(), maxMessage))
		}
		return t.failure(server.DescribeByID(err, ""), err), nil
	}
}

// call has the server answer a call, in the time that is left of its once the server is there.
func (b *Bridge) call(ctx context.Context, req *sdk.CallToolRequest, t tool) (*sdk.CallToolResult, error) {
	until := time.Now().Add(patience)
	bounded, cancel := context.WithDeadline(ctx, until.Add(grace))
	defer cancel()
	session, err := b.connect(bounded)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	args := req.Params.Arguments
	if args == nil {
		args = json.RawMessage("{}")
	}
	params := &sdk.CallToolParams{Name: t.name, Arguments: t.within(args, until)}
	if token := req.Params.GetProgressToken(); token != nil {
		own, done := b.listen(func(p *sdk.ProgressNotificationParams) {
			p.ProgressToken = token
			_ = req.Session.NotifyProgress(ctx, p) // a client that is gone is seen elsewhere
		})
		defer done()
		params.SetProgressToken(own)
	}
	result, err := session.CallTool(bounded, params)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = api.Errorf(api.DeadlineExceeded, "the server has not answered in time")
	}
	return result, err
}

// listen returns a token of progress, of which tell gets to know until done is called.
func (b *Bridge) listen(tell func(*sdk.ProgressNotificationParams)) (token int64, done func()) {
	token = b.calls.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress[token] = tell
	return token, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.progress, token)
	}
}

func (b *Bridge) hear(_ context.Context, req *sdk.ProgressNotificationClientRequest) {
	token, _ := req.Params.ProgressToken.(float64)
	b.mu.Lock()
	tell := b.progress[int64(token)]
	b.mu.Unlock()
	if tell != nil {
		tell(req.Params)
	}
}

// readResource answers resources/read.
func (b *Bridge) readResource(ctx context.Context, req *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
	session, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return session.ReadResource(ctx, &sdk.ReadResourceParams{URI: req.Params.URI})
}

// connect returns a session at the server, for one call: a server may have been started anew since the last one.
func (b *Bridge) connect(ctx context.Context) (*sdk.ClientSession, error) {
	at, err := b.find(ctx)
	if err != nil {
		return nil, err
	}
	c := sdk.NewClient(&sdk.Implementation{Name: "k2sandbox mcp", Version: b.o.Version}, &sdk.ClientOptions{
		Capabilities: &sdk.ClientCapabilities{}, ProgressNotificationHandler: b.hear,
	})
	return c.Connect(ctx, &sdk.StreamableClientTransport{
		Endpoint: b.endpoint(at), HTTPClient: b.authorized(at.Client), MaxRetries: -1, DisableStandaloneSSE: true, MaxEventSize: -1,
	}, nil)
}

// find returns the server, where it is there in less time than clients wait.
func (b *Bridge) find(ctx context.Context) (Server, error) {
	brief, cancel := context.WithTimeout(ctx, patience-slack)
	defer cancel()
	at, err := b.o.Find(brief)
	if brief.Err() != nil && ctx.Err() == nil {
		err = errors.New("it is still being started; the first time on a machine this takes a minute, as the Python that code runs in is set up")
	}
	if err == nil {
		b.used.Store(&at)
	}
	return at, err
}

func (b *Bridge) endpoint(at Server) string {
	query := url.Values{sessionQuery: {b.o.Session}}
	if b.o.Sandbox != "" {
		query = url.Values{sandboxQuery: {b.o.Sandbox}}
	}
	return strings.TrimRight(at.URL, "/") + Path + "?" + query.Encode()
}

// authorized returns a client that sends the key along.
func (b *Bridge) authorized(c *http.Client) *http.Client {
	with := *c
	with.Transport = keyed{b.o.Key, c.Transport}
	with.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // which may lead to another's server
	return &with
}

type keyed struct {
	key  string
	next http.RoundTripper
}

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.key != "" {
		r = r.Clone(r.Context())
		r.Header.Set("X-Api-Key", k.key)
	}
	resp, err := k.next.RoundTrip(r)
	if err != nil || refusals[resp.StatusCode] == nil || r.Method != http.MethodPost {
		return resp, err
	}
	resp.Body.Close()
	return nil, refusals[resp.StatusCode]
}

// refusals are answers to the bridge, and not to its client.
var refusals = map[int]error{
	http.StatusUnauthorized:       errUnknownKey,
	http.StatusForbidden:          api.Errorf(api.Forbidden, "the server takes no requests under the name that it is called by: see its --allow-host"),
	http.StatusServiceUnavailable: api.Errorf(api.Unavailable, "the server is shutting down"),
}

// leaveTime is how long the end of a session may take; the server goes on with it by itself.
const leaveTime = 3 * time.Second

// end ends the session's sandbox. It starts no server for that: one that has ended has none.
func (b *Bridge) end(at Server) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	err := b.delete(ctx, at)
	var dial *net.OpError
	if err != nil && !(errors.As(err, &dial) && dial.Op == "dial") {
		b.o.Log.Warn("cannot end the session's sandbox", "error", err)
	}
}

func (b *Bridge) delete(ctx context.Context, at Server) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, b.endpoint(at), nil)
	if err != nil {
		return err
	}
	resp, err := b.authorized(at.Client).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the server answers with status %d", resp.StatusCode)
	}
	return nil
}
