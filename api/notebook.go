package api

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// NotebookRequest asks to run a notebook: the body of POST /v1/notebooks/run. Exactly
// one of Path and Notebook is set.
type NotebookRequest struct {
	Path       string          `json:"path,omitempty"`        // of the notebook's file
	Notebook   json.RawMessage `json:"notebook,omitempty"`    // the notebook itself: nbformat 4
	OutputPath string          `json:"output_path,omitempty"` // where the executed notebook is saved, also while it runs
	Parameters json.RawMessage `json:"parameters,omitempty"`  // values by name, in the order of the cell that sets them

	Context string            `json:"context,omitempty"` // "" is a new one, which ends with the run
	Kernel  string            `json:"kernel,omitempty"`  // name of a kernelspec; "" is what the notebook says
	Cwd     string            `json:"cwd,omitempty"`     // absolute; "" is the directory of Path, or the sandbox's
	Envs    map[string]string `json:"envs,omitempty"`

	Timeout            float64            `json:"timeout,omitempty"` // seconds of each cell; 0 is none
	InterruptOnTimeout bool               `json:"interrupt_on_timeout,omitempty"`
	ErrorOnTimeout     *NotebookCellError `json:"error_on_timeout,omitempty"`
	AllowErrors        bool               `json:"allow_errors,omitempty"`
	AllowErrorNames    []string           `json:"allow_error_names,omitempty"`
	ForceRaiseErrors   bool               `json:"force_raise_errors,omitempty"`
	SkipTag            string             `json:"skip_cells_with_tag,omitempty"` // "" is skip-execution
	AllowStdin         bool               `json:"allow_stdin,omitempty"`
	CoalesceStreams    bool               `json:"coalesce_streams,omitempty"`
	RecordTiming       *bool              `json:"record_timing,omitempty"`      // nil is true
	StoreWidgetState   *bool              `json:"store_widget_state,omitempty"` // nil is true
	Papermill          *bool              `json:"papermill,omitempty"`          // nil is true: papermill's metadata and error banner
	PrepareOnly        bool               `json:"prepare_only,omitempty"`
	ReportMode         bool               `json:"report_mode,omitempty"`

	Detach       bool         `json:"detach,omitempty"`
	OnDisconnect OnDisconnect `json:"on_disconnect,omitempty"` // "" is continue
}

// NotebookCellError is what a cell whose time is up is taken to have raised.
type NotebookCellError struct {
	Name      string   `json:"ename" api:"required"`
	Value     string   `json:"evalue,omitempty"`
	Traceback []string `json:"traceback,omitempty"`
}

// maxErrorNames is how many names of errors a request may allow.
const maxErrorNames = 100

// Validate returns an *Error that names the first wrong field.
func (r *NotebookRequest) Validate() error {
	switch {
	case r.Path == "" && r.Notebook == nil:
		return Invalid("path", "is required, or notebook in its place")
	case r.Path != "" && r.Notebook != nil:
		return Invalid("notebook", "cannot be combined with path: give one of the two")
	case strings.ContainsRune(r.Path, 0):
		return Invalid("path", "must not contain a NUL character")
	case strings.ContainsRune(r.OutputPath, 0):
		return Invalid("output_path", "must not contain a NUL character")
	case !isObject(r.Notebook):
		return Invalid("notebook", "expected an object")
	case r.Context != "" && r.Kernel != "":
		return Invalid("kernel", "cannot be combined with context, which has one")
	case r.Context != "" && r.Cwd != "":
		return Invalid("cwd", "cannot be combined with context, which has one")
	case r.Context != "" && len(r.Envs) > 0:
		return Invalid("envs", "cannot be combined with context, which has its own")
	case strings.ContainsAny(r.Kernel, "/\x00"):
		return Invalid("kernel", "%q is not the name of a kernelspec", r.Kernel)
	case r.ErrorOnTimeout != nil && !r.InterruptOnTimeout:
		return Invalid("error_on_timeout", "needs interrupt_on_timeout")
	case len(r.AllowErrorNames) > maxErrorNames:
		return Invalid("allow_error_names", "expected at most %d, got %d", maxErrorNames, len(r.AllowErrorNames))
	case r.OnDisconnect != "" && r.OnDisconnect != Continue && r.OnDisconnect != Interrupt:
		return Invalid("on_disconnect", `expected "continue" or "interrupt", got %q`, r.OnDisconnect)
	case r.Detach && r.OnDisconnect == Interrupt:
		return Invalid("on_disconnect", `"interrupt" cannot be combined with detach: there is nobody to disconnect`)
	}
	if err := validTimeout(r.Timeout); err != nil {
		return err
	}
	if _, err := r.Values(); err != nil {
		return err
	}
	return validPlace(r.Cwd, r.Envs)
}

// isObject reports whether valid JSON is an object, or not there.
func isObject(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{"))
}

// Values returns the parameters in their order, numbers as they stand.
func (r *NotebookRequest) Values() ([]notebook.Parameter, error) {
	if !isObject(r.Parameters) {
		return nil, Invalid("parameters", "expected an object")
	}
	var all []notebook.Parameter
	d := json.NewDecoder(bytes.NewReader(r.Parameters))
	_, _ = d.Token() // what comes after is valid, as the body was
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, Invalid("parameters", "not valid JSON: %v", err)
		}
		p := notebook.Parameter{Name: name.(string)} // Token allows nothing else here
		var raw json.RawMessage                      // keeps the order of members
		if err := d.Decode(&raw); err != nil {
			return nil, Invalid("parameters."+p.Name, "not valid JSON: %v", err)
		}
		p.Value = raw
		all = append(all, p)
	}
	return all, nil
}

// Options returns how the notebook is to be run.
func (r *NotebookRequest) Options() notebook.Options {
	o := notebook.Options{
		Timeout:            time.Duration(math.Ceil(r.Timeout * float64(time.Second))), // never 0 for a short one
		InterruptOnTimeout: r.InterruptOnTimeout,
		AllowErrors:        r.AllowErrors, AllowErrorNames: r.AllowErrorNames, ForceRaiseErrors: r.ForceRaiseErrors,
		SkipTag: r.SkipTag, AllowStdin: r.AllowStdin, Coalesce: r.CoalesceStreams,
		NoTiming: isFalse(r.RecordTiming), NoWidgets: isFalse(r.StoreWidgetState),
		PrepareOnly: r.PrepareOnly, ReportMode: r.ReportMode,
	}
	if e := r.ErrorOnTimeout; e != nil {
		o.ErrorOnTimeout = &notebook.CellError{Name: e.Name, Value: e.Value, Traceback: e.Traceback}
	}
	if !isFalse(r.Papermill) {
		o.Papermill = &notebook.Papermill{InputPath: r.Path, OutputPath: r.OutputPath}
	}
	return o
}

func isFalse(b *bool) bool { return b != nil && !*b }

// Notebook is a run of a notebook.
type Notebook struct {
	NotebookID string          `json:"notebook_id"`
	Context    string          `json:"context,omitempty"` // where its cells run
	Path       string          `json:"path,omitempty"`
	OutputPath string          `json:"output_path,omitempty"`
	State      executor.State  `json:"state"`            // running or done
	Status     executor.Status `json:"status,omitempty"` // once it is done
	Cells      int             `json:"cells"`
	Cell       *int            `json:"cell,omitempty"` // the newest that began
	CreatedAt  time.Time       `json:"created_at"`
	EndedAt    *time.Time      `json:"ended_at"`
	Events     int64           `json:"events"`          // the number of the newest
	Bytes      int64           `json:"bytes,omitempty"` // of the executed notebook, once it is done
}

// Notebooks is a list of runs of notebooks, newest first.
type Notebooks struct {
	Notebooks []Notebook `json:"notebooks"`
}

// NotebookEnd is the last line of the stream of a notebook's run, in which the cell
// is the one where it ended.
type NotebookEnd struct {
	Seq        int64           `json:"seq"`
	Type       executor.Type   `json:"type"`
	Time       journal.Time    `json:"time"`
	NotebookID string          `json:"notebook_id"`
	Status     executor.Status `json:"status"`
	Cell       *int            `json:"cell,omitempty"`
	CellID     string          `json:"cell_id,omitempty"`
	Name       string          `json:"name,omitempty"` // of the error
	Value      string          `json:"value,omitempty"`
	StateLost  bool            `json:"state_lost,omitempty"`
	Exit       *executor.Exit  `json:"exit,omitempty"`
	Duration   float64         `json:"duration"` // seconds
	OutputPath string          `json:"output_path,omitempty"`
	Bytes      int64           `json:"bytes"`              // of the executed notebook
	Notebook   json.RawMessage `json:"notebook,omitempty"` // the executed notebook, where it is small and has no output path
	Error      *Error          `json:"error,omitempty"`    // of what is no matter of the notebook's code
}
