package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func backupCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the registry of a server, while it runs or not",
		Long: `Copy the registry of a server, while it runs or not: which sandboxes there are and have been, and the secret that their
access tokens are made of. The copy is whole, whatever goes on meanwhile. To restore it, put it into the folder of a server
that does not run, as registry.db. What is in sandboxes is not in it.`,
		Example: `  k2sandbox backup --state-dir /var/lib/k2sandbox/state /backup/registry.db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return backup(ctx, dir, args[0])
		},
	}
	cmd.Flags().StringVar(&dir, "state-dir", "", "folder of the server's sandboxes, as \"k2sandbox serve --state-dir\" names it")
	_ = cmd.MarkFlagRequired("state-dir")
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

// backup writes the file whole, or not at all.
func backup(ctx context.Context, dir, path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".k2-backup-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("cannot write the copy: %w", err)
	}
	defer os.Remove(f.Name()) // which fails once it has its name
	defer f.Close()
	_, err = fleet.Backup(dir, f)
	if errors.Is(err, fleet.ErrInUse) {
		err = askBackup(ctx, dir, f)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write the copy: %w", err)
	}
	return os.Rename(f.Name(), path)
}

const (
	controlSocket = "control.sock" // in a server's folder, which its user alone can enter
	backupTime    = 5 * time.Minute
)

// askBackup has the server that runs in the folder copy its registry.
func askBackup(ctx context.Context, dir string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, backupTime)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var conn net.Conn
		err := within(dir, func(path string) (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
			return err
		})
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/backup", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the server in %s: %w", dir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("the server in %s says: %s", dir, text)
	}
	if _, err := io.Copy(w, resp.Body); err != nil { // one that is cut has no end of chunks
		return fmt.Errorf("cannot copy the registry: %w", err)
	}
	return nil
}

// serveControl answers, in the server's folder, who may enter that. stop ends it.
func serveControl(dir string, boxes *fleet.Fleet, log *slog.Logger) (stop func(), err error) {
	var ln net.Listener
	err = within(dir, func(path string) error {
		_ = os.Remove(path) // of a server that was killed: one at a time has the registry
		ln, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen in %s: %w", dir, err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // the path is of a descriptor that is closed
	routes := http.NewServeMux()
	routes.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(backupTime))
		n, err := sendBackup(w, dir, boxes)
		if err != nil {
			log.Error("cannot copy the registry", "error", err)
			panic(http.ErrAbortHandler) // no client takes it for whole
		}
		log.Info("audit", "did", "backup", "bytes", n)
	})
	server := &http.Server{Handler: routes, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }() // until it is closed
	return func() {
		_ = server.Close()
		<-done
		_ = os.Remove(filepath.Join(dir, controlSocket))
	}, nil
}

// sendBackup copies the registry aside first: it cannot grow, or be closed, while it is read.
func sendBackup(w io.Writer, dir string, boxes *fleet.Fleet) (int64, error) {
	f, err := os.CreateTemp(dir, ".backup-*")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return 0, err
	}
	if _, err := boxes.Backup(f); err != nil {
		return 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, f)
}

// within calls use with a path to the control socket that is short enough for an address.
func within(dir string, use func(path string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", fd, controlSocket))
}
