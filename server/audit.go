package server

import "net/http"

// Audit logs what the caller of a request did to a sandbox.
func (o Options) Audit(w http.ResponseWriter, r *http.Request, did, id string) {
	c := CallerOf(r)
	by := c.Key
	if c.Sandbox != "" {
		by = "access token"
	}
	o.Log.Info("audit", "did", did, "sandbox", id, "by", by, "request", w.Header().Get(requestIDHeader), "remote", r.RemoteAddr)
}
