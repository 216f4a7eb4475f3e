package sandboxes

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
)

// shared is the sandbox of requests that name none, made when the first of them comes,
// and anew where it has ended. After a restart it is found again by its metadata.
type shared struct {
	mu sync.Mutex
	id string
}

var sharedMetadata = map[string]string{"k2sandbox": "shared"}

// use returns the sandbox as fleet.Use does.
func (s *shared) use(ctx context.Context, f *fleet.Fleet, timeout time.Duration) (func(), *fleet.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == "" {
		page, err := f.List(fleet.ListOptions{Metadata: sharedMetadata, Limit: 1})
		if err != nil {
			return nil, nil, err
		}
		for _, info := range page.Sandboxes {
			s.id = info.ID
		}
	}
	if s.id != "" {
		if release, box, err := f.Use(s.id); err == nil {
			return release, box, nil
		}
	}
	info, _, err := f.Create(context.WithoutCancel(ctx), fleet.CreateOptions{Metadata: sharedMetadata, Timeout: timeout})
	if err != nil {
		return nil, nil, err
	}
	s.id = info.ID
	return f.Use(s.id)
}

// forwardShared sends a request that names no sandbox on to the shared one.
func (h *handlers) forwardShared(w http.ResponseWriter, r *http.Request) error {
	release, box, err := h.shared.use(r.Context(), h.fleet, h.all.SharedTimeout)
	if err != nil {
		return err
	}
	defer release()
	rest, ok := strings.CutPrefix(server.RawPath(r), "/v1/")
	if !ok {
		return api.Errorf(api.NotFound, "cannot find %s", r.URL.Path)
	}
	to, err := within("/v1", rest, r)
	if err != nil {
		return err
	}
	return h.pass(w, r, box, to)
}
