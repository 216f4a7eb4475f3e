package inside

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// processHandlers answer what is about commands and terminals.
type processHandlers struct {
	box  *agent.Sandbox
	o    server.Options
	once once[process.Job]
}

func (h *processHandlers) routes() []server.Route {
	after := []string{"after"}
	return []server.Route{
		{Method: "POST", Path: "/v1/processes", Handle: h.start},
		{Method: "GET", Path: "/v1/processes", Handle: h.list},
		{Method: "GET", Path: "/v1/processes/{pid}", Handle: h.get},
		{Method: "DELETE", Path: "/v1/processes/{pid}", Handle: h.delete, Query: []string{"keep"}},
		{Method: "GET", Path: "/v1/processes/{pid}/events", Handle: h.follow, Query: after},
		{Method: "GET", Path: "/v1/processes/{pid}/attach", Handle: h.attach, Query: after},
		{Method: "POST", Path: "/v1/processes/{pid}/stdin", Handle: h.stdin, Query: []string{"eof"}, Body: server.Unbounded},
		{Method: "POST", Path: "/v1/processes/{pid}/signal", Handle: h.signal},
		{Method: "POST", Path: "/v1/processes/{pid}/resize", Handle: h.resize},
	}
}

// start starts a process and streams its events, or, in the background, tells about it.
func (h *processHandlers) start(w http.ResponseWriter, r *http.Request) error {
	var req api.ProcessRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	text, _ := req.Stdin.Text()
	job, err := h.once.do(r, req, func() (*process.Job, error) {
		return h.box.StartProcess(agent.ProcessOptions{
			Cmd: req.Cmd, Args: req.Args, Cwd: req.Cwd, Envs: req.Envs, Timeout: req.Duration(),
			Stdin: req.Stdin == api.OpenStdin, Input: text, Terminal: req.Terminal(),
		})
	})
	if err != nil {
		return whyNotStarted(err, &req)
	}
	w.Header().Set("Location", fmt.Sprintf("processes/%d", job.Pid())) // relative: a proxy may have put a path before
	if req.Background {
		server.WriteJSON(w, http.StatusCreated, job.Summary())
		return nil
	}
	onDisconnect := req.OnDisconnect // the rest, which may be large, is not needed any more
	stayed, err := server.Follow(w, r, h.o, 0, job.Lines)
	if !stayed && onDisconnect == api.Kill {
		h.killLeft(r, job)
	}
	return err
}

// whyNotStarted names the field that is to blame, if one is.
func whyNotStarted(err error, req *api.ProcessRequest) error {
	field := "args"
	switch {
	case errors.Is(err, process.ErrDirectory):
		field = "cwd"
	case !errors.Is(err, process.ErrProgram):
		return server.Explain(api.Unavailable, err)
	case req.Cmd != "":
		field = "cmd"
	}
	told := api.Invalid(field, "%v", err)
	told.Code = api.Unprocessable
	return told
}

// killLeft ends a process whose client is gone.
func (h *processHandlers) killLeft(r *http.Request, job *process.Job) {
	if err := h.box.StopProcess(context.WithoutCancel(r.Context()), job); err != nil {
		h.o.Log.Warn("cannot end all of a process whose client is gone", "pid", job.Pid(), "error", err)
	}
}

func (h *processHandlers) list(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, api.Processes{Processes: h.box.Processes()})
	return nil
}

// job returns the process that the path names.
func (h *processHandlers) job(r *http.Request) (*process.Job, error) {
	given := server.Param(r, "pid")
	pid, err := strconv.Atoi(given)
	if err != nil || strconv.Itoa(pid) != given {
		return nil, fmt.Errorf("process %q: %w", given, process.ErrNotFound)
	}
	return h.box.Process(pid)
}

func (h *processHandlers) get(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r)
	if err != nil {
		return err
	}
	server.WriteJSON(w, http.StatusOK, job.Summary())
	return nil
}

// delete kills a process, or forgets one that has ended, unless that is to be kept.
func (h *processHandlers) delete(w http.ResponseWriter, r *http.Request) error {
	keep, err := server.QueryBool(r, "keep")
	if err != nil {
		return err
	}
	job, err := h.job(r)
	if err != nil {
		return err
	}
	end := h.box.DeleteProcess
	if keep {
		end = (*process.Job).Kill
	}
	if err := end(job); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// follow replays a process's events from a number on, and follows it.
func (h *processHandlers) follow(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r)
	if err != nil {
		return err
	}
	return follow(w, r, h.o, job, job.Events)
}

// stdin passes the body on to a process as it comes. It is the process that sets the
// pace; one that takes nothing for too long ends the request.
func (h *processHandlers) stdin(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r)
	if err != nil {
		return err
	}
	eof, err := server.QueryBool(r, "eof")
	if err != nil {
		return err
	}
	if err := h.feed(w, r, job); err != nil {
		return err
	}
	if eof {
		if err := job.CloseStdin(r.Context()); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// feed writes the body. Its errors say how much of it was taken.
func (h *processHandlers) feed(w http.ResponseWriter, r *http.Request, job *process.Job) error {
	if err := job.Writable(); err != nil {
		return err
	}
	defer readUntilEnd(w, job)()
	buf := make([]byte, 32<<10)
	for taken := int64(0); ; {
		n, readErr := r.Body.Read(buf)
		if n > 0 {
			k, err := h.write(r.Context(), job, buf[:n])
			if taken += int64(k); err != nil {
				return fmt.Errorf("after %d bytes: %w", taken, err)
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil && over(job.Done()) {
			return fmt.Errorf("after %d bytes: %w", taken, process.ErrEnded)
		}
		if readErr != nil {
			return api.Errorf(api.InvalidRequest, "cannot read the body after %d bytes: %v", taken, readErr)
		}
	}
}

// readUntilEnd has reads of the body fail once the process has ended: a client that
// sends when it is asked to would wait for ever. stop returns when that is called off;
// the connection is of no further use where it had happened.
func readUntilEnd(w http.ResponseWriter, job *process.Job) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-job.Done():
			w.Header().Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // not every connection can
		case <-stopped:
		}
	}()
	return func() { close(stopped); <-done }
}

// write writes a piece in a bounded time.
func (h *processHandlers) write(ctx context.Context, job *process.Job, p []byte) (int, error) {
	limited, cancel := context.WithTimeoutCause(ctx, h.o.WriteTimeout, errNotTaken)
	defer cancel()
	n, err := job.Write(limited, p)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = server.Explain(api.DeadlineExceeded, context.Cause(limited))
	}
	return n, err
}

var errNotTaken = errors.New("the process does not read its stdin")

func (h *processHandlers) signal(w http.ResponseWriter, r *http.Request) error {
	var req api.SignalRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	job, err := h.job(r)
	if err != nil {
		return err
	}
	if err := sendSignal(job, req.Signal); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func sendSignal(job *process.Job, name api.Signal) error {
	sig, err := process.ParseSignal(string(name))
	if err != nil {
		return err
	}
	return job.Signal(sig)
}

func (h *processHandlers) resize(w http.ResponseWriter, r *http.Request) error {
	var req api.ResizeRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	job, err := h.job(r)
	if err != nil {
		return err
	}
	if err := job.Resize(process.Size(req)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
