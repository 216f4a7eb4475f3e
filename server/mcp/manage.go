package mcp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

const sandboxesPath = "/v1/sandboxes"

// listed is how many sandboxes a list has.
const listed = 50

// manageArgs are the arguments of the tool sandbox.
type manageArgs struct {
	Action   string            `json:"action"`
	TimeoutS float64           `json:"timeout_s"`
	Port     int               `json:"port"`
	Template string            `json:"template"`
	Cwd      string            `json:"cwd"`
	Envs     map[string]string `json:"envs"`
	Metadata map[string]string `json:"metadata"`
	Network  string            `json:"network"`
	MemoryMB int               `json:"memory_mb"`
	CPUs     float64           `json:"cpus"`
}

var manageProperties = []property{
	{"action", `{"type":"string","enum":["create","list","info","extend","resume","delete","expose_port"]}`},
	sandboxID,
	{"timeout_s", `{"type":"number","exclusiveMinimum":0,"description":"create, extend: seconds without activity after which it ends"}`},
	{"port", `{"type":"integer","minimum":1,"maximum":65535,"description":"expose_port: the port that a server in the sandbox listens on"}`},
	text("template", "create: what it is made of"),
	text("cwd", "create: its working directory, absolute"),
	{"envs", `{"type":"object","additionalProperties":{"type":"string"},"description":"create: environment variables"}`},
	{"metadata", `{"type":"object","additionalProperties":{"type":"string"},"description":"create: notes to find it by"}`},
	{"network", `{"type":"string","enum":["full","packages","none"],"description":"create: what it reaches; packages: package indexes alone"}`},
	{"memory_mb", `{"type":"integer","minimum":32,"description":"create: most memory"}`},
	{"cpus", `{"type":"number","exclusiveMinimum":0,"description":"create: most processors"}`},
}

// onlyFor tells of each argument which actions have it.
var onlyFor = map[string][]string{
	"timeout_s": {"create", "extend"}, "port": {"expose_port"}, "template": {"create"}, "cwd": {"create"}, "envs": {"create"},
	"metadata": {"create"}, "network": {"create"}, "memory_mb": {"create"}, "cpus": {"create"},
}

// managed is what programs read of an answer of the tool sandbox.
type managed struct {
	SandboxID string         `json:"sandbox_id,omitempty"`
	State     string         `json:"state,omitempty"`
	Sandbox   *api.Sandbox   `json:"sandbox,omitempty"`
	Sandboxes *[]api.Sandbox `json:"sandboxes,omitempty"`
	More      bool           `json:"more,omitempty"` // than are in Sandboxes
	URL       string         `json:"url,omitempty"`
	Path      string         `json:"path,omitempty"` // of URL
}

// manage answers the tool sandbox.
func (a *API) manage(ctx context.Context, c *call) (*sdk.CallToolResult, error) {
	args, err := c.manageArgs()
	if err != nil {
		return nil, err
	}
	switch args.Action {
	case "create":
		return a.create(ctx, c, args)
	case "list":
		return a.list(ctx, c)
	}
	id, err := a.sandboxOf(c)
	if err != nil {
		return nil, err
	}
	one := sandboxesPath + "/" + id
	switch args.Action {
	case "extend":
		return a.change(ctx, c, one+"/timeout", api.TimeoutRequest{Timeout: args.TimeoutS})
	case "resume":
		return a.change(ctx, c, one+"/resume", nil)
	case "delete":
		if err := a.native(ctx, c, http.MethodDelete, one, nil, nil); err != nil {
			return nil, err
		}
		return told(fmt.Sprintf("Sandbox %s is deleted, with all that was in it.", id), managed{SandboxID: id, State: string(fleet.Ended)}), nil
	case "expose_port":
		return a.expose(ctx, c, id, args.Port)
	}
	var box api.Sandbox
	if err := a.native(ctx, c, http.MethodGet, one, nil, &box); err != nil {
		return nil, err
	}
	return toldOf(box), nil
}

// manageArgs reads the arguments, which have to be of the action.
func (c *call) manageArgs() (args manageArgs, err error) {
	raw, err := json.Marshal(c.args)
	if err != nil {
		return args, fmt.Errorf("cannot write arguments: %w", err)
	}
	if err := server.DecodeBytes(raw, &args); err != nil {
		return args, err
	}
	for name := range c.args {
		if actions := onlyFor[name]; actions != nil && !strings.Contains(strings.Join(actions, " "), args.Action) {
			return args, api.Invalid(name, "is for the action %s", strings.Join(actions, " or "))
		}
	}
	switch args.Action {
	case "create", "list":
		if c.sandbox != "" {
			return args, api.Invalid("sandbox_id", "is not for the action %s", args.Action)
		}
	case "extend":
		if args.TimeoutS == 0 {
			return args, api.Invalid("timeout_s", "is required for extend: seconds without activity after which the sandbox ends")
		}
	case "expose_port":
		if args.Port < 1 || args.Port > 65535 {
			return args, api.Invalid("port", "is required for expose_port: an integer from 1 to 65535")
		}
	case "info", "resume", "delete":
	default:
		return args, api.Invalid("action", "%.64q is none of create, list, info, extend, resume, delete, expose_port", args.Action)
	}
	return args, nil
}

// sandboxOf returns the id of the sandbox that a call is about. It makes none.
func (a *API) sandboxOf(c *call) (string, error) {
	if id := cmp.Or(c.sandbox, c.visit.sandbox); id != "" {
		info, err := a.o.Native.Find(c.visit.r, id)
		return info.ID, err
	}
	page, err := a.o.Fleet.List(fleet.ListOptions{Owner: server.CallerOf(c.visit.r).Key, Metadata: sessionMetadata(c.visit), Limit: 1})
	if err != nil {
		return "", err
	}
	for _, info := range page.Sandboxes {
		return info.ID, nil
	}
	return "", errNoDefault
}

func (a *API) create(ctx context.Context, c *call, args manageArgs) (*sdk.CallToolResult, error) {
	if server.CallerOf(c.visit.r).Sandbox != "" {
		return nil, api.Errorf(api.Forbidden, "the access token of a sandbox makes no other")
	}
	req := api.SandboxRequest{Template: args.Template, Cwd: args.Cwd, Envs: args.Envs, Timeout: args.TimeoutS, Metadata: args.Metadata}
	if args.MemoryMB != 0 || args.CPUs != 0 {
		req.Limits = &api.LimitsRequest{MemoryMB: args.MemoryMB, CPUs: args.CPUs}
	}
	if args.Network != "" {
		req.Network = &api.NetworkRequest{Mode: api.NetworkMode(args.Network)}
	}
	if req.Timeout == 0 {
		req.Timeout = a.o.Timeout.Seconds()
	}
	var box api.Sandbox
	if err := a.native(ctx, c, http.MethodPost, sandboxesPath, req, &box); err != nil {
		return nil, err
	}
	return toldOf(box), nil
}

func (a *API) list(ctx context.Context, c *call) (*sdk.CallToolResult, error) {
	if only := server.CallerOf(c.visit.r).Sandbox; only != "" {
		var box api.Sandbox
		err := a.native(ctx, c, http.MethodGet, sandboxesPath+"/"+only, nil, &box)
		return told("- "+line(box), managed{Sandboxes: &[]api.Sandbox{box}}), err
	}
	var page api.Sandboxes
	if err := a.native(ctx, c, http.MethodGet, fmt.Sprintf("%s?limit=%d", sandboxesPath, listed), nil, &page); err != nil {
		return nil, err
	}
	own, err := a.sandboxOf(c)
	if err != nil && err != errNoDefault {
		return nil, err
	}
	var text strings.Builder
	for _, box := range page.Sandboxes {
		line := line(box)
		if box.SandboxID == own {
			line += ", the default one"
		}
		fmt.Fprintln(&text, "- "+line)
	}
	switch {
	case len(page.Sandboxes) == 0:
		text.WriteString("There are no sandboxes. run_code makes the default one.")
	case page.NextCursor != "":
		fmt.Fprintf(&text, "There are more; these are the %d newest.", listed)
	}
	return told(text.String(), managed{Sandboxes: &page.Sandboxes, More: page.NextCursor != ""}), nil
}

// change answers with what became of a sandbox.
func (a *API) change(ctx context.Context, c *call, path string, body any) (*sdk.CallToolResult, error) {
	var box api.Sandbox
	if err := a.native(ctx, c, http.MethodPost, path, body, &box); err != nil {
		return nil, err
	}
	return toldOf(box), nil
}

// expose tells where a server in a sandbox is reached from outside.
func (a *API) expose(ctx context.Context, c *call, id string, port int) (*sdk.CallToolResult, error) {
	var box api.Sandbox
	if err := a.native(ctx, c, http.MethodGet, sandboxesPath+"/"+id, nil, &box); err != nil {
		return nil, err
	}
	m := managed{SandboxID: id, Path: fmt.Sprintf("%s/%s/ports/%d/", sandboxesPath, id, port)}
	text := fmt.Sprintf("Code in the sandbox reaches the server at http://localhost:%d/. From outside: ", port)
	if local, _ := ctx.Value(http.LocalAddrContextKey).(net.Addr); local != nil && local.Network() == "unix" {
		text += fmt.Sprintf("the path %s of k2sandbox's unix socket, %s.", m.Path, local)
		return told(text, m), nil
	}
	scheme := "http"
	if c.visit.r.TLS != nil || c.visit.r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	m.URL = scheme + "://" + c.visit.r.Host + m.Path
	text += m.URL
	if a.keys.Len() > 0 {
		text += " with the API key, or the sandbox's access token, in X-API-Key or Authorization: Bearer"
	}
	return told(text+". The server has to be started first, as with run_command.", m), nil
}

// native has the native API answer a request as one of the client's own.
func (a *API) native(ctx context.Context, c *call, method, path string, body, answer any) error {
	raw := []byte("{}")
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("cannot write request: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("cannot ask for sandboxes: %w", err)
	}
	r.Host, r.RemoteAddr, r.RequestURI = c.visit.r.Host, c.visit.r.RemoteAddr, path
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Request-Id", c.visit.id)
	for _, name := range []string{"X-Api-Key", "Authorization"} {
		if given := c.visit.r.Header.Get(name); given != "" {
			r.Header.Set(name, given)
		}
	}
	w := &record{most: maxNative}
	a.o.Native.ServeHTTP(w, r)
	if w.status >= 400 {
		var refused api.ErrorBody
		if err := json.Unmarshal(w.body.Bytes(), &refused); err != nil {
			return fmt.Errorf("cannot read refusal: %w", err)
		}
		return &refused.Error
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(w.body.Bytes(), answer)
}

// maxNative is more than the native API says of as many sandboxes as a list has.
const maxNative = 16 << 20

// toldOf tells about a sandbox.
func toldOf(box api.Sandbox) *sdk.CallToolResult {
	box.AccessToken = "" // a model has no use for it
	text := line(box)
	if l := box.Limits; l.MemoryMB > 0 || l.CPUs > 0 || l.DiskMB > 0 {
		text += fmt.Sprintf("\nLimits: memory %s MB, processors %s, disk %s MB", number(float64(l.MemoryMB)), number(l.CPUs), number(float64(l.DiskMB)))
	}
	text += fmt.Sprintf("\nWorking directory: %s\nNetwork: %s\nIsolation: %s", box.Cwd, box.Network.Mode, box.Isolation.Level)
	if box.Isolation.Warning != "" {
		text += ": " + box.Isolation.Warning
	}
	return told(text, managed{SandboxID: box.SandboxID, State: string(box.State), Sandbox: &box})
}

func number(n float64) string {
	if n == 0 {
		return "not bounded"
	}
	return fmt.Sprint(n)
}

// line tells about a sandbox in one line.
func line(box api.Sandbox) string {
	text := fmt.Sprintf("%s: %s, template %s, created %s", box.SandboxID, box.State, box.Template, box.CreatedAt.Format(time.RFC3339))
	if box.ExpiresAt != nil {
		text += fmt.Sprintf(", ends %s unless something happens in it", box.ExpiresAt.Format(time.RFC3339))
	}
	return text
}

func told(text string, m managed) *sdk.CallToolResult {
	return &sdk.CallToolResult{
		Meta:    sdk.Meta{metaVersion: schemaVersion},
		Content: []sdk.Content{&sdk.TextContent{Text: text}}, StructuredContent: m,
	}
}
