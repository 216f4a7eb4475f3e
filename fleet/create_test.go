package fleet_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestBadOptions(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{MaxTimeout: time.Hour})
	many := map[string]string{}
	for i := range 65 {
		many[strings.Repeat("k", i+1)] = ""
	}
	for field, bad := range map[string][]fleet.CreateOptions{
		"timeout":          {{Timeout: -1}, {Timeout: time.Hour + 1}},
		"template":         {{Template: strings.Repeat("x", 257)}, {Template: "a\nb"}},
		"cwd":              {{Cwd: "relative"}, {Cwd: "/a\x00b"}, {Cwd: "/" + strings.Repeat("x", 4096)}},
		"envs":             {{Envs: map[string]string{"": "x"}}, {Envs: map[string]string{"a=b": "x"}}, {Envs: map[string]string{"a": "\x00"}}, {Envs: map[string]string{"a": strings.Repeat("x", 1<<16)}}},
		"metadata":         {{Metadata: many}, {Metadata: map[string]string{"": "x"}}},
		"metadata.a":       {{Metadata: map[string]string{"a": "\xff"}}, {Metadata: map[string]string{"a": strings.Repeat("x", 1025)}}},
		"network.mode":     {{Network: fleet.Network{Mode: "some"}}},
		"limits.memory_mb": {{Limits: fleet.Limits{Memory: -1}}},
		"limits.cpus":      {{Limits: fleet.Limits{CPUs: -1}}},
	} {
		for _, o := range bad {
			_, _, err := f.Create(t.Context(), o)
			var told *api.Error
			if !errors.As(err, &told) || told.Code != api.InvalidRequest || told.Details["field"] != field {
				t.Errorf("%s: %v", field, err)
			}
		}
	}
	if h.started != 0 {
		t.Errorf("%d machines were started", h.started)
	}
	if _, err := fleet.Open(fleet.Options{Dir: t.TempDir()}); err == nil {
		t.Error("a fleet without a Runtime opens")
	}
}

// A sandbox tells what the runtime made of what was asked for.
func TestRuntimeCompletes(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	info, m := create(t, f, h, fleet.CreateOptions{})
	if info.Template != "default" || info.Cwd != "/home/user" || info.Network.Mode != "full" || info.Timeout != 300*time.Second {
		t.Errorf("%+v", info)
	}
	if m.spec.Template != info.Template || m.spec.Cwd != info.Cwd || !reflect.DeepEqual(m.spec.Network, info.Network) {
		t.Errorf("the runtime was asked for %+v", m.spec)
	}
	if _, _, err := f.Create(t.Context(), fleet.CreateOptions{Template: "none"}); !errors.Is(err, fleet.ErrUnknownTemplate) {
		t.Errorf("an unknown template: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	h := newHost(t)
	broken := errors.New("cannot mount overlay")
	h.start = func(context.Context, fleet.Spec) error { return broken }
	f := open(t, h, fleet.Options{})
	if _, _, err := f.Create(t.Context(), fleet.CreateOptions{}); !errors.Is(err, broken) {
		t.Errorf("Create: %v", err)
	}
	page, err := f.List(fleet.ListOptions{})
	if err != nil || len(page.Sandboxes) != 0 {
		t.Errorf("listed: %+v, %v", page, err)
	}
	if stats := f.Stats(); stats.Failed != 1 || stats.Created != 0 {
		t.Errorf("%+v", stats)
	}
}

// Whoever creates a sandbox and goes leaves nothing behind, at whatever moment.
func TestCreatorGoes(t *testing.T) {
	h := newHost(t)
	f := open(t, h, fleet.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	h.start = func(ctx context.Context, _ fleet.Spec) error { cancel(); <-ctx.Done(); return ctx.Err() }
	if _, _, err := f.Create(ctx, fleet.CreateOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("gone while it starts: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	h.start, h.after = nil, func(*machine) { cancel() }
	if _, _, err := f.Create(ctx, fleet.CreateOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("gone when it has started: %v", err)
	}
	if h.started != 1 || h.count() != 0 {
		t.Errorf("%d started, %d left", h.started, h.count())
	}
	page, err := f.List(fleet.ListOptions{})
	if err != nil || len(page.Sandboxes) != 0 {
		t.Errorf("listed: %+v, %v", page, err)
	}
}

// A sandbox can be killed while it is created, before or after its machine has started.
func TestKillWhileCreating(t *testing.T) {
	for _, when := range []string{"starting", "started"} {
		t.Run(when, func(t *testing.T) {
			h := newHost(t)
			f := open(t, h, fleet.Options{})
			reached := make(chan string)
			if when == "starting" {
				h.start = func(ctx context.Context, s fleet.Spec) error { reached <- s.ID; <-ctx.Done(); return ctx.Err() }
			} else {
				h.after = func(m *machine) { reached <- m.id; reached <- "" }
			}
			done := make(chan error)
			go func() { done <- second2(f.Create(t.Context(), fleet.CreateOptions{})) }()
			id := <-reached
			if got, err := f.Get(id); err != nil || got.State != fleet.Creating {
				t.Errorf("Get: %+v, %v", got, err)
			}
			for what, err := range map[string]error{"Use": third(f.Use(id)), "Pause": second(f.Pause(t.Context(), id)), "SetTimeout": second(f.SetTimeout(id, 0)), "History": second(f.History(id, time.Time{}))} {
				if !errors.Is(err, fleet.ErrState) {
					t.Errorf("%s: %v", what, err)
				}
			}
			killed := make(chan error)
			go func() { killed <- f.Kill(t.Context(), id) }()
			if when == "started" {
				for { // until the kill has begun
					if got, err := f.Get(id); err != nil || got.State == fleet.Ending {
						break
					}
				}
				<-reached
			}
			if err := <-done; !errors.Is(err, fleet.ErrGone) {
				t.Errorf("Create: %v", err)
			}
			if err := <-killed; err != nil {
				t.Errorf("Kill: %v", err)
			}
			wantGone(t, f, id, fleet.Killed)
			if h.count() != 0 {
				t.Error("it is not gone")
			}
		})
	}
}

// A start that takes too long is told as such, whatever the runtime says of it.
func TestStartTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start = func(ctx context.Context, _ fleet.Spec) error { <-ctx.Done(); return errors.New("signal: killed") }
		f := open(t, h, fleet.Options{})
		if _, _, err := f.Create(t.Context(), fleet.CreateOptions{}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("Create: %v", err)
		}
	})
}
