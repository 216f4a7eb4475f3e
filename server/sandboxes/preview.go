package sandboxes

import (
	"net/http"
	"net/url"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// Why there are no links to previews.
const (
	noDomain  = "the server has no domain for previews (--preview-domain)"
	elsewhere = "previews are at names below localhost, which is another machine for who has asked: the server needs a --preview-domain"
)

func (h *handlers) previews(r *http.Request) api.Capability {
	switch {
	case h.all.Preview == (server.PreviewDomain{}):
		return api.Capability{Reason: noDomain}
	case !h.all.Preview.Reaches(r):
		return api.Capability{Reason: elsewhere}
	}
	return api.Capability{Available: true}
}

// preview makes a link by which a browser reaches a server inside.
func (h *handlers) preview(w http.ResponseWriter, r *http.Request) error {
	var req api.PreviewRequest
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	if can := h.previews(r); !can.Available {
		return api.Errorf(api.Unprocessable, "%s", can.Reason)
	}
	if h.all.Reserved != nil && h.all.Reserved(req.Port) {
		told := api.Invalid("port", "%d is one at which another API answers, and no server inside", req.Port)
		told.Code = api.Unprocessable
		return told
	}
	info, err := h.find(r, server.Param(r, "id"))
	if err != nil {
		return err
	}
	if info.State == fleet.Ending {
		return &fleet.GoneError{ID: info.ID, Owner: info.Owner, Reason: info.Reason, At: info.EndedAt}
	}
	until := time.Now().Add(req.Duration()).Truncate(time.Second).UTC()
	to := h.all.Preview.URL(r, info.ID, req.Port)
	to.RawQuery = url.Values{server.PreviewParam: {h.fleet.PreviewToken(info.ID, req.Port, until)}}.Encode()
	h.o.Audit(w, r, "preview", info.ID)
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusCreated, api.Preview{URL: to.String(), Port: req.Port, ExpiresAt: until})
	return nil
}
