package e2b

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// Labels of sandboxes that this API made.
const (
	labelTemplate = "e2b.template" // as its creator called it
	labelInsecure = "e2b.insecure" // no token is needed
	labelTraffic  = "e2b.traffic"  // a token is needed for its other ports, too
	labelResume   = "e2b.resume"   // requests wake it up
	labelImplicit = "e2b.implicit" // it is the one of a debug listener
)

type createRequest struct {
	TemplateID      string            `json:"templateID" api:"required"`
	Timeout         *int64            `json:"timeout"`
	Metadata        map[string]string `json:"metadata"`
	EnvVars         map[string]string `json:"envVars"`
	AutoPause       bool              `json:"autoPause"`
	AutoPauseMemory *bool             `json:"autoPauseMemory"`
	AutoResume      struct {
		Enabled bool `json:"enabled"`
	} `json:"autoResume"`
	Secure         *bool           `json:"secure"` // of the old form
	InternetAccess *bool           `json:"allow_internet_access"`
	Network        networkRequest  `json:"network"`
	VolumeMounts   []any           `json:"volumeMounts"`
	MCP            json.RawMessage `json:"mcp"`
	IAM            json.RawMessage `json:"iam"`
}

type networkRequest struct {
	AllowPublicTraffic *bool           `json:"allowPublicTraffic"`
	AllowOut           []string        `json:"allowOut"`
	DenyOut            []string        `json:"denyOut"`
	DNSServers         []string        `json:"dnsServers"`
	EgressProxy        json.RawMessage `json:"egressProxy"`
	MaskRequestHost    string          `json:"maskRequestHost"`
	HTTPSPorts         []any           `json:"httpsPorts"`
	Rules              map[string]any  `json:"rules"`
}

func (a *API) create(w http.ResponseWriter, r *http.Request) error {
	return a.createAs(w, r, defaultTimeout, true)
}

func (a *API) createOld(w http.ResponseWriter, r *http.Request) error {
	return a.createAs(w, r, defaultTimeoutOld, false)
}

func (a *API) createAs(w http.ResponseWriter, r *http.Request, timeout int64, secure bool) error {
	var req createRequest
	if err := server.DecodeKnown(r, &req); err != nil {
		return err
	}
	o, err := a.options(req, timeout)
	if err != nil {
		return err
	}
	if req.Secure != nil && !*req.Secure && !secure {
		o.Labels[labelInsecure] = "true"
	}
	o.Owner = server.CallerOf(r).Key
	id, err := a.once.Do(r, req, func() (string, error) {
		info, _, err := a.o.Fleet.Create(r.Context(), o)
		if err == nil {
			a.o.Audit(w, r, "create", info.ID)
		}
		return info.ID, err
	})
	if err != nil {
		return whyNotCreated(err, req)
	}
	info, err := a.o.Fleet.Get(id)
	if err != nil {
		return missing(err)
	}
	a.tell(w, http.StatusCreated, info)
	return nil
}

// options returns what a request asks for. What would be promised and not kept is refused.
func (a *API) options(req createRequest, timeout int64) (fleet.CreateOptions, error) {
	template, err := a.template(req.TemplateID)
	if err != nil {
		return fleet.CreateOptions{}, err
	}
	lasts, err := positive(req.Timeout, timeout)
	if err != nil {
		return fleet.CreateOptions{}, err
	}
	reaches, err := req.network()
	if err = cmp.Or(err, a.canPause(req.AutoPause), withMemory(req.AutoPauseMemory), req.check()); err != nil {
		return fleet.CreateOptions{}, err
	}
	labels := map[string]string{labelTemplate: req.TemplateID}
	if public := req.Network.AllowPublicTraffic; public != nil && !*public {
		labels[labelTraffic] = "private"
	}
	if req.AutoResume.Enabled {
		labels[labelResume] = "true"
	}
	return fleet.CreateOptions{
		Template: template, Envs: req.EnvVars, Term: lasts, Metadata: req.Metadata,
		AutoPause: req.AutoPause, Network: reaches, Labels: labels,
	}, nil
}

// e2bTemplates are what E2B's clients ask for where nobody tells them what.
var e2bTemplates = []string{"code-interpreter-v1", "base"}

// template returns the name that the runtime has for a template.
func (a *API) template(id string) (string, error) {
	name, _, _ := strings.Cut(id, ":") // a tag, of which there is one
	for _, t := range a.o.Templates() {
		if t.Template == id || slices.Contains(t.Aliases, id) || t.Default && slices.Contains(e2bTemplates, name) {
			return t.Template, nil
		}
	}
	return "", api.Errorf(api.NotFound, "template %.200q not found", id)
}

// check refuses what there is not here.
func (req *createRequest) check() error {
	switch {
	case len(req.VolumeMounts) > 0:
		return unsupported("volumeMounts: there are no volumes here")
	case given(req.MCP):
		return unsupported("mcp: there is no gateway in the template")
	case given(req.IAM):
		return unsupported("iam: there are no identities here")
	}
	return nil
}

// given reports whether there is a value at all.
func given(value json.RawMessage) bool {
	return len(value) > 0 && string(value) != "null" && string(value) != "{}"
}

// everything is an address range that is all addresses.
var everything = []string{"0.0.0.0/0", "::/0"}

// network returns what is to be reached: all, or what is allowed where all else is denied.
func (req *createRequest) network() (fleet.Network, error) {
	n := req.Network
	if req.InternetAccess != nil && !*req.InternetAccess {
		n.DenyOut = everything
	}
	return n.reaches()
}

func (n *networkRequest) reaches() (all fleet.Network, err error) {
	switch {
	case len(n.DNSServers) > 0:
		return all, unsupported("network.dnsServers: the name servers of a sandbox are the server's")
	case given(n.EgressProxy):
		return all, unsupported("network.egressProxy: there is none")
	case n.MaskRequestHost != "":
		return all, unsupported("network.maskRequestHost: the host is passed on as it is")
	case len(n.HTTPSPorts) > 0:
		return all, unsupported("network.httpsPorts: servers inside are spoken to in plain HTTP")
	case len(n.Rules) > 0:
		return all, unsupported("network.rules: there are none")
	case len(n.DenyOut) == 0:
		return all, nil
	case !slices.ContainsFunc(n.DenyOut, func(r string) bool { return slices.Contains(everything, r) }):
		return all, unsupported("network.denyOut: what is denied is everything (%s), but for what is in allowOut", everything[0])
	case len(n.AllowOut) == 0:
		return fleet.Network{Mode: fleet.NetworkNone}, nil
	}
	for i, text := range n.AllowOut {
		if _, err := api.ParseDestination(text); err != nil {
			return all, api.Invalid(fmt.Sprintf("network.allowOut[%d]", i), "%v", err)
		}
	}
	return fleet.Network{Mode: fleet.NetworkAllow, Allow: n.AllowOut}, nil
}

// whyNotCreated tells by the names that the request has.
func whyNotCreated(err error, req createRequest) error {
	var told *api.Error
	switch {
	case errors.Is(err, fleet.ErrUnknownTemplate):
		return api.Errorf(api.NotFound, "template %.200q not found", req.TemplateID)
	case errors.Is(err, fleet.ErrEnvs):
		return api.Invalid("envVars", "no kernel starts with these variables")
	case errors.As(err, &told) && told.Details["field"] == "envs":
		return api.Invalid("envVars", "%s", strings.TrimPrefix(told.Message, "envs: "))
	}
	return err
}
