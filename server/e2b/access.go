package e2b

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// keyed has an operation of the control plane need an API key, which may be any where the server has none.
func (a *API) keyed(handle func(w http.ResponseWriter, r *http.Request) error) func(w http.ResponseWriter, r *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		given := r.Header.Get(keyHeader)
		if given == "" {
			given = server.Bearer(r.Header)
		}
		var caller server.Caller
		switch name, known := a.keys.Find(given); {
		case given == "" && a.debug == 0:
			return api.Errorf(api.Unauthenticated, "no API key: send X-API-KEY")
		case known:
			caller.Key = name
		case a.keys.Len() > 0:
			return api.Errorf(api.Unauthenticated, "the API key is not known here")
		}
		return handle(w, server.WithCaller(r, caller))
	}
}

// Admit reports whether a request may go to the port of a sandbox.
func (a *API) Admit(r *http.Request, info fleet.Info, port int) error {
	token := r.Header.Get(tokenHeader)
	switch {
	case token != "" && a.o.Fleet.Token(info.ID, token):
		return nil
	case port == envdPort:
		return a.admitEnvd(r, info, token)
	case !a.private(info):
		return nil
	case a.hasTrafficToken(r, info.ID):
		return nil
	}
	return api.Errorf(api.Forbidden, "the sandbox takes requests with its E2B-Traffic-Access-Token alone")
}

// hasTrafficToken reports whether a request has the token for the servers in a sandbox.
func (a *API) hasTrafficToken(r *http.Request, id string) bool {
	return hmac.Equal([]byte(r.Header.Get(trafficHeader)), []byte(a.o.Fleet.TrafficToken(id)))
}

// private reports whether requests to the interpreter and to servers inside need a token. Where there are API keys
// they always do: an id is no secret.
func (a *API) private(info fleet.Info) bool {
	return a.keys.Len() > 0 || info.Labels[labelTraffic] != ""
}

// secure reports whether requests to envd need a token.
func (a *API) secure(info fleet.Info) bool {
	return a.keys.Len() > 0 || info.Labels[labelInsecure] == ""
}

// filesPath is the path of envd that a signature opens.
const filesPath = "/files"

// asksHealth reports whether a request to envd asks whether it is there, and no more: who has no token is not to keep
// one of the sandbox's open requests by a body that does not come.
func asksHealth(r *http.Request) bool {
	return r.URL.Path == "/health" && r.Method == http.MethodGet && r.ContentLength == 0
}

func (a *API) admitEnvd(r *http.Request, info fleet.Info, token string) error {
	files := r.URL.Path == filesPath
	switch {
	case !a.secure(info) || asksHealth(r):
		return nil
	case !files || token != "":
		return api.Errorf(api.Unauthenticated, "unauthorized access, the X-Access-Token is missing or not that of this sandbox")
	}
	given := r.URL.Query().Get("signature")
	switch until, err := expiration(r); {
	case given == "":
		return api.Errorf(api.Unauthenticated, "missing signature query parameter")
	case err != nil:
		return err
	case !a.signed(r, info.ID):
		return api.Errorf(api.Unauthenticated, "invalid signature")
	case !until.IsZero() && time.Now().Unix() > until.Unix():
		return api.Errorf(api.Unauthenticated, "signature is already expired")
	}
	return nil
}

// expiration returns when a signature expires; zero: never.
func expiration(r *http.Request) (time.Time, error) {
	given := r.URL.Query().Get("signature_expiration")
	if given == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(given, 10, 64)
	if err != nil {
		return time.Time{}, api.Invalid("signature_expiration", "is no number of seconds")
	}
	return time.Unix(seconds, 0), nil
}

// signed reports whether a URL of /files is signed with the token of a sandbox, though it may have expired.
func (a *API) signed(r *http.Request, id string) bool {
	query := r.URL.Query()
	operation := "write"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		operation = "read"
	}
	text := query.Get("path") + ":" + operation + ":" + query.Get("username") + ":" + a.o.Fleet.AccessToken(id)
	if until := query.Get("signature_expiration"); until != "" {
		text += ":" + until
	}
	sum := sha256.Sum256([]byte(text))
	want := "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
	return hmac.Equal([]byte(query.Get("signature")), []byte(want))
}
