package mcp

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/server"
)

// resourceTemplates are what a client can read beside the tools, which give a model all the same.
var resourceTemplates = []sdk.ResourceTemplate{
	{
		Name: "output", Title: "An output of a run", URITemplate: "k2://{sandbox}/runs/{run}/outputs/{name}",
		Description: "The original of an image, or of another file, that a run has displayed",
	},
	{
		Name: "file", Title: "A file", URITemplate: "k2://{sandbox}/files{+path}",
		Description: "A file of a sandbox, by its absolute path: 16 MiB at most",
	},
}

var outputPath = lazy.Regexp(`^/runs/([A-Za-z0-9_-]{1,64})/outputs/([1-9][0-9]{0,5})(\.[A-Za-z0-9]{1,16})?$`)

func fileURI(sandbox, path string) string {
	return (&url.URL{Scheme: "k2", Host: sandbox, Path: "/files" + path}).String()
}

// readResource answers resources/read.
func (a *API) readResource(ctx context.Context, req *sdk.ReadResourceRequest) (result *sdk.ReadResourceResult, err error) {
	defer func() { // else it would end the server
		if p := recover(); p != nil {
			a.o.Log.Error("cannot read resource", "request", visitOf(ctx).id, "error", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
			result, err = nil, fmt.Errorf("%s: the server's log has the cause", api.Internal)
		}
	}()
	uri := req.Params.URI
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "k2" || u.Host == "" {
		return nil, sdk.ResourceNotFoundError(uri)
	}
	var from, query string
	if output := outputPath().FindStringSubmatch(u.Path); output != nil {
		from, query = api.MCPPath+"/output", url.Values{"run_id": {output[1]}, "output": {output[2]}}.Encode()
	} else if file, ok := strings.CutPrefix(u.Path, "/files/"); ok {
		from, query = "/v1/files", url.Values{"path": {"/" + file}}.Encode()
	} else {
		return nil, sdk.ResourceNotFoundError(uri)
	}
	contents, err := a.fetch(ctx, visitOf(ctx), u.Host, from, query)
	if err != nil {
		told := server.DescribeByID(err, visitOf(ctx).id)
		if told.Code == api.NotFound || told.Code == api.Gone {
			return nil, sdk.ResourceNotFoundError(uri)
		}
		return nil, fmt.Errorf("%s: %s", told.Code, told.Message)
	}
	contents.URI = uri
	return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{contents}}, nil
}

// fetch reads what a sandbox's agent answers with.
func (a *API) fetch(ctx context.Context, v *visit, id, from, query string) (*sdk.ResourceContents, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer context.AfterFunc(v.ended, cancel)()
	at, err := a.find(ctx, v, id, false)
	if err != nil {
		return nil, err
	}
	defer at.release()
	w := &record{most: api.MaxMCPOutput}
	switch err := a.forward(ctx, v, at, http.MethodGet, from, query, nil, w); {
	case w.full:
		return nil, api.Errorf(api.TooLarge, "it has more than %d bytes: read it in parts with read_file or run_code", w.most)
	case err != nil:
		return nil, err
	case w.status >= 400:
		return nil, refusal(w.status, w.body.Bytes())
	}
	contents := &sdk.ResourceContents{MIMEType: mediaType(w.header.Get("Content-Type"), query)}
	if strings.HasPrefix(contents.MIMEType, "text/") && utf8.Valid(w.body.Bytes()) {
		contents.Text = w.body.String()
	} else {
		contents.Blob = w.body.Bytes()
	}
	return contents, nil
}

// mediaType returns the type that an agent tells, or else that of a name.
func mediaType(told, name string) string {
	for _, given := range []string{told, mime.TypeByExtension(path.Ext(name))} {
		if typ, _, err := mime.ParseMediaType(given); err == nil && validMIME().MatchString(typ) && typ != "application/octet-stream" {
			return typ
		}
	}
	return "application/octet-stream"
}
