package inside

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/notebook"
)

// emptyNotebook is a new notebook, which is without a kernel until a client chooses one.
const emptyNotebook = `{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}`

// notebookContent returns the notebook in a file as clients want it: each text is a string, where the file has a
// list of lines. None of its outputs is trusted: whatever ran in the sandbox can have written it.
func notebookContent(at string, raw []byte) (any, error) {
	nb, err := notebook.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "Unreadable Notebook: %.300s %v", at, err)
	}
	var file bytes.Buffer
	if err := nb.Write(&file); err != nil {
		return nil, err
	}
	d := json.NewDecoder(&file)
	d.UseNumber()
	var content map[string]any
	if err := d.Decode(&content); err != nil {
		return nil, err
	}
	cells, _ := content["cells"].([]any)
	for _, cell := range cells {
		joinCell(member(cell))
	}
	return content, nil
}

func member(v any) map[string]any {
	object, _ := v.(map[string]any)
	return object
}

// joinCell makes strings of the lists of lines that a cell has.
func joinCell(cell map[string]any) {
	join(cell, "source")
	for _, bundle := range member(cell["attachments"]) {
		joinBundle(member(bundle))
	}
	outputs, _ := cell["outputs"].([]any)
	for _, output := range outputs {
		join(member(output), "text")
		joinBundle(member(member(output)["data"]))
	}
	delete(member(cell["metadata"]), "trusted")
}

func joinBundle(bundle map[string]any) {
	for typ := range bundle {
		if typ != "application/json" && !(strings.HasPrefix(typ, "application/") && strings.HasSuffix(typ, "+json")) {
			join(bundle, typ)
		}
	}
}

func join(object map[string]any, key string) {
	lines, ok := object[key].([]any)
	if !ok || slices.ContainsFunc(lines, func(line any) bool { _, ok := line.(string); return !ok }) {
		return
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(line.(string))
	}
	object[key] = text.String()
}

// notebookFile returns the file of a notebook that a client sends, in nbformat's normal form.
func notebookFile(content json.RawMessage) ([]byte, error) {
	var line, file bytes.Buffer
	if err := json.Compact(&line, content); err != nil { // so that its layout is not kept
		return nil, err
	}
	nb, err := notebook.Read(&line)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "Notebook validation failed: %v", err)
	}
	for _, cell := range nb.Cells {
		cell.Metadata.Delete("trusted") // what is in a file is not
	}
	err = nb.Write(&file)
	return file.Bytes(), err
}
