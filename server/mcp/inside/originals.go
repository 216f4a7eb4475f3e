package inside

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/mime"
	"github.com/k2sandbox/k2sandbox/server"
)

// maxShown is how many outputs an answer looks at; of more it tells the types.
const maxShown = 20

// endings are those of the names of files, by type.
var endings = map[string]string{
	"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp", "image/svg+xml": ".svg", "application/pdf": ".pdf",
}

// findOutput returns the content of an output of a run.
func findOutput(ctx context.Context, s source, seq int64, typ string) ([]byte, string, error) {
	for line, err := range s.lines(ctx, seq-1) {
		if err != nil {
			return nil, "", err
		}
		if line.Seq != seq || line.Type != executor.Result && line.Type != executor.Update {
			break
		}
		return content(line, typ)
	}
	return nil, "", fmt.Errorf("output %d of run %s: %w", seq, s.id(), agent.ErrNotFound)
}

// content returns what a line has of a type, "" being the best.
func content(line journal.Line, typ string) ([]byte, string, error) {
	members := mime.New(line.JSON)
	v, ok := members.Get("data")
	if !ok {
		return nil, "", agent.ErrNotFound
	}
	data := mime.New(v.JSON())
	if typ == "" {
		typ = picture(data.Types())
	}
	if v, ok = data.Get(typ); !ok || typ == "" {
		return nil, "", fmt.Errorf("output %d: %w", line.Seq, agent.ErrNotFound)
	}
	if base64.StdEncoding.DecodedLen(len(v.JSON())) > api.MaxMCPOutput {
		return nil, typ, api.Errorf(api.TooLarge, "the output has more than %d bytes", api.MaxMCPOutput)
	}
	raw, err := v.Bytes()
	return raw, typ, err
}

// keep writes an original into the sandbox, once, and returns its path; "" where it cannot be kept.
func (h *handlers) keep(ctx context.Context, s source, o *api.MCPOutput, raw []byte) string {
	path, err := h.box.Keep(ctx, fmt.Sprintf("%s/%d%s", s.id(), o.Output, endings[o.MIME]), raw)
	if err != nil {
		h.o.Log.Debug("cannot keep an output", "run", s.id(), "output", o.Output, "error", err)
	}
	return path
}

// show tells of the outputs of a digest, with images as asked for that are read by then.
func (h *handlers) show(ctx context.Context, s source, d *digest, images api.Images, until time.Time) (told []api.MCPOutput, shown []api.MCPContent) {
	for i, o := range d.outputs {
		out := api.MCPOutput{Output: int(o.seq), MIME: o.mime}
		if i >= maxShown {
			told = append(told, out)
			continue
		}
		raw, _, err := findOutput(ctx, s, o.seq, o.mime)
		if err != nil {
			told = append(told, out)
			continue
		}
		out.Size = int64(len(raw))
		out.Width, out.Height = size(raw)
		out.Path = h.keep(ctx, s, &out, raw)
		told = append(told, out)
		if images == api.ImagesAuto && len(shown) < api.MaxMCPImages && strings.HasPrefix(o.mime, "image/") {
			if p, err := h.shrink(raw, until); err == nil {
				shown = append(shown, api.MCPContent{Type: api.ImageContent, MIME: p.mime, Data: p.data, RunID: s.id(), Output: out.Output})
			}
		}
	}
	return told, shown
}

// shrink has one image at a time in memory.
func (h *handlers) shrink(raw []byte, until time.Time) (shrunk, error) {
	h.shrinking.Lock()
	defer h.shrinking.Unlock()
	return shrink(raw, until)
}

// link returns a link to an output.
func link(runID string, o api.MCPOutput) api.MCPContent {
	return api.MCPContent{Type: api.LinkContent, Name: fmt.Sprintf("%d%s", o.Output, endings[o.MIME]), MIME: o.MIME, Size: o.Size, Path: o.Path, RunID: runID, Output: o.Output}
}

// describe tells of an output in a line.
func describe(o api.MCPOutput, shown bool) string {
	words := []string{fmt.Sprintf("output %d: %s", o.Output, o.MIME)}
	if o.Width > 0 {
		words = append(words, fmt.Sprintf("%d×%d pixels", o.Width, o.Height))
	}
	if o.Size > 0 {
		words = append(words, fmt.Sprintf("%d bytes", o.Size))
	}
	if o.Path != "" {
		words = append(words, "kept as "+o.Path)
	}
	if shown {
		words = append(words, "shown below, perhaps smaller")
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// output answers with the bytes of an original.
func (h *handlers) output(w http.ResponseWriter, r *http.Request) error {
	seq, err := server.QueryInt(r, "output", 0, 1, 1<<53)
	if err != nil {
		return err
	}
	if seq == 0 {
		return api.Invalid("output", "is required")
	}
	s, err := h.find(r.URL.Query().Get("run_id"))
	if err != nil {
		return err
	}
	if seq > s.events() {
		return fmt.Errorf("output %d of run %s: %w", seq, s.id(), agent.ErrNotFound)
	}
	raw, typ, err := findOutput(r.Context(), s, seq, "")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", typ)
	w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(raw) // fails only where the client is gone
	return nil
}
