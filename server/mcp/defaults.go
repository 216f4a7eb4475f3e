package mcp

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// What the default sandbox of a session is found by, also after a restart of the server.
const (
	metadataKind    = "k2sandbox"
	metadataMCP     = "mcp"
	metadataSession = "mcp_session" // "" is that of all calls with the key that have no session
)

// errNoDefault says that a session has no sandbox.
var errNoDefault = api.Errorf(api.NotFound, "there is no default sandbox yet, so that nothing has run in it")

// place is where a call is answered.
type place struct {
	release func()
	box     *fleet.Sandbox
	note    string // for the model
}

// find returns the sandbox that a call names, or the default one, which is made where there is none and the call may do
// with an empty one.
func (a *API) find(ctx context.Context, v *visit, id string, fresh bool) (place, error) {
	if id == "" {
		id = v.sandbox
	}
	if id == "" {
		return a.findDefault(ctx, v, fresh)
	}
	if only := server.CallerOf(v.r).Sandbox; only != "" && id != only {
		return place{}, fmt.Errorf("%w %.64q", fleet.ErrNotFound, id)
	}
	info, err := a.o.Native.Find(v.r, id)
	if err != nil {
		return place{}, err
	}
	release, box, err := a.o.Fleet.Use(info.ID)
	return place{release, box, ""}, err
}

func (a *API) findDefault(ctx context.Context, v *visit, fresh bool) (place, error) {
	owner := server.CallerOf(v.r).Key
	done, err := a.turns.Take(ctx, owner+" "+v.session)
	if err != nil {
		return place{}, err
	}
	defer done()
	metadata := sessionMetadata(v)
	page, err := a.o.Fleet.List(fleet.ListOptions{Owner: owner, Metadata: metadata, Limit: 1})
	if err != nil {
		return place{}, err
	}
	var gone *fleet.GoneError
	for _, info := range page.Sandboxes {
		release, box, err := a.o.Fleet.Use(info.ID)
		if !errors.As(err, &gone) {
			return place{release, box, ""}, err
		}
	}
	before, err := a.before(owner, metadata, gone)
	switch {
	case err != nil:
		return place{}, err
	case !fresh && before != "":
		return place{}, api.Errorf(api.Gone, "%s", before)
	case !fresh:
		return place{}, errNoDefault
	}
	info, _, err := a.o.Fleet.Create(ctx, fleet.CreateOptions{Owner: owner, Metadata: metadata, Timeout: a.o.Timeout})
	if err != nil {
		return place{}, err
	}
	a.o.Log.Info("audit", "did", "create", "sandbox", info.ID, "by", owner, "remote", v.r.RemoteAddr)
	release, box, err := a.o.Fleet.Use(info.ID)
	if before != "" {
		before += fmt.Sprintf(". This is a new, empty one, %s: variables, files and packages of before are gone.", info.ID)
	}
	return place{release, box, before}, err
}

// before tells what became of the default sandbox that there was, which may just be ending; "" where there was none.
func (a *API) before(owner string, metadata map[string]string, ending *fleet.GoneError) (string, error) {
	if ending != nil {
		return ending.Error(), nil
	}
	page, err := a.o.Fleet.List(fleet.ListOptions{State: fleet.Ended, Owner: owner, Metadata: metadata, Limit: 1})
	if err != nil || len(page.Sandboxes) == 0 {
		return "", err
	}
	last := page.Sandboxes[0]
	return (&fleet.GoneError{ID: last.ID, Reason: last.Reason, At: last.EndedAt}).Error(), nil
}

func sessionMetadata(v *visit) map[string]string {
	return map[string]string{metadataKind: metadataMCP, metadataSession: v.session}
}

// endSession ends the default sandbox of a session whose client has done.
func (a *API) endSession(w http.ResponseWriter, v *visit) error {
	if v.sandbox == "" && (v.client == "" || v.client == v.session) { // that of a name stays when one client leaves
		page, err := a.o.Fleet.List(fleet.ListOptions{Owner: server.CallerOf(v.r).Key, Metadata: sessionMetadata(v)})
		if err != nil {
			return err
		}
		for _, info := range page.Sandboxes {
			a.o.Audit(w, v.r, "close", info.ID)
			if err := a.o.Fleet.CloseSandbox(v.r.Context(), info.ID); err != nil && !errors.Is(err, fleet.ErrGone) && !errors.Is(err, fleet.ErrNotFound) {
				return err
			}
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
