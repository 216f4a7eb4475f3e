package e2b

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// failure is the body of an answer that tells of an error.
type failure struct {
	Code      int    `json:"code"` // the status
	Message   string `json:"message"`
	ErrorCode string `json:"error_code,omitempty"`
	SandboxID string `json:"sandboxId,omitempty"`
}

// Fail answers with an error as E2B's APIs write them: see server.Options.
func Fail(w http.ResponseWriter, r *http.Request, err error, told *api.Error) {
	status := server.Statuses[told.Code]
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	var own *refusal
	if !errors.As(err, &own) {
		own = &refusal{}
	}
	status = cmp.Or(own.status, status)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Should-Retry", "false") // the clients would ask again by themselves, and their callers wait
	}
	server.WriteJSON(w, status, failure{status, told.Message, own.code, sandboxOf(r)})
}

// refusal is an error with a status, and maybe a code, that the native API does not have.
type refusal struct {
	status  int
	code    string
	message string
}

func (e *refusal) Error() string { return e.message }

// unsupported refuses what there is not here, or not yet.
func unsupported(format string, args ...any) error {
	return server.Explain(api.Unprocessable, &refusal{status: http.StatusNotImplemented, message: fmt.Sprintf(format, args...)})
}

// absent tells as E2B's proxy does, and in addition why, that a sandbox takes no requests.
func absent(err error) error {
	if errors.Is(err, fleet.ErrGone) || errors.Is(err, fleet.ErrNotFound) || errors.Is(err, fleet.ErrState) {
		return api.Errorf(api.SandboxUnreachable, "The sandbox was not found: %v", err)
	}
	return err
}

// missing is absent for the control plane.
func missing(err error) error {
	if errors.Is(err, fleet.ErrGone) {
		return api.Errorf(api.NotFound, "%v", err)
	}
	return err
}
