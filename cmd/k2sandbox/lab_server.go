package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

// labOptions say how to start the server of JupyterLab.
type labOptions struct {
	interpreter string
	folder      string // of what it keeps: settings, and what was open
	notebooks   string // the folder whose files it has, unless a sandbox has them
	token       string
	kernels     string // the URL of a gateway that knows the token, for the kernels of sessions
	sandboxed   bool   // files, sessions and terminals are those of a sandbox
}

// labServer is the server of JupyterLab: of its pages and settings. Nothing can be run in it: see labFront.
type labServer struct {
	process   *process.Process
	guard     *process.Guard
	transport *http.Transport
	words     *lastWords
}

// labFlags are those that need nothing but to be there. No package is installed by a page, and nobody asked for news.
var labFlags = []string{
	"--no-browser", "--allow-root", "--LabApp.extension_manager=readonly", "--LabApp.news_url=None",
	"--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
	"--KernelSpecManager.ensure_native_kernel=False", "--KernelSpecManager.allowed_kernelspecs={'-'}", // for none here
	"--ServerApp.quit_button=False", "--ServerApp.sock_mode=0600",
}

// startLab starts it on a socket in a folder that goes with it, and returns when it answers.
func startLab(ctx context.Context, o labOptions) (*labServer, error) {
	guard, dir, err := process.NewGuardedDir("", "k2-lab-")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "lab.sock")
	s := &labServer{guard: guard, words: &lastWords{}, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 16,
	}}
	state := filepath.Join(o.folder, "state")
	kept, root, terminals := state, o.notebooks, "False"
	if o.sandboxed { // what is open belongs to a sandbox, and so do settings, which what it shows can change: they are gone with it
		kept, root, terminals = dir, filepath.Join(dir, "empty"), "True"
	}
	if err := errors.Join(configureLab(filepath.Join(state, "config", "labconfig")), os.MkdirAll(filepath.Join(dir, "empty"), 0o700)); err != nil {
		return nil, errors.Join(err, guard.Close())
	}
	s.process, err = process.Start(process.Command{
		Args: append([]string{o.interpreter, "-I", "-m", "jupyterlab", "--ServerApp.sock=" + socket, "--ServerApp.root_dir=" + root,
			"--ServerApp.terminals_enabled=" + terminals, "--gateway-url=" + o.kernels}, labFlags...),
		Dir: dir, Guard: guard, KillGroup: true, Stdout: s.words, Stderr: s.words,
		Env: append(labEnviron(), "JUPYTER_TOKEN="+o.token, "JUPYTER_GATEWAY_AUTH_TOKEN="+o.token, "JUPYTER_RUNTIME_DIR="+filepath.Join(dir, "run"),
			"JUPYTER_CONFIG_DIR="+filepath.Join(state, "config"), "JUPYTER_DATA_DIR="+filepath.Join(state, "data"), "IPYTHONDIR="+filepath.Join(state, "ipython"),
			"JUPYTERLAB_SETTINGS_DIR="+filepath.Join(kept, "settings"), "JUPYTERLAB_WORKSPACES_DIR="+filepath.Join(kept, "workspaces")),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start JupyterLab: %w", err), guard.Close())
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// labPages turns off what its pages have for what is not there: news, and packages to install.
const labPages = `{"disabledExtensions": {
	"@jupyterlab/apputils-extension:announcements": true,
	"@jupyterlab/extensionmanager-extension": true
}}
`

func configureLab(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "page_config.json"), []byte(labPages), 0o600)
}

// labEnviron is this program's environment without what is about other servers and Pythons.
func labEnviron() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "JUPYTER") && !strings.HasPrefix(v, "PYTHON") && !strings.HasPrefix(v, "K2_") {
			env = append(env, v)
		}
	}
	return env
}

// labStart is how long JupyterLab may take until it answers.
const labStart = time.Minute

// ready waits until it answers.
func (s *labServer) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, labStart, errors.New("it does not answer"))
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/api", nil)
		if err != nil {
			return err
		}
		resp, err := s.transport.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case <-s.process.Done():
			return s.failed()
		case <-ctx.Done():
			return fmt.Errorf("cannot start JupyterLab: %w%s", context.Cause(ctx), s.words)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// failed returns why it has ended; nil where it has not.
func (s *labServer) failed() error {
	select {
	case <-s.process.Done():
	default:
		return nil
	}
	exit := s.process.Exit()
	return fmt.Errorf("JupyterLab has ended with status %d %s%s", exit.Code, exit.Signal, s.words)
}

// close ends it, and by that the kernels of its sessions, and returns why it had ended before.
func (s *labServer) close() error {
	err := s.failed()
	s.process.Stop(context.Background(), closing)
	s.process.Close()
	s.transport.CloseIdleConnections()
	return errors.Join(err, s.guard.Close())
}

// proxy sends requests to it as those of its user, whom who calls has checked.
func (s *labServer) proxy(token string) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: s.transport, FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "localhost", p.In.Host
			p.Out.Header.Set("Authorization", "token "+token)
			p.Out.Header.Del("Cookie")
			p.Out.Header.Del("Origin")
		},
	}
}

// lastWords keeps the end of what a program says.
type lastWords struct {
	mu   sync.Mutex
	said []byte
}

const longestWords = 2000

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, p...)
	w.said = w.said[max(0, len(w.said)-longestWords):]
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.said) == 0 {
		return ""
	}
	return ":\n" + strings.TrimRight(strings.ToValidUTF8(string(w.said), ""), "\n")
}
