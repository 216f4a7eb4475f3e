package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

func upgradeCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Have a running server start its program anew, which takes over with no failed request",
		Long: `Have a running server start its program anew, with the same arguments, environment and files of settings as these are by now.
The new process gets ready, takes the listeners and all sandboxes, and answers; requests that come meanwhile wait. What is
open then goes on in the old process, which ends after the last of it. Connections that code in sandboxes has to the outside are cut.

Where the new one does not start, the old one goes on, and this command tells why.`,
		Example: `  mv k2sandbox.new /usr/local/bin/k2sandbox && k2sandbox upgrade --state-dir /var/lib/k2sandbox/state`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			resp, err := askControl(ctx, dir, http.MethodPost, upgradePath, nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), resp.Body)
			return err
		},
	}
	addStateDir(cmd, &dir)
	return cmd
}

const upgradePath = "/upgrade" // of the control socket

// controls answers at the control socket.
func (f *facade) controls() http.Handler {
	routes := http.NewServeMux()
	serving := func(do func(w http.ResponseWriter, r *http.Request, b *backend)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var b *backend
			if f.mu.TryRLock() {
				b = f.backend
				f.mu.RUnlock()
			}
			if b == nil {
				http.Error(w, "it is just being upgraded", http.StatusConflict)
				return
			}
			do(w, r, b)
		}
	}
	routes.HandleFunc(http.MethodGet+" "+backupPath, serving(func(w http.ResponseWriter, _ *http.Request, b *backend) {
		serveBackup(w, f.dir, b.boxes, f.log)
	}))
	routes.HandleFunc(http.MethodPost+" "+usesPath, serving(serveUses))
	routes.HandleFunc(http.MethodPost+" "+upgradePath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(f.ctx, cancel)()
		pid, err := f.upgrade(ctx)
		if err != nil {
			f.log.Error("not upgraded", "error", err)
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		fmt.Fprintf(w, "process %d has taken over\n", pid)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-f.begun:
		case <-r.Context().Done():
			return
		}
		if r.Header.Get(forwardedHeader) == "" {
			routes.ServeHTTP(w, r)
			return
		}
		r, err := restored(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.ServeHTTP(w, r)
	})
}

// quietTime is how long requests that need more than a sandbox's agent may take to be answered before an upgrade, while
// others wait.
const quietTime = 30 * time.Second

// upgrade has a new process take over, and returns its pid. Where there is an error this one goes on.
func (f *facade) upgrade(ctx context.Context) (pid int, err error) {
	if os.Getpid() == 1 {
		return 0, errors.New("the first process of a container cannot be followed by another one: the container would end with it")
	}
	if !f.mu.TryLock() {
		return 0, errors.New("it is just being upgraded")
	}
	defer f.mu.Unlock()
	if f.backend == nil {
		return 0, errors.New("another process has taken over")
	}
	f.log.Info("a new process is to take over")
	next, err := startSuccessor(f.sockets, hello{Dir: f.dir, Temporary: f.temporary})
	if err != nil {
		return 0, err
	}
	ready, cancel := context.WithTimeout(ctx, prepareTime)
	defer cancel()
	if err = next.expect(ready); err == nil {
		quiet, cancel := context.WithTimeout(ctx, quietTime)
		defer cancel()
		err = f.gate.Shut(quiet)
	}
	if err != nil {
		next.end()
		return 0, errors.Join(err, f.backend.boxes.Sweep())
	}
	return f.handOver(next)
}

// handOver leaves all to a process that is ready. The gate is shut.
func (f *facade) handOver(next *successor) (pid int, err error) {
	begin := time.Now()
	known, err := f.backend.release()
	if err != nil {
		f.log.Error("not all sandboxes were left in peace", "error", err)
	}
	limit, cancel := context.WithTimeout(context.Background(), takeTime)
	defer cancel()
	if err = next.out.Encode(known); err == nil {
		err = next.expect(limit)
	}
	if err != nil {
		next.kill()
		return 0, f.takeBack(known, err)
	}
	f.backend, f.handedOver = nil, f.backend.boxes
	f.sockets.leave()
	f.gate.Open(forwarder(f.dir, f.log))
	close(f.handed)
	pid = next.cmd.Process.Pid
	next.conn.Close()
	notify(fmt.Sprintf("MAINPID=%d", pid))
	f.log.Info("a new process has taken over", "pid", pid, "seconds", time.Since(begin).Seconds())
	if f.ctx.Err() != nil { // whoever ended this server meant what has become of it
		next.stop()
	}
	return pid, nil
}

// takeBack has this process go on, which has let go of all for one that failed.
func (f *facade) takeBack(known memory, why error) error {
	b, err := f.prepare(context.Background())
	if err == nil {
		err = b.open(f.ctx, f, known)
	}
	if err != nil {
		err = fmt.Errorf("%w; and this one cannot go on: %w", why, err)
		f.failed <- err
		f.backend = nil
		f.gate.Open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			server.WriteJSON(w, http.StatusServiceUnavailable, api.ErrorBody{Error: *api.Errorf(api.Unavailable, "the server ends")})
		}))
		return err
	}
	if c, bad := serveControl(f.dir, f.controls(), f.log); bad != nil { // the other one may have taken the name
		f.log.Error("there will be no upgrade and no backup", "error", bad)
	} else {
		go f.control.server.Shutdown(context.Background()) // which answers what it is asked still, as who wants this upgrade
		f.control = c
	}
	f.backend = b
	f.gate.Open(b)
	return why
}

// notify tells the service manager, where there is one (sd_notify(3)).
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	if conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err == nil {
		defer conn.Close()
		_, _ = io.WriteString(conn, state)
	}
}
