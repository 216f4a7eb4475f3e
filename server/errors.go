package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"syscall"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/process"
)

// statusClientClosed tells the log that nobody waited for the answer any more.
const statusClientClosed = 499

// Statuses tells the HTTP status of each code of an error.
var Statuses = map[api.Code]int{
	api.InvalidRequest:     http.StatusBadRequest,
	api.Unauthenticated:    http.StatusUnauthorized,
	api.Forbidden:          http.StatusForbidden,
	api.NotFound:           http.StatusNotFound,
	api.MethodNotAllowed:   http.StatusMethodNotAllowed,
	api.Conflict:           http.StatusConflict,
	api.Busy:               http.StatusConflict,
	api.Gone:               http.StatusGone,
	api.PreconditionFailed: http.StatusPreconditionFailed,
	api.TooLarge:           http.StatusRequestEntityTooLarge,
	api.UnsupportedMedia:   http.StatusUnsupportedMediaType,
	api.RangeInvalid:       http.StatusRequestedRangeNotSatisfiable,
	api.Unprocessable:      http.StatusUnprocessableEntity,
	api.LimitReached:       http.StatusTooManyRequests,
	api.ClientClosed:       statusClientClosed,
	api.Internal:           http.StatusInternalServerError,
	api.SandboxUnreachable: http.StatusBadGateway,
	api.Unavailable:        http.StatusServiceUnavailable,
	api.DeadlineExceeded:   http.StatusGatewayTimeout,
	api.DiskFull:           http.StatusInsufficientStorage,
}

// codes tells the code of each error that a caller can act on. The first match counts.
var codes = []struct {
	err  error
	code api.Code
}{
	{agent.ErrNotFound, api.NotFound},
	{agent.ErrUnknownKernel, api.Unprocessable},
	{agent.ErrDefaultContext, api.Conflict},
	{agent.ErrNoRoot, api.Forbidden},
	{executor.ErrUnsupported, api.Unprocessable},
	{agent.ErrClosed, api.Gone},
	{agent.ErrTooManyContexts, api.LimitReached},
	{agent.ErrNoPackages, api.Unprocessable},
	{agent.ErrTooManyInstalls, api.LimitReached},
	{agent.ErrTooManyNotebooks, api.LimitReached},
	{agent.ErrBadNotebook, api.Unprocessable},
	{agent.ErrBadParameter, api.InvalidRequest},
	{agent.ErrRunning, api.Conflict},
	{executor.ErrQueueFull, api.LimitReached},
	{executor.ErrClosed, api.Gone},
	{executor.ErrEvicted, api.Gone},
	{executor.ErrNotWaiting, api.Conflict},
	{executor.ErrFinished, api.Conflict},
	{process.ErrNotFound, api.NotFound},
	{process.ErrTooMany, api.LimitReached},
	{process.ErrEnded, api.Conflict},
	{process.ErrStdinClosed, api.Conflict},
	{process.ErrNoTerminal, api.Conflict},
	{fleet.ErrNotFound, api.NotFound},
	{fleet.ErrGone, api.Gone},
	{fleet.ErrLimit, api.LimitReached},
	{fleet.ErrState, api.Conflict},
	{fleet.ErrClosed, api.Unavailable},
	{fleet.ErrUnsupported, api.Unprocessable},
	{fleet.ErrTemplate, api.Unprocessable},
	{fleet.ErrUnknownTemplate, api.Unprocessable},
	{files.ErrPath, api.InvalidRequest},
	{files.ErrNotExist, api.NotFound},
	{files.ErrExist, api.Conflict},
	{files.ErrDenied, api.Forbidden},
	{files.ErrReadOnly, api.Forbidden},
	{files.ErrOutside, api.Forbidden},
	{files.ErrIsDir, api.Conflict},
	{files.ErrNotDir, api.Conflict},
	{files.ErrNotEmpty, api.Conflict},
	{files.ErrLoop, api.Conflict},
	{files.ErrBusy, api.Conflict},
	{files.ErrNotFile, api.Unprocessable},
	{files.ErrTooDeep, api.Unprocessable},
	{files.ErrArchive, api.Unprocessable},
	{files.ErrChanged, api.PreconditionFailed},
	{files.ErrFull, api.DiskFull},
	{files.ErrTooLarge, api.TooLarge},
	{files.ErrMarks, api.TooLarge},
	{files.ErrTooMany, api.LimitReached},
	{files.ErrClosed, api.Gone},
	{syscall.ENOSPC, api.DiskFull},
	{context.DeadlineExceeded, api.DeadlineExceeded},
	{context.Canceled, api.ClientClosed},
}

// explained is an error that the client may read.
type explained struct {
	error
	code api.Code
}

func (e explained) Unwrap() error { return e.error }

// Explain returns err as one whose message is for the client, with the given code
// unless the table knows a better one. It is for failures of what the client gave
// or chose, such as a kernel that does not start.
func Explain(code api.Code, err error) error { return explained{err, code} }

// describe returns what to tell the client of err. Of an error that is in neither
// table it tells no more than the id under which the log has it.
func describe(err error, requestID string) *api.Error {
	var told *api.Error
	if errors.As(err, &told) {
		return told
	}
	for _, row := range codes {
		if errors.Is(err, row.err) {
			return &api.Error{Code: row.code, Message: err.Error(), Details: details(err)}
		}
	}
	var death *wire.Death
	if errors.As(err, &death) {
		return api.Errorf(api.Unavailable, "%v", err)
	}
	var clear explained
	if errors.As(err, &clear) {
		return api.Errorf(clear.code, "%v", err)
	}
	return api.Errorf(api.Internal, "internal error: the log has it under %s", requestID)
}

// fields are those of a create with which a limit of the machine has to do.
var fields = map[string]string{fleet.LimitMemory: "limits.memory_mb", fleet.LimitPids: "limits.pids", fleet.LimitDisk: "limits.disk_mb"}

// details tells programs more of an error that has more to tell.
func details(err error) map[string]any {
	var gone *fleet.GoneError
	var limit *fleet.LimitError
	switch {
	case errors.As(err, &gone):
		return map[string]any{"reason": gone.Reason, "at": gone.At}
	case errors.As(err, &limit) && limit.Limit != "":
		told := map[string]any{"limit": limit.Limit}
		if field := fields[limit.Limit]; field != "" {
			told["field"] = field
		}
		return told
	case errors.Is(err, fleet.ErrNotFound):
		return map[string]any{"kind": "sandbox"} // and not something in one
	}
	return nil
}

// retryAfter is how many seconds a client is to wait where a limit is reached.
func retryAfter(err error) int {
	var limit *fleet.LimitError
	if errors.As(err, &limit) {
		return max(1, int(math.Ceil(limit.RetryAfter.Seconds())))
	}
	return 1
}

// Describe returns what to tell the client of err in the midst of the answer w.
func Describe(w http.ResponseWriter, err error) *api.Error {
	return describe(err, w.Header().Get(requestIDHeader))
}

// DescribeByID is Describe where there is no answer to write but a request with an id.
func DescribeByID(err error, requestID string) *api.Error { return describe(err, requestID) }

// fail answers with err. Nothing may have been written before.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	id := w.Header().Get(requestIDHeader)
	told := describe(err, id)
	if told.Code == api.Internal {
		s.Log.Error("request failed", "request", id, "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if told.Code == api.LimitReached {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(err)))
	}
	s.tell(w, r, err, told)
}

// tell answers with told, which is what the client may know of err.
func (s *server) tell(w http.ResponseWriter, r *http.Request, err error, told *api.Error) {
	if answer, ok := w.(*response); ok {
		answer.failed = told.Code
	}
	w.Header().Set("Cache-Control", "no-store")
	s.drain(w, r)
	if s.Fail != nil {
		s.Fail(w, r, err, told)
		return
	}
	WriteJSON(w, Statuses[told.Code], api.ErrorBody{Error: *told})
}
