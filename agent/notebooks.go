package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// Errors of notebooks.
var (
	ErrBadNotebook      = errors.New("not a notebook")
	ErrBadParameter     = errors.New("a parameter cannot be given")
	ErrTooManyNotebooks = errors.New("too many notebooks are running")
)

const (
	maxNotebooks     = 16        // that run
	keptNotebooks    = 64        // that have ended
	maxNotebookBytes = 256 << 20 // of one that is read from a file
)

// NotebookOptions say which notebook to run, and how.
type NotebookOptions struct {
	Path     string    // of a file; "": Notebook
	Notebook io.Reader // the notebook itself
	Output   string    // the file to which the executed notebook is saved; "": none

	Context string // "" is a new one, which ends with the run
	Kernel  string // of a new context; "": what the notebook names, or one of its language, or the default
	Cwd     string // of a new context; "": the directory of Path, or the sandbox's
	Envs    map[string]string

	Parameters []notebook.Parameter
	Run        notebook.Options // Save and the kernel's names are filled in
}

// notebooks are the runs of notebooks of a sandbox.
type notebooks struct {
	work sync.WaitGroup

	mu    sync.Mutex
	order []*Notebook // the oldest first
}

// RunNotebook begins to run a notebook and returns when its first cell can begin. ctx
// bounds that alone. The executed notebook is saved after each cell, and however the
// run ends. Errors are those of reading it, ErrBadNotebook, ErrBadParameter,
// ErrTooManyNotebooks, and of Context and CreateContext.
func (s *Sandbox) RunNotebook(ctx context.Context, o NotebookOptions) (*Notebook, error) {
	nb, err := readNotebook(s.files, o)
	if err != nil {
		return nil, err
	}
	spec, err := s.kernelFor(nb, o)
	if err != nil {
		return nil, err
	}
	warnings, err := nb.Parameterize(o.Parameters, spec.Language, cmp.Or(spec.Name, o.Kernel))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadParameter, err)
	}
	nb.Warnings = append(nb.Warnings, warnings...)
	n := &Notebook{
		id: "nb_" + strings.ReplaceAll(wire.NewID(), "-", ""), box: s, o: o, document: nb,
		created: time.Now(), cells: len(nb.Cells), state: executor.Running,
		log: journal.New(journal.Options{Memory: 1 << 20, Limit: cmp.Or(s.o.Executor.LogLimit, 1<<30), Spill: s.o.Executor.Spill}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := s.notebooks.add(n, s.o.Keep); err != nil {
		return nil, err
	}
	if err := n.open(ctx); err != nil {
		s.notebooks.remove(n)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.notebooks.remove(n)
		return nil, ErrClosed
	}
	s.notebooks.work.Go(n.run)
	return n, nil
}

func readNotebook(root *files.Root, o NotebookOptions) (*notebook.Notebook, error) {
	content := o.Notebook
	if o.Path != "" {
		f, err := root.Open(o.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if content = f.Sized(); f.Sized() == nil {
			content = f.Stream()
		}
	}
	limited := &io.LimitedReader{R: content, N: maxNotebookBytes + 1}
	nb, err := notebook.Read(limited)
	switch {
	case limited.N == 0:
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrBadNotebook, maxNotebookBytes)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrBadNotebook, err)
	}
	return nb, nil
}

// open finds the context for the notebook's cells, or makes it. Before that it saves
// the notebook, which shows whether it can be saved.
func (n *Notebook) open(ctx context.Context) error {
	s := n.box
	if n.o.Run.PrepareOnly {
		n.o.Run.KernelName = n.o.Kernel
		return n.save(n.document)
	}
	n.own = n.o.Context == ""
	n.in(n.o.Context)
	var want ContextOptions
	var err error
	if n.own {
		want, err = s.contextFor(n.document, n.o)
	} else {
		_, err = s.room(n.context)
	}
	if err != nil {
		return err
	}
	if err := n.save(n.document); err != nil {
		return err
	}
	if n.own {
		info, err := s.CreateContext(ctx, want)
		if err != nil {
			return err
		}
		n.in(info.ContextID)
	}
	r, err := s.room(n.context)
	if err != nil {
		return err
	}
	n.o.Run.KernelName, n.o.Run.KernelDisplay = r.spec.Name, r.spec.DisplayName
	return nil
}

func (n *Notebook) in(context string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.context = context
}

// kernelFor returns the kernel that the cells will run in, which says in what language
// parameters are set; the zero Spec where none will.
func (s *Sandbox) kernelFor(nb *notebook.Notebook, o NotebookOptions) (kernel.Spec, error) {
	if o.Run.PrepareOnly {
		return kernel.Spec{}, nil
	}
	if o.Context != "" {
		r, err := s.room(o.Context)
		if err != nil {
			return kernel.Spec{}, err
		}
		return r.spec, nil
	}
	want, err := s.contextFor(nb, o)
	if err != nil {
		return kernel.Spec{}, err
	}
	return s.spec(want)
}

// contextFor returns what context the notebook wants: with the kernel that it names,
// where there is none of that name one of its language.
func (s *Sandbox) contextFor(nb *notebook.Notebook, o NotebookOptions) (ContextOptions, error) {
	want := ContextOptions{Kernel: cmp.Or(o.Kernel, nb.Kernel()), Cwd: o.Cwd, Envs: o.Envs}
	if want.Cwd == "" && o.Path != "" {
		base := s.o.Cwd
		if filepath.IsAbs(o.Path) {
			base = cmp.Or(s.o.Root, "/")
		}
		want.Cwd = filepath.Join(base, filepath.Dir(o.Path))
	}
	if want.Kernel == "" && !slices.Contains([]string{"python", "ipython"}, nb.Language()) {
		want.Language = nb.Language()
	}
	_, err := s.spec(want)
	if err == nil || o.Kernel != "" || nb.Language() == "" {
		return want, err
	}
	want.Kernel, want.Language = "", nb.Language()
	if _, other := s.spec(want); other != nil {
		return want, err // which names what the notebook asks for
	}
	return want, nil
}

// add keeps the run, and forgets the oldest that have ended.
func (k *notebooks) add(n *Notebook, keep Keep) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	open := 0
	for _, one := range k.order {
		if !closed(one.Done()) {
			open++
		}
	}
	if open >= maxNotebooks {
		return fmt.Errorf("%w: %d at most", ErrTooManyNotebooks, maxNotebooks)
	}
	keep.Runs = keptNotebooks
	k.order = append(prune(k.order, keep, func(*Notebook) {}), n)
	return nil
}

// remove forgets a run that did not begin.
func (k *notebooks) remove(n *Notebook) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.order = slices.DeleteFunc(k.order, func(one *Notebook) bool { return one == n })
	n.cancel()
}

// Notebook returns the run of a notebook by its id; ErrNotFound where there is none, or no longer.
func (s *Sandbox) Notebook(id string) (*Notebook, error) {
	for _, n := range s.Notebooks() {
		if n.id == id {
			return n, nil
		}
	}
	return nil, fmt.Errorf("notebook %q: %w", id, ErrNotFound)
}

// Notebooks returns the runs of notebooks that are kept, the newest first.
func (s *Sandbox) Notebooks() []*Notebook {
	s.notebooks.mu.Lock()
	defer s.notebooks.mu.Unlock()
	all := slices.Clone(s.notebooks.order)
	slices.Reverse(all)
	return all
}
