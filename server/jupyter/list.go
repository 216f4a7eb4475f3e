package jupyter

import (
	"context"
	"errors"
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
	atOnce      = 16                     // agents that are asked at a time
	mostKernels = 256                    // that an agent can tell of
	lateTime    = 250 * time.Millisecond // that an agent has for a list which was too late the last time
)

// kernels returns those of all sandboxes that the caller may see, the oldest sandbox's first. An agent that does not
// answer in time has those that it told of last.
func (a *API) kernels(r *http.Request) ([]api.JupyterKernel, error) {
	infos, err := a.visible(r)
	if err != nil {
		return nil, err
	}
	all := gather(r.Context(), a, infos, func(ctx context.Context, info fleet.Info) ([]api.JupyterKernel, error) {
		found, err := a.askKernels(ctx, info)
		if err != nil {
			return a.standIn(info), err
		}
		a.seen.put(info.ID, found)
		return found, nil
	})
	return slices.DeleteFunc(all, func(k api.JupyterKernel) bool {
		box, _, _ := api.ParseKernelID(k.ID)
		_, young := a.young.Load(box)
		return young
	}), nil
}

// gather asks agents, several at a time, and returns all that they have told.
func gather[T any](ctx context.Context, a *API, infos []fleet.Info, ask func(context.Context, fleet.Info) ([]T, error)) []T {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a.seen.sweep(a.o.Fleet)
	slices.SortFunc(infos, func(x, y fleet.Info) int { return x.CreatedAt.Compare(y.CreatedAt) })
	told := make([][]T, len(infos))
	var work sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i, info := range infos {
		free <- struct{}{}
		work.Go(func() {
			defer func() { <-free }()
			ctx, cancel := context.WithTimeout(ctx, a.seen.patience(info.ID))
			defer cancel()
			var err error
			told[i], err = ask(ctx, info)
			a.seen.judge(info.ID, errors.Is(err, context.DeadlineExceeded))
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
	known := []api.JupyterKernel{}
	for _, k := range all {
		if checkKernel(info.ID, &k) && k.ID != hidden {
			known = append(known, k)
		}
	}
	return known, nil
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

// seen is what was seen of agents, of sandboxes that there are.
type seen struct {
	mu      sync.Mutex
	kernels map[string][]api.JupyterKernel // that they told of last, by sandbox
	late    map[string]bool                // they did not answer in time: nobody is to wait for them that long again
	swept   time.Time
}

func (s *seen) get(id string) []api.JupyterKernel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kernels[id])
}

func (s *seen) put(id string, kernels []api.JupyterKernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernels == nil {
		s.kernels = map[string][]api.JupyterKernel{}
	}
	s.kernels[id] = slices.Clone(kernels)
}

// patience returns how long an agent may take for a list.
func (s *seen) patience(id string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late[id] {
		return lateTime
	}
	return askTime
}

// judge keeps whether an agent was late.
func (s *seen) judge(id string, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !late {
		delete(s.late, id)
		return
	}
	if s.late == nil {
		s.late = map[string]bool{}
	}
	s.late[id] = true
}

// sweep forgets, now and then, the sandboxes that have ended.
func (s *seen) sweep(f *fleet.Fleet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.swept) < time.Minute {
		return
	}
	s.swept = time.Now()
	for id := range s.kernels {
		if _, err := f.Get(id); err != nil {
			delete(s.kernels, id)
		}
	}
	for id := range s.late {
		if _, err := f.Get(id); err != nil {
			delete(s.late, id)
		}
	}
}
