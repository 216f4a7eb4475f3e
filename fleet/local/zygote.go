package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
)

// Pauses before a zygote that has died soon is started again: the first, and the longest, to which
// they double; one that has lived for that long is started at once.
const zygotePause, zygoteRest = 500 * time.Millisecond, time.Minute

// zygote keeps a process running that forks kernels of one interpreter into sandboxes. Its
// methods are safe for concurrent use.
type zygote struct {
	interpreter string
	environ     []string
	log         *slog.Logger
	entries     chan *entry
	closed      <-chan struct{}
	cancel      context.CancelFunc
	done        sync.WaitGroup

	up                      atomic.Bool
	starts, forked, refused atomic.Int64
}

// entry is a sandbox to fork into.
type entry struct {
	Pidfd    *os.File   // of its first process, whose namespaces are entered; nil: none
	Inside   *os.File   // the end of a socket at which kernels are forked then
	Cgroups  []*os.File // cgroup.procs files of its control groups
	UID, GID int        // of the code inside; negative: those of this process
	Rules    cage.Rules
	Filter   []byte // that the rules speak of

	result chan error
}

// newZygote returns the zygote of an interpreter, which is started meanwhile. environ, "NAME=value",
// is what the kernels have, too: it has to be without secrets.
func newZygote(interpreter string, environ []string, log *slog.Logger) *zygote {
	ctx, cancel := context.WithCancel(context.Background())
	z := &zygote{interpreter: interpreter, environ: zygoteEnviron(environ), log: log, entries: make(chan *entry), closed: ctx.Done(), cancel: cancel}
	z.done.Go(func() { z.keep(ctx) }) // ends with Close
	return z
}

// zygoteEnviron returns the environment of a zygote whose kernels have another: the home of the user inside is nobody's yet.
func zygoteEnviron(environ []string) []string { return withVariables(environ, []string{"HOME=/"}) }

// Close ends the process. What it has forked goes on.
func (z *zygote) Close() {
	z.cancel()
	z.done.Wait()
}

// fork forks into a sandbox. It returns when the forked process is confined, and asks for requests
// at the socket. ctx bounds the wait for those that came before; the files stay the caller's.
func (z *zygote) fork(ctx context.Context, e entry) error {
	e.result = make(chan error, 1)
	select {
	case z.entries <- &e:
	case <-ctx.Done():
		return fmt.Errorf("cannot fork into the sandbox: %w", ctx.Err())
	case <-z.closed:
		return errors.New("cannot fork into the sandbox: the zygote is closed")
	}
	if err := <-e.result; err != nil {
		z.refused.Add(1)
		return fmt.Errorf("cannot fork into the sandbox: %w", err)
	}
	z.forked.Add(1)
	return nil
}

// keep has one process run until ctx ends; then everybody is told.
func (z *zygote) keep(ctx context.Context) {
	for pause := time.Duration(0); ; pause = min(max(2*pause, zygotePause), zygoteRest) {
		began := time.Now()
		err := z.run(ctx)
		if ctx.Err() == nil {
			z.log.Warn("the zygote has ended and is started again", "interpreter", z.interpreter, "error", err)
		}
		if time.Since(began) > zygoteRest {
			pause = 0
		}
		for after := time.After(pause); after != nil; {
			select {
			case e := <-z.entries:
				e.result <- err
			case <-after:
				after = nil
			case <-ctx.Done():
				return
			}
		}
	}
}

// run starts the process, and hands entries to it until it or ctx ends.
func (z *zygote) run(ctx context.Context) error {
	z.starts.Add(1)
	h, err := startHost(ctx, z.interpreter, z.environ)
	if err != nil {
		return err
	}
	defer h.close()
	z.up.Store(true)
	defer z.up.Store(false)
	for {
		select {
		case e := <-z.entries:
			broken, err := h.fork(e)
			e.result <- err
			if broken {
				return err
			}
		case <-h.ended:
			return h.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// request is what the process is asked: see python/zygote.py.
type request struct {
	UID        *int       `json:"uid"`
	GID        *int       `json:"gid"`
	Rules      cage.Rules `json:"rules"`
	Filter     []byte     `json:"filter"`
	Namespaces bool       `json:"namespaces"`
	Cgroups    int        `json:"cgroups"`
}

// packet returns the entry as a request, and the files that go with it.
func (e *entry) packet() ([]byte, []*os.File, error) {
	r := request{Rules: e.Rules, Filter: e.Filter, Namespaces: e.Pidfd != nil, Cgroups: len(e.Cgroups)}
	if e.UID >= 0 {
		r.UID, r.GID = &e.UID, &e.GID
	}
	if e.Inside == nil {
		return nil, nil, errors.New("it has no socket")
	}
	var files []*os.File
	if r.Namespaces {
		files = append(files, e.Pidfd)
	}
	files = append(append(files, e.Inside), e.Cgroups...)
	text, err := json.Marshal(r)
	return text, files, err
}
