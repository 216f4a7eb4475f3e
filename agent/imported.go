package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/packages"
)

// afterChange lets the kernels find what is new, and asks which of the modules that
// are others now they have imported. Kernels that are busy for longer than a moment
// are not waited for.
func (s *Sandbox) afterChange(ctx context.Context, change *packages.Change) (modules, contexts, unchecked []string) {
	if len(changedNames(change)) == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, r := range s.pythons() {
		work.Go(func() {
			found, err := imported(ctx, r.Context, change.Modules)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				unchecked = append(unchecked, r.ID())
			case len(found) > 0:
				modules, contexts = append(modules, found...), append(contexts, r.ID())
			}
		})
	}
	work.Wait()
	slices.Sort(modules)
	slices.Sort(contexts)
	slices.Sort(unchecked)
	return slices.Compact(modules), contexts, unchecked
}

const (
	turnTime   = 2 * time.Second // how long a kernel may be busy with something else
	answerTime = 5 * time.Second // how long kernels have, in all, to say what they have imported
)

// pythons returns the contexts whose kernels run in the sandbox's environment and live.
func (s *Sandbox) pythons() []*room {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rooms []*room
	for _, r := range s.contexts {
		if r.spec.Language == "python" && s.over(r.spec).Interpreter != "" && r.Status().State != "dead" {
			rooms = append(rooms, r)
		}
	}
	return rooms
}

// imported asks a kernel which of the modules it has imported. The cell leaves no
// name behind and is not counted.
func imported(ctx context.Context, c *executor.Context, modules []string) ([]string, error) {
	names, err := json.Marshal(orEmpty(modules)) // identifiers: the same in Python
	if err != nil {
		return nil, err
	}
	const code = `exec("import importlib, json, sys\nimportlib.invalidate_caches()\nprint(json.dumps([m for m in names if m in sys.modules]))", {"names": %s})`
	e, err := c.Submit(executor.Cell{Code: fmt.Sprintf(code, names), Silent: true, NoHistory: true})
	if err != nil {
		return nil, err
	}
	defer e.Evict()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	turn := time.AfterFunc(turnTime, cancel)
	defer turn.Stop()
	var text strings.Builder
	for event, err := range e.Events(ctx, 0) {
		if err != nil {
			_ = e.Interrupt(context.WithoutCancel(ctx)) // it leaves the queue
			return nil, err
		}
		switch event.Type {
		case executor.Start:
			turn.Stop()
		case executor.Stdout:
			text.WriteString(event.Text)
		}
	}
	var found []string
	if err := json.Unmarshal([]byte(text.String()), &found); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(m string) bool { return !slices.Contains(modules, m) }), nil // it may say anything
}
