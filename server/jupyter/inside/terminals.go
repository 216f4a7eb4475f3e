package inside

import (
	"errors"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// terminal is a process with a terminal, and who looks at it.
type terminal struct {
	name string
	job  *process.Job

	mu    sync.Mutex
	last  time.Time // that it, or a viewer, said something
	sizes map[*viewer]process.Size
}

// touch notes that something was said.
func (t *terminal) touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
}

// fit gives the terminal the size that fits on the screens of all its viewers; nil is a viewer's that leaves.
func (t *terminal) fit(v *viewer, size *process.Size) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sizes, v)
	if size != nil {
		t.sizes[v] = *size
	}
	least := process.Size{}
	for _, s := range t.sizes {
		if least == (process.Size{}) {
			least = s
		}
		least = process.Size{Rows: min(least.Rows, s.Rows), Cols: min(least.Cols, s.Cols)}
	}
	if least != (process.Size{}) {
		_ = t.job.Resize(least) // fails where it has ended
	}
}

type terminalModel struct {
	Name         string          `json:"name"`
	LastActivity api.JupyterTime `json:"last_activity"`
}

func (t *terminal) model() terminalModel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return terminalModel{t.name, api.JupyterTime{Time: t.last}}
}

// terminals are the terminals that clients have seen, by name, as long as they run.
type terminals struct {
	mu    sync.Mutex
	named map[string]*terminal
}

// of returns the terminal of a job, which is called by its pid unless it has a name.
func (t *terminals) of(job *process.Job, name string) *terminal {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.named {
		if known.job == job {
			return known
		}
	}
	if name == "" {
		name = strconv.Itoa(job.Pid())
	}
	one := &terminal{name: name, job: job, last: job.Summary().StartedAt, sizes: map[*viewer]process.Size{}}
	t.named[name] = one
	return one
}

// forget drops those that have ended.
func (t *terminals) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, one := range t.named {
		if over(one.job.Done()) {
			delete(t.named, name)
		}
	}
}

func (t *terminals) get(name string) *terminal {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.named[name]
}

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// running are all terminals of the sandbox, also those that the native API has started.
func (h *handlers) running() []*terminal {
	h.terminals.forget()
	var all []*terminal
	for _, p := range h.box.Processes() {
		if p.Pty == nil || p.State != process.Running {
			continue
		}
		if job, err := h.box.Process(p.Pid); err == nil && job.HasTerminal() && !over(job.Done()) {
			all = append(all, h.terminals.of(job, ""))
		}
	}
	return all
}

// terminal returns the terminal that a request is about.
func (h *handlers) terminal(r *http.Request) (*terminal, error) {
	h.running()
	name := server.Param(r, "name")
	if t := h.terminals.get(name); t != nil {
		return t, nil
	}
	return nil, refuse(http.StatusNotFound, "Terminal not found: %.100s", name)
}

func (h *handlers) listTerminals(w http.ResponseWriter, _ *http.Request) error {
	models := []terminalModel{}
	for _, t := range h.running() {
		models = append(models, t.model())
	}
	server.WriteJSON(w, http.StatusOK, models)
	return nil
}

// terminalRequest is the body of POST.
type terminalRequest struct {
	Name string `json:"name"`
	Cwd  string `json:"cwd"`
}

var terminalName = lazy.Regexp(`^\w{1,100}$`)

func (r *terminalRequest) Validate() error {
	if r.Name != "" && !terminalName().MatchString(r.Name) {
		return api.Invalid("name", "expected up to 100 letters, digits and underscores, got %.120q", r.Name)
	}
	return nil
}

// startTerminal starts a shell, or returns the terminal that has the name.
func (h *handlers) startTerminal(w http.ResponseWriter, r *http.Request) error {
	var req terminalRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	h.running()
	if t := h.terminals.get(req.Name); t != nil {
		server.WriteJSON(w, http.StatusOK, t.model())
		return nil
	}
	cwd, err := h.cwd(req.Cwd)
	if err != nil {
		return err
	}
	job, err := h.shell(cwd)
	if err != nil {
		return server.Explain(api.Internal, err)
	}
	server.WriteJSON(w, http.StatusOK, h.terminals.of(job, req.Name).model())
	return nil
}

// cwd returns where a terminal begins: in a directory that there is, or in one of the contents, or at their root.
func (h *handlers) cwd(given string) (string, error) {
	if filepath.IsAbs(given) {
		entry, err := h.box.Files().StatTarget(given)
		if err == nil && entry.Type == files.Dir {
			return given, nil
		}
	}
	return h.folder(given)
}

// shell starts the best shell that there is.
func (h *handlers) shell(cwd string) (*process.Job, error) {
	o := agent.ProcessOptions{Args: []string{"bash"}, Cwd: cwd, Terminal: &process.Size{Rows: 24, Cols: 80}}
	job, err := h.box.StartProcess(o)
	if errors.Is(err, process.ErrProgram) {
		o.Args = []string{"sh"}
		job, err = h.box.StartProcess(o)
	}
	return job, err
}

func (h *handlers) getTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := h.terminal(r)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, t.model())
	return nil
}

// hangUp is how long a shell may take to end once its terminal is closed.
const hangUp = time.Second

func (h *handlers) endTerminal(w http.ResponseWriter, r *http.Request) error {
	t, err := h.terminal(r)
	if err != nil {
		return err
	}
	if t.job.Signal(syscall.SIGHUP) == nil {
		late := time.NewTimer(hangUp)
		defer late.Stop()
		select {
		case <-t.job.Done():
		case <-late.C:
		case <-r.Context().Done():
		}
	}
	if err := h.box.DeleteProcess(t.job); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
