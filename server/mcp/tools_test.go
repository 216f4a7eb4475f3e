package mcp_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
)

// requests are what agents take: what the tools' schemas have to tell.
var requests = map[string]any{
	api.ToolRunCode: api.MCPRunCode{}, api.ToolGetRun: api.MCPGetRun{}, api.ToolInterruptRun: api.MCPInterruptRun{},
	api.ToolRunCommand: api.MCPRunCommand{}, api.ToolReadFile: api.MCPReadFile{}, api.ToolWriteFile: api.MCPWriteFile{},
	api.ToolListFiles: api.MCPListFiles{}, api.ToolInstallPackages: api.MCPInstallPackages{},
}

func TestToolsAreDescribed(t *testing.T) {
	for _, protocol := range protocols {
		u := start(t, echo, "").connect(protocol, "", "")
		page, err := u.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Tools) != 9 {
			t.Errorf("%d tools, want 9", len(page.Tools))
		}
		for _, tool := range page.Tools {
			described(t, tool)
		}
		if text := u.InitializeResult().Instructions; len(text) > 1500 || text == "" {
			t.Errorf("the instructions have %d bytes", len(text))
		}
	}
}

func described(t *testing.T, tool *sdk.Tool) {
	t.Helper()
	if len(tool.Description) > 400 || tool.Description == "" || tool.Title == "" || tool.Annotations == nil {
		t.Errorf("%s: description of %d bytes, title %q", tool.Name, len(tool.Description), tool.Title)
	}
	raw, err := json.Marshal(tool.InputSchema)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct{ Type string }
		Required   []string
		Additional *bool `json:"additionalProperties"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil || schema.Additional == nil || *schema.Additional {
		t.Fatalf("%s: %v, schema %s", tool.Name, err, raw)
	}
	request, ok := requests[tool.Name]
	if !ok {
		return
	}
	told := slices.DeleteFunc(slices.Sorted(maps.Keys(schema.Properties)), func(name string) bool { return name == "sandbox_id" })
	var takes, required []string
	for field := range reflect.TypeOf(request).Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		takes = append(takes, name)
		if field.Tag.Get("api") == "required" {
			required = append(required, name)
		}
	}
	slices.Sort(takes)
	if !slices.Equal(told, takes) || !slices.Equal(schema.Required, required) && len(required) > 0 {
		t.Errorf("%s: the schema has %v, of which %v are required; agents take %v and %v", tool.Name, told, schema.Required, takes, required)
	}
}

func TestBadArgumentsHaveNoEffect(t *testing.T) {
	s := start(t, echo, "")
	u := s.connect(protocols[0], "", "")
	for _, c := range []struct {
		tool string
		args any
		says string
	}{
		{"run_code", object{}, "code: is required"},
		{"run_code", object{"code": nil}, "code: is required"},
		{"run_code", object{"cod": "1"}, "cod: is no argument of run_code. try: arguments as the tool's schema has them: code, "},
		{"run_code", object{"code": "1", "sandbox_id": 7}, "sandbox_id: expected a string"},
		{"run_code", object{"code": "1", "timeout_s": "soon"}, "timeout_s: expected a number"},
		{"run_code", []string{"1"}, "the arguments are no JSON object"},
		{"get_run", object{"wait_s": 1}, "run_id: is required"},
		{"install_packages", nil, "packages: is required"},
		{"sandbox", object{}, "action: is required"},
		{"sandbox", object{"action": "fly"}, `action: "fly" is none of create, `},
		{"sandbox", object{"action": 1}, "action: expected a string"},
		{"sandbox", object{"action": "info", "port": 80}, "port: is for the action expose_port"},
		{"sandbox", object{"action": "list", "sandbox_id": "sb_1"}, "sandbox_id: is not for the action list"},
		{"sandbox", object{"action": "extend"}, "timeout_s: is required for extend"},
		{"sandbox", object{"action": "expose_port", "port": 70000}, "port: is required for expose_port: an integer from 1 to 65535"},
		{"sandbox", object{"action": "create", "timeout_s": -1}, "timeout"},
		{"sandbox", object{"action": "create", "envs": object{"A=B": "1"}}, "envs"},
	} {
		if text := u.refused(api.InvalidRequest, c.tool, c.args); !strings.Contains(text, c.says) {
			t.Errorf("%s %v: %q, want %q in it", c.tool, c.args, text, c.says)
		}
	}
	for _, tool := range []string{"get_run", "interrupt_run"} {
		u.refused(api.NotFound, tool, object{"run_id": "ex_1"})
	}
	u.refused(api.NotFound, "run_code", object{"code": "1", "sandbox_id": "sb_none"})
	u.refused(api.NotFound, "sandbox", object{"action": "delete"})
	if ids := s.running(); len(ids) > 0 {
		t.Errorf("there are sandboxes: %v", ids)
	}
}

// What is wrong in a way that only the sandbox knows of is told as it tells it.
func TestRefusalsOfAgents(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: *api.Errorf(api.Conflict, "a folder is there")})
	}, "")
	u := s.connect(protocols[0], "", "")
	if text := u.refused(api.Conflict, "write_file", object{"path": "a"}); !strings.Contains(text, "conflict: a folder is there. try: ") {
		t.Error(text)
	}
}

func TestUnknownToolIsAnError(t *testing.T) {
	u := start(t, echo, "").connect(protocols[0], "", "")
	if _, err := u.CallTool(t.Context(), &sdk.CallToolParams{Name: "zap"}); err == nil || !strings.Contains(err.Error(), "zap") {
		t.Errorf("error %v", err)
	}
}

// Calls wait no longer than clients do, whatever they ask for, and tell agents so.
func TestWaitIsBounded(t *testing.T) {
	u := start(t, echo, "").connect(protocols[0], "", "")
	u.run(object{})
	for _, c := range []struct{ tool, arg string }{{"run_code", "timeout_s"}, {"get_run", "wait_s"}, {"run_command", "timeout_s"}, {"install_packages", "timeout_s"}} {
		for _, given := range []any{nil, 1.5, 600} {
			args := object{"code": "1", "run_id": "ex_1", "command": "ls", "packages": []string{"six"}}
			for name := range args {
				if !strings.Contains(map[string]string{"run_code": "code", "get_run": "run_id", "run_command": "command", "install_packages": "packages"}[c.tool], name) {
					delete(args, name)
				}
			}
			if given != nil {
				args[c.arg] = given
			}
			result := u.call(c.tool, args)
			_, body, _ := strings.Cut(textOf(result), " ")
			var asked map[string]any
			if err := json.Unmarshal([]byte(body), &asked); err != nil {
				t.Fatalf("%s: %v in %q", c.tool, err, textOf(result))
			}
			got, _ := asked[c.arg].(float64)
			if want, short := given.(float64); short && got != want || got <= 0 || got > 45 {
				t.Errorf("%s %v: the agent is asked to wait %v s", c.tool, given, asked[c.arg])
			}
		}
	}
}
