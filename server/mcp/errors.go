package mcp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// fail returns an error as a model can act on it.
func (a *API) fail(c *call, err error) *sdk.CallToolResult {
	told := server.DescribeByID(err, c.visit.id)
	switch {
	case errors.Is(err, context.Canceled):
		told = api.Errorf(api.ClientClosed, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		told = api.Errorf(api.DeadlineExceeded, "the sandbox has not answered in time")
	}
	if told.Code == api.Internal {
		a.o.Log.Error("tool failed", "request", c.visit.id, "tool", c.name, "error", err)
	}
	return c.failure(told, err)
}

// failure returns the error that told tells of.
func (t tool) failure(told *api.Error, err error) *sdk.CallToolResult {
	text := fmt.Sprintf("%s: %s. try: %s", told.Code, strings.TrimRight(told.Message, ". "), t.advice(told, err))
	return &sdk.CallToolResult{
		Meta:    sdk.Meta{metaVersion: schemaVersion, "k2sandbox/error": told},
		Content: []sdk.Content{&sdk.TextContent{Text: text}}, IsError: true,
	}
}

// advice says what a model can do about an error.
func (t tool) advice(told *api.Error, err error) string {
	field, _ := told.Details["field"].(string)
	switch {
	case errors.Is(err, fleet.ErrPaused):
		return "sandbox with the action resume and this sandbox_id"
	case errors.Is(err, fleet.ErrGone):
		return "run_code without sandbox_id, which makes a new default sandbox, or sandbox with the action create"
	case errors.Is(err, fleet.ErrNotFound):
		return "without sandbox_id, for the default sandbox, or sandbox with the action list to see which there are"
	case errors.Is(err, fleet.ErrLimit):
		return "again later, or sandbox with the action list, and then delete, to end one that is not needed"
	case told.Code == api.Forbidden && t.name == toolSandbox:
		return "the sandbox that there is, without sandbox_id"
	case told.Code == api.ClientClosed:
		return "again, if it is still needed: what ran was interrupted, and variables and files stay"
	case told.Code == api.NotFound && slices.Contains(t.required, runID.name):
		return "the run_id of an earlier answer, with the sandbox_id of that answer"
	case told.Code == api.NotFound && t.name == api.ToolRunCode:
		return "without context_id, for the default context"
	case told.Code == api.InvalidRequest && field == "":
		return "arguments as the tool's schema has them: " + t.argumentNames()
	}
	if advice, ok := advices[told.Code]; ok {
		return advice
	}
	return "another way"
}

// advices are those that hold for all errors of a code.
var advices = map[api.Code]string{
	api.Unauthenticated:    "nothing until the user has given an API key that the server knows, as in $K2_API_KEY",
	api.InvalidRequest:     "again with this argument corrected",
	api.NotFound:           "list_files to see which files there are",
	api.Gone:               "run_code without sandbox_id, which makes a new default sandbox",
	api.Forbidden:          "a path below the working directory, or /tmp; what belongs to the system cannot be changed",
	api.Conflict:           "get_run or list_files to see how things are, then again",
	api.Busy:               "again once the run that goes on has ended, or interrupt_run",
	api.TooLarge:           "again in smaller parts",
	api.Unprocessable:      "again with other arguments",
	api.LimitReached:       "again later, after what goes on has ended: interrupt_run ends a run",
	api.DiskFull:           "again after deleting files that are not needed, with run_command",
	api.DeadlineExceeded:   "again; if it happens again, sandbox with the action delete, and then run_code for a new default sandbox",
	api.SandboxUnreachable: "again; if it happens again, sandbox with the action delete, and then run_code for a new default sandbox",
	api.Unavailable:        "again in some seconds",
	api.Internal:           "again; if it happens again, tell the user that the server's log has the cause",
}

func (t tool) argumentNames() string {
	var names []string
	for _, p := range t.properties {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}
