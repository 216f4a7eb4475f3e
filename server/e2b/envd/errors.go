package envd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// code is an error code of the Connect protocol.
type code string

const (
	canceled           code = "canceled"
	invalidArgument    code = "invalid_argument"
	deadlineExceeded   code = "deadline_exceeded"
	notFound           code = "not_found"
	alreadyExists      code = "already_exists"
	permissionDenied   code = "permission_denied"
	resourceExhausted  code = "resource_exhausted"
	failedPrecondition code = "failed_precondition"
	aborted            code = "aborted"
	unimplemented      code = "unimplemented"
	internal           code = "internal"
	unavailable        code = "unavailable"
	unauthenticated    code = "unauthenticated"
)

// statuses are the HTTP statuses of codes, as the Connect protocol has them.
var statuses = map[code]int{
	canceled:           499,
	invalidArgument:    http.StatusBadRequest,
	deadlineExceeded:   http.StatusGatewayTimeout,
	notFound:           http.StatusNotFound,
	alreadyExists:      http.StatusConflict,
	permissionDenied:   http.StatusForbidden,
	resourceExhausted:  http.StatusTooManyRequests,
	failedPrecondition: http.StatusBadRequest,
	aborted:            http.StatusConflict,
	unimplemented:      http.StatusNotImplemented,
	internal:           http.StatusInternalServerError,
	unavailable:        http.StatusServiceUnavailable,
	unauthenticated:    http.StatusUnauthorized,
}

// codes tells the code of each error that a caller can act on. The first match counts.
var codes = []struct {
	err  error
	code code
}{
	{files.ErrPath, invalidArgument},
	{files.ErrNotExist, notFound},
	{files.ErrExist, alreadyExists},
	{files.ErrDenied, permissionDenied},
	{files.ErrReadOnly, permissionDenied},
	{files.ErrOutside, permissionDenied},
	{files.ErrIsDir, invalidArgument},
	{files.ErrNotDir, invalidArgument},
	{files.ErrNotFile, invalidArgument},
	{files.ErrNotEmpty, failedPrecondition},
	{files.ErrLoop, failedPrecondition},
	{files.ErrBusy, failedPrecondition},
	{files.ErrTooDeep, failedPrecondition},
	{files.ErrChanged, aborted},
	{files.ErrFull, resourceExhausted},
	{files.ErrTooLarge, resourceExhausted},
	{files.ErrMarks, invalidArgument},
	{files.ErrTooMany, resourceExhausted},
	{files.ErrClosed, unavailable},
	{agent.ErrClosed, unavailable},
	{process.ErrNotFound, notFound},
	{process.ErrEnded, notFound},
	{process.ErrTooMany, resourceExhausted},
	{process.ErrStdinClosed, failedPrecondition},
	{process.ErrNoTerminal, failedPrecondition},
	{process.ErrDirectory, invalidArgument},
	{process.ErrProgram, invalidArgument},
	{process.ErrSignal, invalidArgument},
	{journal.ErrEvicted, notFound},
	{syscall.ENOSPC, resourceExhausted},
	{syscall.EAGAIN, resourceExhausted}, // of a fork: the sandbox has all the processes that it may have
	{syscall.EMFILE, resourceExhausted},
	{syscall.ENOMEM, resourceExhausted},
	{context.DeadlineExceeded, deadlineExceeded},
	{context.Canceled, canceled},
}

// rpcError is an error as the Connect protocol tells it.
type rpcError struct {
	Code    code   `json:"code"`
	Message string `json:"message"`

	status int // of HTTP; 0: that of the code
}

func (e *rpcError) Error() string { return e.Message }

func errorf(c code, format string, args ...any) *rpcError {
	return &rpcError{Code: c, Message: fmt.Sprintf(format, args...)}
}

// explain returns err as what the client is told.
func explain(err error) *rpcError {
	var told *rpcError
	if errors.As(err, &told) {
		return told
	}
	for _, row := range codes {
		if errors.Is(err, row.err) {
			return &rpcError{Code: row.code, Message: err.Error()}
		}
	}
	var ours *api.Error // of the body of the request
	if errors.As(err, &ours) {
		return &rpcError{Code: codeOf(server.Statuses[ours.Code]), Message: ours.Message}
	}
	return &rpcError{Code: internal, Message: err.Error()}
}

// codeOf returns the code for a status.
func codeOf(status int) code {
	for _, c := range []code{invalidArgument, canceled, deadlineExceeded, notFound, permissionDenied, resourceExhausted, aborted, unavailable} {
		if statuses[c] == status {
			return c
		}
	}
	if status >= http.StatusInternalServerError {
		return internal
	}
	return invalidArgument
}

// fail answers a plain HTTP request with err.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	told := explain(err)
	status := told.status
	switch {
	case status != 0:
	case errors.Is(err, files.ErrFull) || errors.Is(err, syscall.ENOSPC):
		status = http.StatusInsufficientStorage
	default:
		status = statuses[told.Code]
	}
	h.log(r, told)
	writeError(w, status, told.Message)
}

// log keeps what is our own fault.
func (h *handler) log(r *http.Request, told *rpcError) {
	if told.Code == internal {
		h.o.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", told.Message)
	}
}

// writeError answers as envd's HTTP part does.
func writeError(w http.ResponseWriter, status int, message string) {
	server.WriteJSON(w, status, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{status, message})
}
