package jupyter

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

const (
	atOnce      = 16  // agents that are asked at a time
	mostKernels = 256 // that an agent can tell of
)

// kernels returns those of all sandboxes that the caller may see, the oldest sandbox's first. An agent that does not
// answer in time has those that it told of last.
func (a *API) kernels(r *http.Request) ([]api.JupyterKernel, error) {
	infos, err := a.visible(r)
	if err != nil {
		return nil, err
	}
	return gather(r.Context(), infos, func(ctx context.Context, info fleet.Info) []api.JupyterKernel {
		found, err := a.askKernels(ctx, info)
		if err != nil {
			return a.standIn(info)
		}
		a.seen.put(a.o.Fleet, info.ID, found)
		return found
	}), nil
}

// gather asks agents, several at a time, and returns all that they have told.
func gather[T any](ctx context.Context, infos []fleet.Info, ask func(context.Context, fleet.Info) []T) []T {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	slices.SortFunc(infos, func(x, y fleet.Info) int { return x.CreatedAt.Compare(y.CreatedAt) })
	told := make([][]T, len(infos))
	var work sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i, info := range infos {
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			told[i] = ask(ctx, info)
		})
	}
	work.Wait()
	return append([]T{}, slices.Concat(told...)...)
}

// askKernels asks the agent of a sandbox for its kernels, which is no activity. The default context of a sandbox that
// was made for a kernel of another kind is none of them.
func (a *API) askKernels(ctx context.Context, info fleet.Info) ([]api.JupyterKernel, error) {
	box, err := a.o.Fleet.Look(info.ID)
	if err != nil {
		return nil, err
	}
	var all []api.JupyterKernel
	if err := ask(ctx, box, http.MethodGet, "/api/kernels", nil, &all); err != nil {
		return nil, err
	}
	if len(all) > mostKernels {
		return nil, senseless(box, "it has %d kernels", len(all))
	}
	made := info.Labels[labelKernel]
	hidden := ""
	if made != "" && !a.isDefault(made) {
		hidden = api.KernelID(info.ID, agent.DefaultContext)
	}
	return slices.DeleteFunc(all, func(k api.JupyterKernel) bool { return !checkKernel(info.ID, &k) || k.ID == hidden }), nil
}

// standIn returns the kernels of a sandbox that is paused, or does not answer: clients are to know that they are
// there still.
func (a *API) standIn(info fleet.Info) []api.JupyterKernel {
	now, err := a.o.Fleet.Get(info.ID)
	if err != nil || now.State != fleet.Running && now.State != fleet.Paused {
		return nil
	}
	known := a.seen.get(info.ID)
	made := info.Labels[labelKernel]
	if known == nil && (made == "" || a.isDefault(made)) {
		known = []api.JupyterKernel{{ID: api.KernelID(info.ID, agent.DefaultContext), Name: a.o.Kernel.Name}}
	}
	for i := range known {
		known[i].ExecutionState, known[i].Connections, known[i].LastActivity = "unknown", 0, api.JupyterTime{Time: now.LastActiveAt}
	}
	return known
}

// isDefault reports whether a kernel is that of a sandbox's default context.
func (a *API) isDefault(name string) bool {
	return strings.EqualFold(a.o.Kernel.Name, name)
}

// seen are the kernels that agents told of last, of sandboxes that there are.
type seen struct {
	mu      sync.Mutex
	kernels map[string][]api.JupyterKernel // by sandbox
	swept   time.Time
}

func (s *seen) get(id string) []api.JupyterKernel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kernels[id])
}

func (s *seen) put(f *fleet.Fleet, id string, kernels []api.JupyterKernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernels == nil {
		s.kernels = map[string][]api.JupyterKernel{}
	}
	s.kernels[id] = slices.Clone(kernels)
	if time.Since(s.swept) < time.Minute {
		return
	}
	s.swept = time.Now()
	for id := range s.kernels {
		if _, err := f.Get(id); err != nil {
			delete(s.kernels, id)
		}
	}
}
