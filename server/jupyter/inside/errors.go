package inside

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
)

// refusal is an error with the status that Jupyter Server has for it.
type refusal struct {
	status  int
	message string
	reason  string // "": the words of the status
}

func (e *refusal) Error() string { return e.message }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, message: fmt.Sprintf(format, args...)}
}

// badType is the error of what is there but is something else than was asked for.
func badType(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...), "bad type"}
}

// statuses tells where Jupyter Server has another status for an error than the native API.
var statuses = []struct {
	err    error
	status int
}{
	{files.ErrPath, http.StatusBadRequest},
	{files.ErrIsDir, http.StatusBadRequest},
	{files.ErrNotDir, http.StatusBadRequest},
	{files.ErrNotFile, http.StatusBadRequest},
	{files.ErrOutside, http.StatusNotFound},
	{agent.ErrUnknownKernel, http.StatusNotFound},
	{agent.ErrTooManyContexts, http.StatusForbidden},
	{process.ErrTooMany, http.StatusForbidden},
	{agent.ErrClosed, http.StatusServiceUnavailable},
}

// fail tells of an error as Jupyter Server does.
func fail(w http.ResponseWriter, _ *http.Request, err error, told *api.Error) {
	status, reason := server.Statuses[told.Code], ""
	var refused *refusal
	if errors.As(err, &refused) {
		status, reason, told = refused.status, refused.reason, &api.Error{Message: refused.message}
	}
	for _, row := range statuses {
		if errors.Is(err, row.err) {
			status = row.status
			break
		}
	}
	server.WriteJSON(w, status, api.JupyterError{Reason: cmp.Or(reason, http.StatusText(status)), Message: told.Message})
}
