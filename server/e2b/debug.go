package e2b

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// DebugPorts are the ports of this machine that clients in debug mode talk to: of the control plane, envd and the interpreter.
var DebugPorts = []int{controlPort, envdPort, interpreterPort}

// Debug returns the part of the API that a client in debug mode expects at one of DebugPorts. It lets everybody in,
// and takes what names no sandbox to be for the one that was created last, of those
// that need no token, or else for one that all such requests share.
func (a *API) Debug(port int) http.Handler { return newAPI(a.o, port, a.implicit) }

// implicitID is what clients in debug mode call the sandbox that they did not create.
const implicitID = "debug_sandbox_id"

// implicit is the sandbox of requests that name none, made when the first of them comes, and anew where it has ended.
type implicit struct {
	mu sync.Mutex
	id string
}

func (i *implicit) get(ctx context.Context, f *fleet.Fleet) (fleet.Info, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.id != "" {
		if info, err := f.Get(i.id); err == nil && info.State == fleet.Running {
			return info, nil
		}
	}
	labels := map[string]string{labelTemplate: e2bTemplates[0], labelInsecure: "true", labelImplicit: "true"}
	info, _, err := f.Create(context.WithoutCancel(ctx), fleet.CreateOptions{Labels: labels})
	if err != nil {
		return fleet.Info{}, err
	}
	i.id = info.ID
	return info, nil
}

// newest returns the sandbox of a request to a debug listener that names none, and has no token of one.
func (a *API) newest(ctx context.Context) (fleet.Info, error) {
	info, err := a.first(func(info fleet.Info) bool {
		return info.Labels[labelInsecure] != "" && info.Labels[labelImplicit] == "" && info.State == fleet.Running
	})
	if errors.Is(err, fleet.ErrNotFound) {
		return a.implicit.get(ctx, a.o.Fleet)
	}
	return info, err
}
