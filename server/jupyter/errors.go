package jupyter

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// Fail answers with an error as Jupyter's servers write them: see server.Options.
func Fail(w http.ResponseWriter, _ *http.Request, err error, told *api.Error) {
	status, message := server.Statuses[told.Code], told.Message
	var own *refusal
	switch {
	case errors.As(err, &own):
		status, message = own.status, own.message
	case told.Code == api.LimitReached:
		status, message = http.StatusForbidden, "Resource Limit: "+message // as a gateway says that
	case told.Code == api.Unprocessable:
		status = http.StatusBadRequest
	}
	server.WriteJSON(w, status, failure{api.JupyterError{Reason: cmp.Or(http.StatusText(status), "Client Closed Request"), Message: message}, short(err)})
}

type failure struct {
	api.JupyterError
	Short string `json:"short_message,omitempty"` // for a dialog's title
}

// refusal is an error with a status that the native API does not have for it, or that an agent has said.
type refusal struct {
	status  int
	message string
	short   string
}

func (e *refusal) Error() string { return e.message }

func short(err error) string {
	var own *refusal
	if errors.As(err, &own) {
		return own.short
	}
	return ""
}

// refuse returns a refusal that the client may read.
func refuse(status int, format string, args ...any) error {
	return server.Explain(api.Unprocessable, &refusal{status: status, message: fmt.Sprintf(format, args...)})
}

// missing tells of a sandbox that there is not, or not any more, that its kernel or session does not exist, which
// clients know what to do about.
func missing(what, id string, err error) error {
	if errors.Is(err, fleet.ErrGone) || errors.Is(err, fleet.ErrNotFound) {
		return refuse(http.StatusNotFound, "%s does not exist: %.100s (%v)", what, id, err)
	}
	return err
}

// statusOf returns the status of a refusal; 0 of another error.
func statusOf(err error) int {
	var own *refusal
	if errors.As(err, &own) {
		return own.status
	}
	return 0
}
