package mcp

import (
	"encoding/json"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
)

// instructions are what a model is told of all tools together. Claude Code cuts them, and each description, at 2 kB.
const instructions = `k2sandbox runs code and commands in an isolated Linux sandbox with its own files, processes and Python kernel.

- Just call run_code: without sandbox_id, calls use a default sandbox, made when it is first needed. Variables, imports, files and installed packages stay from call to call. numpy, pandas, matplotlib and Pillow are there.
- Display results: the value of the last expression, figures and tables are shown. Prefer one stateful session to many independent scripts.
- Every call answers within 45 s. What takes longer goes on: status "running" comes with a run_id, for get_run (waits, reads on) and interrupt_run. Start servers with run_command, and reach them with the sandbox tool's expose_port.
- Long output has its middle left out; the answer says how much, and how to read on with get_run. Images are shrunk; originals are at the path told.
- A sandbox ends when nothing happens in it for a while; a note says so when a new one took its place.
- Errors read "code: what is wrong. try: what to do".`

// tool is one of the tools.
type tool struct {
	name, title, description string
	properties               []property
	required                 []string

	reads      bool // it changes nothing
	repeatable bool // the same call again changes nothing more
	additive   bool // it destroys nothing
	open       bool // it reaches what the sandbox's network does

	fresh bool   // it may do with an empty sandbox
	wait  string // the argument that says how many seconds it may take; "" where it takes none
	do    handle
}

// toolSandbox is the one tool that no agent answers.
const toolSandbox = "sandbox"

// property is an argument, with its JSON Schema.
type property struct{ name, schema string }

var (
	sandboxID = property{"sandbox_id", `{"type":"string","description":"The sandbox. Default: this session's own"}`}
	maxChars  = property{"max_output_chars", fmt.Sprintf(`{"type":"integer","minimum":0,"maximum":%d,"default":%d,"description":"Most characters of output; the middle is left out"}`, api.MaxMCPChars, api.MCPChars)}
	images    = property{"images", `{"type":"string","enum":["auto","link","none"],"default":"auto","description":"auto: up to 2 images, shrunk; link: links and paths only; none: neither"}`}
	timeout   = property{"timeout_s", `{"type":"number","minimum":0,"default":45,"description":"Seconds to wait, 45 at most. What takes longer goes on: then the status is running"}`}
	killAfter = property{"kill_after_s", `{"type":"number","minimum":0,"default":0,"description":"Interrupt it after so many seconds; 0: never"}`}
	runID     = property{"run_id", `{"type":"string","description":"Of run_code, run_command or install_packages"}`}
)

func text(name, description string) property {
	return property{name, fmt.Sprintf(`{"type":"string","description":%q}`, description)}
}

// tools are those that there are, as a answers them.
func tools(a *API) []tool {
	return []tool{
		{
			name: api.ToolRunCode, title: "Run code", fresh: true, open: true, wait: "timeout_s", do: a.inside,
			description: "Run code in a persistent kernel: variables, imports and files stay for later calls. Returns stdout, stderr, the value of the last expression, images, tables as Markdown, and errors with traceback. Python unless language says otherwise (e.g. bash). If it takes longer than timeout_s it goes on with status running: use get_run.",
			properties: []property{
				text("code", "The code. End with an expression to see its value"), sandboxID,
				text("context_id", "A context (kernel) other than the default one"),
				{"language", `{"type":"string","default":"python","description":"python, bash, or another kernel that is installed"}`},
				timeout, killAfter, maxChars, images,
			},
			required: []string{"code"},
		},
		{
			name: api.ToolGetRun, title: "Get a run", reads: true, repeatable: true, wait: "wait_s", do: a.inside,
			description: "Wait for a run that goes on, or read more of its output. Takes the run_id of run_code, run_command or install_packages. after: the next_cursor (only what is new) or the cursor where something was left out (reads on from there). Without it, output is from the beginning.",
			properties: []property{
				runID, sandboxID, text("after", "A cursor of an earlier answer"),
				{"wait_s", `{"type":"number","minimum":0,"default":45,"description":"Seconds to wait for its end, 45 at most"}`}, maxChars, images,
			},
			required: []string{"run_id"},
		},
		{
			name: api.ToolInterruptRun, title: "Interrupt a run", additive: true, repeatable: true, do: a.inside,
			description: "Interrupt a run, as Ctrl-C does: code gets KeyboardInterrupt, a command SIGINT. Variables and files stay. Answers with the run's state.",
			properties:  []property{runID, sandboxID, maxChars},
			required:    []string{"run_id"},
		},
		{
			name: api.ToolRunCommand, title: "Run a command", fresh: true, open: true, wait: "timeout_s", do: a.inside,
			description: "Run a shell command in the sandbox: git, pip, builds, servers. Give command (a line for /bin/sh) or argv (no shell). Each starts anew in cwd: cd and exports do not last. Returns stdout, stderr and the exit code. What takes longer than timeout_s goes on in the background: use get_run, interrupt_run.",
			properties: []property{
				text("command", "A line for /bin/sh"),
				{"argv", `{"type":"array","items":{"type":"string"},"minItems":1,"description":"A program and its arguments, in place of command"}`},
				text("cwd", "An absolute path. Default: the sandbox's working directory"), sandboxID, timeout, killAfter, maxChars,
			},
		},
		{
			name: api.ToolReadFile, title: "Read a file", reads: true, repeatable: true, fresh: true, do: a.inside,
			description: "Read a text file of the sandbox, whole or from a line on, or look at an image file (shrunk). For long texts, next_offset says where to read on.",
			properties: []property{
				text("path", "Relative paths begin at the working directory"),
				{"offset", `{"type":"integer","minimum":0,"default":1,"description":"The first line, counted from 1"}`},
				{"limit", `{"type":"integer","minimum":0,"maximum":100000,"default":0,"description":"Most lines; 0: as many as there is room for"}`},
				sandboxID, maxChars,
			},
			required: []string{"path"},
		},
		{
			name: api.ToolWriteFile, title: "Write a file", fresh: true, do: a.inside,
			description: "Write a file in the sandbox; folders are made as needed. Give content (text) or base64 (bytes), 8 MiB at most; longer ones in parts with mode append.",
			properties: []property{
				text("path", "Relative paths begin at the working directory"), text("content", "The text"),
				{"base64", `{"type":"string","contentEncoding":"base64","description":"The bytes, in place of content"}`},
				{"mode", `{"type":"string","enum":["overwrite","append","create"],"default":"overwrite","description":"create: fails where there is a file"}`}, sandboxID,
			},
			required: []string{"path"},
		},
		{
			name: api.ToolListFiles, title: "List files", reads: true, repeatable: true, fresh: true, do: a.inside,
			description: "List what is in a folder of the sandbox: paths, types, sizes, times. depth goes into folders below.",
			properties: []property{
				text("path", "Default: the working directory"),
				{"depth", `{"type":"integer","minimum":0,"maximum":8,"default":1,"description":"How many folders down"}`}, sandboxID,
			},
		},
		{
			name: api.ToolInstallPackages, title: "Install packages", additive: true, repeatable: true, fresh: true, open: true, wait: "timeout_s", do: a.inside,
			description: "Install Python packages into the sandbox, from the package index, for run_code to import. No restart is needed, unless the answer says so. What takes longer than timeout_s goes on: use get_run.",
			properties: []property{
				{"packages", `{"type":"array","items":{"type":"string"},"minItems":1,"description":"Such as requests, or pandas>=2 (PEP 508)"}`},
				{"upgrade", `{"type":"boolean","default":false,"description":"To the newest that fits"}`}, sandboxID, timeout, maxChars,
			},
			required: []string{"packages"},
		},
		{
			name: toolSandbox, title: "Manage sandboxes", open: true, do: a.manage,
			description: "Manage sandboxes; not needed for the default one. create: a new one, whose sandbox_id other tools take; list; info: state, limits, when it ends; extend: end it later (timeout_s); resume a paused one; delete: end it, all in it is lost; expose_port: the URL of a server in it. Without sandbox_id: the default one.",
			properties:  manageProperties,
			required:    []string{"action"},
		},
	}
}

// describe returns the tool as clients get to know it.
func (t tool) describe(offline bool) *sdk.Tool {
	destructive, open := !t.additive && !t.reads, t.open && !offline
	return &sdk.Tool{
		Meta: sdk.Meta{metaVersion: schemaVersion, "anthropic/maxResultSizeChars": maxResult},
		Name: t.name, Title: t.title, Description: t.description, InputSchema: t.schema(),
		Annotations: &sdk.ToolAnnotations{Title: t.title, ReadOnlyHint: t.reads, IdempotentHint: t.repeatable, DestructiveHint: &destructive, OpenWorldHint: &open},
	}
}

// maxResult is how many characters of an answer Claude Code is to show a model.
const maxResult = 200_000

// schema returns the arguments as a JSON Schema, in the order that they are told above, which some models keep to.
func (t tool) schema() json.RawMessage {
	var properties []string
	for _, p := range t.properties {
		properties = append(properties, fmt.Sprintf("%q:%s", p.name, p.schema))
	}
	required, _ := json.Marshal(append([]string{}, t.required...)) // strings always can be
	return fmt.Appendf(nil, `{"type":"object","properties":{%s},"required":%s,"additionalProperties":false}`, strings.Join(properties, ","), required)
}
