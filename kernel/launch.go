package kernel

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/process"
)

// Options says how to start a kernel. Only Spec is needed.
type Options struct {
	Spec Spec
	Cwd  string            // working directory; "" is that of this program
	Envs map[string]string // set over all else in the kernel's environment

	// Environ is what the environment starts from, "NAME=value". Nil takes
	// DefaultEnviron of this program's, which keeps its secrets from the kernel.
	Environ []string

	// RunDir is where the kernel's own directory (mode 0700: connection file,
	// sockets) is made; "" is the system's directory for temporary files. A socket's
	// path has at most 107 bytes.
	RunDir string

	Transport       string        // "ipc" (the default) or "tcp"
	StartTimeout    time.Duration // until the first answer; 0 is 60 s
	ShutdownTimeout time.Duration // of each step of Shutdown; 0 is 2.5 s
	MessageLimit    int64         // bytes of one message from the kernel; 0 is 256 MiB
	Log             *slog.Logger  // nil discards

	On     *process.Thread // whose confinement and user the kernel has; nil: this program's own
	Zygote *Zygote         // forks kernels of its interpreter that have PythonSpec's launcher; nil: none
}

const (
	defaultStartTimeout    = 60 * time.Second
	defaultShutdownTimeout = 2500 * time.Millisecond

	portTries  = 3     // starts over tcp, as another program may take a port in between
	lowestPort = 10000 // of those that we choose for a kernel: servers that people know of have lower ones
	leastPorts = 1000  // to choose from; where there are less, the system's are taken
)

// Start starts a kernel and returns when it answers. ctx bounds the start, not
// the kernel's life. An error tells what the process said before it ended.
func Start(ctx context.Context, o Options) (*Kernel, error) {
	k, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("cannot start kernel: %w", err)
	}
	return k, nil
}

func start(ctx context.Context, o Options) (*Kernel, error) {
	if err := o.Spec.launchable(); err != nil {
		return nil, err
	}
	o.Transport = cmp.Or(o.Spec.Transport, o.Transport, "ipc")
	if o.Transport != "ipc" && o.Transport != "tcp" {
		return nil, fmt.Errorf("option Transport: %q is not ipc or tcp", o.Transport)
	}
	if o.StartTimeout <= 0 {
		o.StartTimeout = defaultStartTimeout
	}
	if o.ShutdownTimeout <= 0 {
		o.ShutdownTimeout = defaultShutdownTimeout
	}
	if o.Environ == nil {
		o.Environ = DefaultEnviron(os.Environ())
	}
	k := newKernel(o)
	if err := k.prepare(); err != nil {
		k.Close()
		return nil, err
	}
	if err := k.launch(ctx); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// prepare starts the kernel's guardian and says where its directory and its
// sockets will be. The guardian comes first: nothing is left without one.
func (k *Kernel) prepare() error {
	parent := k.options.RunDir
	if parent == "" {
		parent = os.TempDir()
	}
	parent, err := filepath.Abs(parent)
	if err == nil {
		parent, err = filepath.EvalSymlinks(parent)
	}
	if err != nil {
		return fmt.Errorf("RunDir: %w", err)
	}
	k.dir = filepath.Join(parent, "k2-"+crand.Text()[:10])
	if k.guard, err = process.NewGuard(k.dir); err != nil {
		return err
	}
	k.file = filepath.Join(k.dir, "connection.json")
	k.conn = wire.ConnectionInfo{
		Transport: k.options.Transport, Key: crand.Text(), SignatureScheme: "hmac-sha256",
		KernelName: k.options.Spec.Name,
	}
	if k.options.Transport == "ipc" {
		k.conn.IP = filepath.Join(k.dir, "s")
		setPorts(&k.conn, []int{1, 2, 3, 4, 5})
		if err := k.conn.Validate(); err != nil {
			return fmt.Errorf("RunDir %s: %w", parent, err)
		}
	} else {
		k.conn.IP = "127.0.0.1"
	}
	return nil
}

// furnish makes the kernel's directory anew, with the connection file and, for who has not read it yet, the
// launcher: what the process before left in it, sockets or worse, is gone.
func (k *Kernel) furnish(launcher fs.FS) error {
	if err := k.remake(); err != nil {
		return err
	}
	if k.conn.HBPort == 0 && !k.options.Spec.ipykernel() {
		ports, err := freePorts(5)
		if err != nil {
			return err
		}
		setPorts(&k.conn, ports)
	}
	data, err := json.Marshal(k.conn)
	if err != nil {
		return err
	}
	if launcher != nil {
		if err := os.CopyFS(k.dir, launcher); err != nil {
			return err
		}
	}
	if err := os.WriteFile(k.file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(k.file+".new", k.file)
}

// remake makes the kernel's directory anew, which a process that has just been killed can have made, too, meanwhile.
func (k *Kernel) remake() error {
	for try := 1; ; try++ {
		if err := os.RemoveAll(k.dir); err != nil {
			return err
		}
		if err := os.Mkdir(k.dir, 0o700); !errors.Is(err, fs.ErrExist) || try == 10 {
			return err
		}
	}
}

func (k *Kernel) launcher() string { return filepath.Join(k.dir, "launcher.py") }

// launch starts a process and makes it the kernel's life once it answers.
func (k *Kernel) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.options.StartTimeout)
	defer cancel()
	defer context.AfterFunc(k.alive, cancel)()
	for try := 1; ; try++ {
		l, err := k.spawn(ctx)
		if err == nil {
			k.mu.Lock()
			k.life = l
			close(k.changed)
			k.changed = make(chan struct{})
			k.mu.Unlock()
			return nil
		}
		var taken *portTaken
		if k.options.Transport == "tcp" && errors.As(err, &taken) && try < portTries && ctx.Err() == nil {
			setPorts(&k.conn, make([]int, 5))
			continue
		}
		if k.alive.Err() != nil {
			return ErrClosed
		}
		return err
	}
}

// spawn starts a process and connects to it: one that the zygote forks, where it can, or
// else a new program.
func (k *Kernel) spawn(ctx context.Context) (*life, error) {
	spec := &k.options.Spec
	argv := spec.command(map[string]string{
		"connection_file": k.file, "resource_dir": spec.ResourceDir, "prefix": spec.Prefix, "launcher": k.launcher(),
	}, process.Variable(k.options.Environ, "HOME"))
	program := argv[0]
	if isProgram(spec.Interpreter) { // code may have removed it
		argv[0] = spec.Interpreter
	}
	command := process.Command{
		Args: argv, Dir: k.options.Cwd, Env: environ(k.options.Environ, spec, argv[0], k.options.Envs),
		KillGroup: true, Guard: k.guard, On: k.options.On,
	}
	if b := k.options.Zygote.birth(spec, &command); b != nil {
		l, err := k.forked(ctx, command, b, program)
		if err == nil || ctx.Err() != nil {
			return l, err
		}
		k.log.Warn("kernel was not forked and starts anew", "name", spec.Name, "error", err)
		if err := k.guard.Sweep(); err != nil { // a zygote that is gone may have forked it all the same
			return nil, err
		}
	}
	return k.begin(ctx, command, program)
}

// forked begins a life by the zygote. It leaves time for a start without.
func (k *Kernel) forked(ctx context.Context, command process.Command, b *birth, program string) (*life, error) {
	ctx, cancel := context.WithTimeout(ctx, min(bornTime, k.options.StartTimeout/2))
	defer cancel()
	command.Fork = func(env []string, stdin, stdout, stderr *os.File) (int, error) {
		return k.options.Zygote.fork(ctx, b, env, stdin, stdout, stderr)
	}
	return k.begin(ctx, command, program)
}

// begin starts the process and connects to it. What fails to start is cleared away.
func (k *Kernel) begin(ctx context.Context, command process.Command, program string) (*life, error) {
	launcher := k.options.Spec.launcher
	if command.Fork != nil { // by who has read it
		launcher = nil
	}
	if err := k.furnish(launcher); err != nil {
		return nil, err
	}
	l := newLife()
	l.forked = command.Fork != nil
	command.Stdout, command.Stderr = l.tail, l.tail
	var err error
	if l.proc, err = process.Start(command); err != nil {
		return nil, err
	}
	if err = k.readPorts(ctx, l); err == nil {
		l.conv, err = open(ctx, openOptions{
			info: k.conn, limit: k.options.MessageLimit, died: l.proc.Done(),
			stray: k.strays.push, hear: k.ears.hear, broken: l.fail, log: k.log,
		})
	}
	if err != nil {
		err = l.failure(&k.options.Spec, program, late(ctx, err))
		k.clear(l)
		return nil, err
	}
	l.sockets = process.Sockets(l.proc.Pid())
	k.log.Info("kernel started", "name", k.options.Spec.Name, "pid", l.proc.Pid())
	go k.supervise(l) // ends with the process
	return l, nil
}

// readPorts waits until ipykernel has bound ports of its own choice and merged
// them into the file. That way no other program can be faster.
func (k *Kernel) readPorts(ctx context.Context, l *life) error {
	if k.conn.HBPort != 0 {
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(k.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is removed before it is written again
			return err
		}
		if c, err := wire.ParseConnection(data); err == nil { // not while a port is 0
			setPorts(&k.conn, []int{int(c.ShellPort), int(c.IOPubPort), int(c.StdinPort), int(c.ControlPort), int(c.HBPort)})
			return nil
		}
		select {
		case <-tick.C:
		case <-l.proc.Done():
			return errors.New("it has bound no ports")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// freePorts returns n ports that nobody has. They are none of those that the system hands out, as to all that ask for
// any port of a kernel's own between now and its bind.
func freePorts(n int) ([]int, error) {
	if room := ephemeral() - lowestPort; room >= leastPorts {
		if ports, err := listen(n, func() int { return lowestPort + rand.N(room) }); err == nil {
			return ports, nil
		}
	}
	return listen(n, func() int { return 0 })
}

// listen finds n ports that can be listened at, among those that next proposes, and lets them go again.
func listen(n int, next func() int) ([]int, error) {
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(next())))
		if errors.Is(err, syscall.EADDRINUSE) && tries < 1000 {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer l.Close() // none twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// ephemeral returns the first of the ports that the system hands out, or 0 where it does not tell.
func ephemeral() int {
	said, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(said), "\t")
	port, _ := strconv.Atoi(first)
	return port
}

func setPorts(c *wire.ConnectionInfo, p []int) {
	c.ShellPort, c.IOPubPort, c.StdinPort = wire.Port(p[0]), wire.Port(p[1]), wire.Port(p[2])
	c.ControlPort, c.HBPort = wire.Port(p[3]), wire.Port(p[4])
}

// portTaken is the failure of a kernel that could not bind, or of whose ports another program has one.
type portTaken struct{ error }

func (e *portTaken) Unwrap() error { return e.error }

var (
	inUse    = lazy.Regexp(`(?i)address (is )?already in use|EADDRINUSE`)
	noModule = lazy.Regexp(`No module named '?([A-Za-z0-9_]+)`)
)

// late says in plain words that an error is that of the time limit. A dial may
// tell of it a moment before ctx does.
func late(ctx context.Context, err error) error {
	deadline, ok := ctx.Deadline()
	if ok && !time.Now().Before(deadline) {
		return fmt.Errorf("it did not answer in time: %w", context.DeadlineExceeded)
	}
	return err
}

// failure says why the process did not become a kernel, with the usual cause in plain words.
func (l *life) failure(spec *Spec, program string, err error) error {
	select {
	case <-l.proc.Done():
	default:
		l.proc.Close()                                 // so that all is read that it said
		return &portTaken{withTail(err, said(l.tail))} // for all we know: who answered is no kernel
	}
	exit, tail := l.proc.Exit(), said(l.tail)
	death := &wire.Death{Code: exit.Code, Signal: exit.Signal, OOM: exit.OOM, Stderr: tail}
	if m := noModule().FindStringSubmatch(tail); m != nil {
		module := strings.TrimSuffix(m[1], "_launcher")
		if spec.launcher != nil {
			module = "ipykernel" // or what it needs
		}
		return fmt.Errorf("%s is not installed for %s; this installs it: %s -m pip install %s (%w)",
			module, program, program, module, death)
	}
	err = withTail(death, tail)
	if inUse().MatchString(tail) {
		err = &portTaken{err}
	}
	return err
}

func withTail(err error, tail string) error {
	if tail == "" {
		return err
	}
	return fmt.Errorf("%w; it said:\n%s", err, tail)
}
