package mcp_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
)

// A cancellation comes with a request of its own, or by leaving: both end the request to the agent, which interrupts.
func TestCancellationReachesTheAgent(t *testing.T) {
	for _, protocol := range protocols {
		begun, left := make(chan struct{}), make(chan struct{})
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			close(begun)
			<-r.Context().Done()
			close(left)
		}, "")
		u := s.connect(protocol, "", "")
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-begun; cancel() }()
		if _, err := u.CallTool(ctx, &sdk.CallToolParams{Name: "run_code", Arguments: object{"code": "1"}}); err == nil {
			t.Error("a cancelled call has no error")
		}
		<-left
	}
}

// Who has the same ids in another session cancels nothing.
func TestOthersCancelNothing(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(begun)
		select {
		case <-proceed:
			say(w, api.MCPAnswer{Content: texts("done")})
		case <-r.Context().Done():
		}
	}, "")
	answered := make(chan string)
	go func() {
		answered <- s.post("one", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"run_code","arguments":{"code":"1"}}}`)
	}()
	<-begun
	for _, session := range []string{"", "two"} {
		s.post(session, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	}
	s.post("one", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7"}}`)
	close(proceed)
	if got := <-answered; !strings.Contains(got, `"text":"done"`) {
		t.Errorf("the call is answered with %s", got)
	}
}

// post sends a message as an old client does.
func (s *site) post(session, message string) string {
	req, err := http.NewRequest("POST", s.URL+"/mcp", strings.NewReader(message))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

func TestProgressIsPassedOn(t *testing.T) {
	for _, protocol := range protocols {
		heard := make(chan struct{})
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			line := json.NewEncoder(w)
			_ = line.Encode(api.MCPLine{Progress: &api.MCPProgress{RunID: "ex_1", ElapsedS: 1, Line: "half\x1b[31m way"}})
			_ = http.NewResponseController(w).Flush()
			<-heard
			say(w, api.MCPAnswer{Content: texts("done")})
		}, "")
		u := s.connect(protocol, "", "")
		go func() {
			if p := <-u.progress; p.Progress != 1 || p.Message != "half [31m way" || p.ProgressToken != "mine" {
				t.Errorf("progress %+v", p)
			}
			close(heard)
		}()
		params := &sdk.CallToolParams{Name: "run_code", Arguments: object{"code": "1"}}
		params.SetProgressToken("mine")
		result, err := u.CallTool(t.Context(), params)
		if err != nil || textOf(result) != "done" {
			t.Errorf("%v, %v", result, err)
		}
	}
}

var png = append([]byte("\x89PNG\r\n\x1a\n"), 1, 2, 3)

func TestAnswersAreTold(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		say(w, api.MCPAnswer{
			Content: []api.MCPContent{
				{Type: api.TextContent, Text: "a\x1b[2J\tb\n\u009bc"},
				{Type: api.ImageContent, MIME: "image/png", Data: png},
				{Type: api.LinkContent, Name: "1.png", MIME: "image/png", Size: 9, Path: "/tmp/1.png", RunID: "ex_1", Output: 1},
				{Type: api.LinkContent, Name: "2.svg+x", MIME: "image/svg+xml", RunID: "ex_1", Output: 2},
				{Type: api.LinkContent, Name: "data.csv", MIME: "text/csv", Path: "/home/user/data é.csv"},
			},
			Run: &api.MCPRun{RunID: "ex_1", Status: "ok"},
		})
	}, "")
	u := s.connect(protocols[0], "", "")
	result := u.call("run_code", object{"code": "1"})
	id := s.running()[0]
	if text := textOf(result); text != "a[2J\tb\nc" {
		t.Errorf("the text is %q", text)
	}
	if image, ok := result.Content[1].(*sdk.ImageContent); !ok || !slices.Equal(image.Data, png) || image.MIMEType != "image/png" {
		t.Errorf("the image is %+v", result.Content[1])
	}
	for i, want := range []string{"k2://" + id + "/runs/ex_1/outputs/1.png", "k2://" + id + "/runs/ex_1/outputs/2.bin", "k2://" + id + "/files/home/user/data%20%C3%A9.csv"} {
		if link, ok := result.Content[2+i].(*sdk.ResourceLink); !ok || link.URI != want {
			t.Errorf("link %d is %+v, want %s", i, result.Content[2+i], want)
		}
	}
	answer, _ := result.Meta["k2sandbox/answer"].(object)
	if result.StructuredContent != nil || answer["run_id"] != "ex_1" || answer["sandbox_id"] != id {
		t.Errorf("with an image: structured content %v, answer %v", result.StructuredContent, answer)
	}
}

// What no agent of ours says is no answer, whatever it is, and harms nobody.
func TestHostileAgents(t *testing.T) {
	line := func(a api.MCPAnswer) string {
		raw, _ := json.Marshal(api.MCPLine{Answer: &a})
		return string(raw) + "\n"
	}
	content := func(c ...api.MCPContent) string { return line(api.MCPAnswer{Content: c}) }
	link := api.MCPContent{Type: api.LinkContent, Name: "1.png", MIME: "image/png", RunID: "ex_1", Output: 1}
	with := func(change func(*api.MCPContent)) string {
		c := link
		change(&c)
		return content(c)
	}
	for name, answer := range map[string]string{
		"nothing":            "",
		"no JSON":            "hello\n",
		"half a line":        `{"answer":{"content":[]}`,
		"an unknown member":  `{"answer":{"content":[]},"evil":1}` + "\n",
		"two answers":        line(api.MCPAnswer{}) + line(api.MCPAnswer{}),
		"progress at last":   `{"progress":{"run_id":"a","elapsed_s":1,"line":""}}` + "\n",
		"endless progress":   strings.Repeat(`{"progress":{"run_id":"a","elapsed_s":1,"line":""}}`+"\n", 2000),
		"a long line":        strings.Repeat("a", api.MaxMCPLine+1),
		"an unknown code":    `{"error":{"code":"owned","message":"x"}}` + "\n",
		"unknown content":    content(api.MCPContent{Type: "script"}),
		"an SVG":             content(api.MCPContent{Type: api.ImageContent, MIME: "image/svg+xml", Data: []byte("<svg/>")}),
		"an image that lies": content(api.MCPContent{Type: api.ImageContent, MIME: "image/jpeg", Data: png}),
		"a large image":      content(api.MCPContent{Type: api.ImageContent, MIME: "image/png", Data: append(slices.Clone(png), make([]byte, api.MaxMCPImage)...)}),
		"three images":       content(slices.Repeat([]api.MCPContent{{Type: api.ImageContent, MIME: "image/png", Data: png}}, 3)...),
		"much text":          content(api.MCPContent{Type: api.TextContent, Text: strings.Repeat("a", 2<<20)}),
		"much for programs":  line(api.MCPAnswer{Content: texts("a"), Run: &api.MCPRun{RunID: "a", Status: "ok", Stdout: strings.Repeat("a", 3<<20)}}),
		"many texts":         content(slices.Repeat(texts("a"), 1000)...),
		"a link to a run":    with(func(c *api.MCPContent) { c.RunID = "../../x" }),
		"a link to nothing":  with(func(c *api.MCPContent) { c.RunID = "" }),
		"a link's type":      with(func(c *api.MCPContent) { c.MIME = "image/png\r\nX: y" }),
		"a link's name":      with(func(c *api.MCPContent) { c.Name = "a\nb" }),
		"a link's size":      with(func(c *api.MCPContent) { c.Size = -1 }),
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, answer) }, "")
			u := s.connect(protocols[0], "", "")
			if text := u.refused(api.SandboxUnreachable, "run_code", object{"code": "1"}); len(text) > 1000 {
				t.Errorf("it says %d bytes", len(text))
			}
		})
	}
}

// Texts are without what terminals act on, also those that programs read.
func TestTextsOfAgentsAreReadable(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		said := "a\x1b[31m\tb\u009b\n"
		say(w, api.MCPAnswer{Content: texts(said), Run: &api.MCPRun{
			RunID: "ex_1", Status: "error", Stdout: said, Error: &api.MCPFailure{Name: said}, FilesChanged: []string{said}, Outputs: []api.MCPOutput{{MIME: "image/png", Path: said}},
		}})
	}, "")
	raw, err := json.Marshal(s.connect(protocols[0], "", "").call("run_code", object{"code": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(raw); strings.Contains(text, `\u00`) || strings.Contains(text, "\u009b") || strings.Count(text, `a[31m\tb\n`) != 5 {
		t.Error(text)
	}
}

func TestErrorsOfAgentsArePlain(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"error":{"code":"not_found","message":"a\u001b[31m\nb `+strings.Repeat("x", 10_000)+`","details":{"field":"path","kind":"sandbox"}}}`+"\n")
	}, "")
	u := s.connect(protocols[0], "", "")
	text := u.refused(api.NotFound, "read_file", object{"path": "a"})
	if strings.ContainsAny(text, "\x1b\n") || len(text) > 5000 || !strings.HasSuffix(text, ". try: list_files to see which files there are") {
		t.Errorf("it says %.200q", text)
	}
}

// A sandbox that ends in the midst of a call is told, and the next call gets another one.
func TestSandboxEndsInTheMidst(t *testing.T) {
	begun, first := make(chan struct{}, 1), true
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if !first {
			say(w, api.MCPAnswer{Content: texts("done")})
			return
		}
		first = false
		_, _ = io.WriteString(w, `{"progress":{"run_id":"a","elapsed_s":1,"line":""}}`+"\n")
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	}, "")
	u := s.connect(protocols[0], "", "")
	go func() {
		<-begun
		if err := s.Fleet.Kill(context.Background(), s.running()[0]); err != nil {
			t.Error(err)
		}
	}()
	if text := u.refused(api.Gone, "run_code", object{"code": "1"}); !strings.Contains(text, "was killed") {
		t.Error(text)
	}
	if text := textOf(u.call("run_code", object{"code": "1"})); !strings.Contains(text, "note: ") || !strings.Contains(text, "done") {
		t.Error(text)
	}
}

func TestResources(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path + "?" + r.URL.RawQuery {
		case "/mcp/run_code?":
			say(w, api.MCPAnswer{Content: texts("done")})
		case "/mcp/output?output=1&run_id=ex_1":
			w.Header().Set("Content-Type", "image/png")
			_, _ = w.Write(png)
		case "/v1/files?path=%2Fhome%2Fuser%2Fa+b.txt":
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, "hello")
		case "/v1/files?path=%2Flarge":
			_, _ = w.Write(make([]byte, api.MaxMCPOutput+1))
		default:
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: *api.Errorf(api.NotFound, "no")})
		}
	}, "")
	u := s.connect(protocols[0], "", "")
	u.call("run_code", object{"code": "1"})
	id := s.running()[0]
	read := func(rest string) (*sdk.ResourceContents, error) {
		result, err := u.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "k2://" + id + rest})
		if err != nil {
			return nil, err
		}
		return result.Contents[0], nil
	}
	if c, err := read("/runs/ex_1/outputs/1.png"); err != nil || c.MIMEType != "image/png" || !slices.Equal(c.Blob, png) {
		t.Errorf("the image: %v, %+v", err, c)
	}
	if c, err := read("/files/home/user/a%20b.txt"); err != nil || c.MIMEType != "text/plain" || c.Text != "hello" {
		t.Errorf("the text: %v, %+v", err, c)
	}
	for _, uri := range []string{"/runs/ex_1/outputs/2.png", "/runs/ex_1/outputs/x.png", "/runs/../outputs/1.png", "/files", "/files/none", "", "/other"} {
		if c, err := read(uri); err == nil {
			t.Errorf("%s: %+v", uri, c)
		}
	}
	if _, err := read("/files/large"); err == nil || !strings.Contains(err.Error(), "too_large") {
		t.Errorf("the large file: %v", err)
	}
	id = "sb_none"
	if _, err := read("/files/home/user/a.txt"); err == nil {
		t.Error("there is a sandbox that there is not")
	}
}
