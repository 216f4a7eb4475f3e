package jupyter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

const (
	askSize = 1 << 20         // bytes of an answer of an agent
	askTime = 5 * time.Second // that an agent has for a question which no kernel has to answer
)

// ask sends a request to an agent's Jupyter server and reads the answer into a struct. What it says is hostile: it is
// bounded in size, by ctx in time, and the caller has to check each field.
func ask(ctx context.Context, box *fleet.Sandbox, method, path string, payload, into any) error {
	var body io.Reader
	if payload != nil {
		text, err := json.Marshal(payload)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+Path+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := box.Transport().RoundTrip(req)
	if err != nil {
		return unreachable(ctx, box, method, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, askSize+1))
	switch {
	case err != nil:
		return unreachable(ctx, box, method, err)
	case len(text) > askSize:
		return senseless(box, "its answer has more than %d bytes", askSize)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return said(box, resp.StatusCode, text)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return senseless(box, "its answer makes no sense: %v", err)
	}
	return nil
}

// unreachable tells why there is no answer: where something was to be done, whether the sandbox has ended is worth some time.
func unreachable(ctx context.Context, box *fleet.Sandbox, method string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if method != http.MethodGet {
		brief, cancel := context.WithTimeout(ctx, time.Second/2)
		defer cancel()
		if gone := box.Gone(brief); gone != nil {
			return gone
		}
	}
	return senseless(box, "it does not answer: %v", err)
}

func senseless(box *fleet.Sandbox, format string, args ...any) error {
	return api.Errorf(api.SandboxUnreachable, "sandbox %s does not answer as it should: %.200q", box.ID(), fmt.Sprintf(format, args...))
}

// said returns the error that an agent has answered with.
func said(box *fleet.Sandbox, status int, text []byte) error {
	var told api.JupyterError
	if status < 400 || status > 599 || json.Unmarshal(text, &told) != nil {
		return senseless(box, "it answers with status %d", status)
	}
	return refuse(status, "%s", plain(told.Message, 2000))
}

// plain returns what an agent has said as text that is safe to show: of so many bytes at most, without control characters.
func plain(text string, most int) string {
	text = text[:min(len(text), most)]
	for !utf8.ValidString(text) && len(text) > 0 {
		text = strings.ToValidUTF8(text, "")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}

var (
	specName = lazy.Regexp(`^[A-Za-z0-9._-]{1,128}$`)
	states   = []string{"starting", "idle", "busy", "restarting", "dead", "unknown"}
)

// checkKernel reports whether what an agent tells of a kernel is one of its sandbox, and well-formed.
func checkKernel(sandboxID string, k *api.JupyterKernel) bool {
	box, _, ok := api.ParseKernelID(k.ID)
	k.Reason = plain(k.Reason, 200)
	return ok && box == sandboxID && specName().MatchString(k.Name) && slices.Contains(states, k.ExecutionState) && k.Connections >= 0
}

// Bounds of what a session has, as an agent's are.
const (
	longest     = 4096 // bytes of a path or a name
	longestType = 256  // bytes of a type
)

// checkSession is checkKernel for a session.
func checkSession(sandboxID string, s *api.JupyterSession) bool {
	box, _, ok := api.ParseSessionID(s.ID)
	return ok && box == sandboxID && checkKernel(sandboxID, &s.Kernel) &&
		len(s.Path) <= longest && len(s.Name) <= longest && len(s.Type) <= longestType && len(s.Notebook.Path) <= longest && len(s.Notebook.Name) <= longest
}
