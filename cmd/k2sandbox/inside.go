package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/e2b/envd"
	"github.com/k2sandbox/k2sandbox/server/e2b/interpreter"
	"github.com/k2sandbox/k2sandbox/server/inside"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
	jupyterinside "github.com/k2sandbox/k2sandbox/server/jupyter/inside"
	mcpinside "github.com/k2sandbox/k2sandbox/server/mcp/inside"
	"github.com/k2sandbox/k2sandbox/sudo"
)

// insideCommand is what the server starts as the first process of each sandbox. It is no
// command of cobra's, as it is for nobody else and has no time to lose.
const insideCommand = "inside"

// control is the descriptor that the first process of a sandbox is started with.
const control = 3

// beInside is the agent of a sandbox, as its first process. It returns an exit status
// once the sandbox has ended.
func beInside() int {
	runtime.GOMAXPROCS(1) // what happens in a sandbox is quicker so, and it has its cores for its code
	withstandSignals()
	in, err := local.Enter(os.NewFile(control, "control"))
	if err == nil {
		reserveThreads(spareThreads)
		err = serveInside(in)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "k2sandbox:", err)
		return 1
	}
	return 0
}

// spareThreads are as many as an agent has in system calls at a time, most times.
const spareThreads = 12

// reserveThreads has Go make threads, which it keeps. Code inside can use up the sandbox's processes and threads,
// and Go ends a program that needs one and gets none.
func reserveThreads(n int) {
	release := make(chan struct{})
	var taken, given sync.WaitGroup
	for range n {
		taken.Add(1)
		given.Go(func() {
			runtime.LockOSThread() // so that it is not another's
			defer runtime.UnlockOSThread()
			taken.Done()
			<-release
		})
	}
	taken.Wait()
	close(release)
	given.Wait()
}

// withstandSignals has the first process of a PID namespace live on whatever it is sent from
// within; a write to a pipe that nobody reads, as when the server has gone, is an error as any other.
func withstandSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP,
		syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM,
		syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGSYS)
}

// lapsing is how long a sandbox may take to end what runs in it once its lease is over.
const lapsing = 2 * time.Minute

// serveInside starts what the sandbox is made of, and serves it until it is closed.
func serveInside(in *local.Inside) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("sandbox", in.ID)
	box, release, err := furnish(in, log)
	var died *wire.Death
	switch {
	case errors.Is(err, process.ErrDirectory):
		err = fmt.Errorf("%w: %w", fleet.ErrCwd, err) // it is the only one yet
	case errors.As(err, &died) && len(in.Envs) > 0:
		err = fmt.Errorf("%w: %w", fleet.ErrEnvs, err) // as kernels without them started before
	case errors.As(err, &died) && in.Image:
		err = fmt.Errorf("%w: %w", fleet.ErrTemplate, err)
	}
	if err != nil {
		_ = in.Ready(err)
		return err
	}
	defer release()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-box.Ended()
		cancel()
	}()
	if k, err := box.Kernel(""); err == nil {
		in.Forked = k.Forked()
	}
	if err := in.Ready(nil); err != nil {
		log.Warn("the server did not hear that the sandbox is ready", "error", err)
	}
	debug.SetGCPercent(50) // only now, as nothing is to be collected before
	var t tuning
	_ = json.Unmarshal(in.Agent, &t) // which options has read
	h := apis(box, in.ID, server.Options{Log: log, Behind: true, Version: version}, t.Ping)
	if in.Lease > 0 {
		l := newLease(in.Lease, func() {
			log.Warn("the sandbox ends, as no server has been heard of for long")
			time.AfterFunc(lapsing, func() { os.Exit(1) }) // and with it all else, whatever does not end
			_ = box.Kill(api.EndTimedOut)
		})
		defer l.end()
		h = l.handler(h)
	}
	return serveHTTP(ctx, in.Listener, h, log, box.Close)
}

// apis are the sandbox's: the native one, and below a path of its own a Jupyter server, each part of E2B's, and what MCP's
// tools ask for.
func apis(box *agent.Sandbox, id string, o server.Options, ping time.Duration) http.Handler {
	native := inside.New(box, o)
	sockets := o
	sockets.Ping = ping
	parts := map[string]http.Handler{api.MCPPath: mcpinside.New(box, o), jupyter.Path: jupyterinside.New(box, id, sockets)}
	o.Fail = e2b.Fail
	parts[e2b.EnvdPath], parts[e2b.InterpreterPath], parts[e2b.PortPath] = envd.New(box, o), interpreter.New(box, o), inside.Ports(o)
	return withParts(native, parts)
}

// withParts returns a handler that has others below paths of their own.
func withParts(native http.Handler, parts map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for path, part := range parts {
			if strings.HasPrefix(r.URL.Path, path+"/") {
				http.StripPrefix(path, part).ServeHTTP(w, r)
				return
			}
		}
		native.ServeHTTP(w, r)
	})
}

// furnish returns the sandbox and what lets go of what it was started with.
func furnish(in *local.Inside, log *slog.Logger) (box *agent.Sandbox, release func(), err error) {
	listeners := process.NewListeners()
	on, root, err := cage(in)
	if err != nil {
		listeners.Close()
		return nil, nil, err
	}
	var asked *sudo.Service
	if root != nil {
		asked = sudo.Serve(in.Sudo, root, log, uint32(in.UID), 0)
	}
	var zygote *kernel.Zygote
	release = func() {
		listeners.Close()
		if root != nil {
			asked.Close()
			root.Close()
		}
		on.Close()
		if zygote != nil {
			zygote.Close()
		}
	}
	if in.Zygote != nil {
		zygote, err = kernel.NewZygote(in.Zygote, in.Interpreter)
		in.Zygote.Close()
		if err == nil && in.Starting {
			zygote.Starting()
		}
	}
	if err == nil {
		var o agent.Options
		if o, err = options(in, on, zygote, log); err == nil {
			o.AsRoot, o.RootCommands, o.Listeners = root, in.Builds, listeners
			if root != nil {
				o.RootFiles = func() (*process.Thread, error) { return process.NewThread(in.EnterFiles, nil) }
			}
			box, err = agent.New(context.Background(), o)
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return box, release, nil
}

// cage returns the thread on which all code of the sandbox is started: as its user, where the agent
// is another one. root is the one for commands of root, nil where there is none.
func cage(in *local.Inside) (on, root *process.Thread, err error) {
	rules, err := in.Confine()
	if err != nil {
		return nil, nil, err
	}
	as := &process.Credential{UID: uint32(in.UID), GID: uint32(in.GID)}
	if os.Getuid() == in.UID {
		as = nil
	}
	if on, err = process.NewThread(rules.Enter, as); err != nil {
		return nil, nil, err
	}
	on.OOM = in.OOM
	if in.Sudo == nil {
		return on, nil, nil
	}
	if root, err = process.NewThread(in.Root().Enter, &process.Credential{}); err != nil {
		on.Close()
		return nil, nil, err
	}
	root.OOM = in.OOM
	return on, root, nil
}

func options(in *local.Inside, on *process.Thread, zygote *kernel.Zygote, log *slog.Logger) (agent.Options, error) {
	var t tuning
	if err := json.Unmarshal(in.Agent, &t); err != nil {
		return agent.Options{}, fmt.Errorf("cannot read the agent's settings: %w", err)
	}
	path := kernel.DefaultSearchPath(func(name string) string { return process.Variable(in.Environ, name) }, filepath.Dir(filepath.Dir(in.Interpreter)))
	spill := journal.TempStoreIn(in.Scratch)
	share := in.Limits.Disk / 8 // of the disk, for each of the kinds of logs that are kept
	o := agent.Options{
		Spec: t.Launcher.spec(in.Interpreter),
		Find: func(name string) (kernel.Spec, error) { return kernel.Find(name, path) },
		List: func() []kernel.Spec { specs, _ := kernel.List(path); return specs },
		Cwd:  in.Cwd, Envs: in.Envs, Log: log, On: on, Init: true,
		Isolation: api.Isolation{Mode: in.Level}, Network: in.Network.Mode,
		Start:    kernel.Options{RunDir: in.Scratch, Transport: transport(in.Scratch), Environ: in.Environ, Zygote: zygote},
		Executor: executor.Options{Spill: spill}, Processes: process.Options{Spill: spill},
	}
	if share > 0 {
		o.Keep.Disk, o.Processes.KeepDisk = share, share
	}
	t.apply(&o, share)
	if in.Packages != "" {
		o.Packages.Sites = []string{in.Packages}
	}
	return o, nil
}

// transport returns how kernels are spoken to whose directories are in one: by sockets in it, if their paths are
// short enough for Linux, else by ports. Only a sandbox without a root of its own has its directories in deep places.
func transport(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil && len(real) > 80 {
		return "tcp"
	}
	return "ipc"
}
