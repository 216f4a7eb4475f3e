package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

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
	addStateDir(cmd, &dir)
	return cmd
}

// addStateDir adds the flag that names a running server by its folder.
func addStateDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state-dir", "", "folder of the server's sandboxes, as \"k2sandbox serve --state-dir\" names it")
	_ = cmd.MarkFlagRequired("state-dir")
	_ = cmd.MarkFlagDirname("state-dir")
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
	backupPath = "/backup" // of the control socket
	backupTime = 5 * time.Minute
)

// askBackup has the server that runs in the folder copy its registry.
func askBackup(ctx context.Context, dir string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, backupTime)
	defer cancel()
	resp, err := askControl(ctx, dir, http.MethodGet, backupPath, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil { // one that is cut has no end of chunks
		return fmt.Errorf("cannot copy the registry: %w", err)
	}
	return nil
}

// serveBackup is askBackup's other side.
func serveBackup(w http.ResponseWriter, dir string, boxes *fleet.Fleet, log *slog.Logger) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(backupTime))
	n, err := sendBackup(w, dir, boxes)
	if err != nil {
		log.Error("cannot copy the registry", "error", err)
		panic(http.ErrAbortHandler) // no client takes it for whole
	}
	log.Info("audit", "did", "backup", "bytes", n)
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
