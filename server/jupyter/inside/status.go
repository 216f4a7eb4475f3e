package inside

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// Version is that of the Jupyter Server whose API this is.
const Version = "2.21.1"

func (h *handlers) version(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, map[string]string{"version": Version})
	return nil
}

func (h *handlers) status(w http.ResponseWriter, _ *http.Request) error {
	type status struct {
		Started      api.JupyterTime `json:"started"`
		LastActivity api.JupyterTime `json:"last_activity"`
		Kernels      int             `json:"kernels"`
		Connections  int             `json:"connections"`
	}
	kernels := h.kernels()
	idle := h.box.Activity().IdleSeconds
	s := status{
		Started: api.JupyterTime{Time: h.began}, Kernels: len(kernels),
		LastActivity: api.JupyterTime{Time: time.Now().Add(-time.Duration(idle * float64(time.Second)))},
	}
	for _, k := range kernels {
		s.Connections += k.Connections
	}
	server.WriteJSON(w, http.StatusOK, s)
	return nil
}

// identity is the user of a sandbox, who is one.
type identity struct {
	Username    string  `json:"username"`
	Name        string  `json:"name"`
	DisplayName string  `json:"display_name"`
	Initials    string  `json:"initials"`
	AvatarURL   *string `json:"avatar_url"`
	Color       *string `json:"color"`
}

// me tells who the client is, and of what it asks to do that it may: who is let in may do it all.
func (h *handlers) me(w http.ResponseWriter, r *http.Request) error {
	permissions := map[string][]string{}
	if asked := r.URL.Query().Get("permissions"); asked != "" {
		if err := json.Unmarshal([]byte(asked), &permissions); err != nil || permissions == nil {
			return refuse(http.StatusBadRequest, `permissions should be a JSON dict of {"resource": ["action",]}, got %.200q`, asked)
		}
	}
	permissions["updatable_fields"] = []string{}
	server.WriteJSON(w, http.StatusOK, map[string]any{
		"identity":    identity{Username: "sandbox", Name: "Sandbox", DisplayName: "Sandbox", Initials: "S"},
		"permissions": permissions,
	})
	return nil
}

// exporters are the formats that notebooks can be converted to: none.
func (h *handlers) exporters(w http.ResponseWriter, _ *http.Request) error {
	server.WriteJSON(w, http.StatusOK, struct{}{})
	return nil
}
