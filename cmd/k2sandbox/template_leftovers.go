package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local"
	"github.com/k2sandbox/k2sandbox/fleet/template"
)

// buildPrefix begins the names of directories of sandboxes in which templates are built.
const buildPrefix = "k2sandbox-build-"

// buildLock is the file in such a directory that its build has locked while it lives.
const buildLock = "lock"

// buildDir makes one. What is left of it goes with release, or, where this process is killed before, at the start of the next build or server.
func buildDir() (dir string, release func() error, err error) {
	if dir, err = os.MkdirTemp("", buildPrefix); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, buildLock), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if _, gone := os.Lstat(filepath.Join(dir, buildLock)); err == nil && gone != nil { // who clears has had the lock before
		lock.Close()
		return buildDir()
	}
	if err != nil {
		lock.Close()
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }, nil
}

// clearBuilds ends and removes what builds of this user have left that were killed.
func clearBuilds(store *template.Store, log *slog.Logger) {
	entries, _ := os.ReadDir(os.TempDir())
	for _, e := range entries {
		dir := filepath.Join(os.TempDir(), e.Name())
		if !strings.HasPrefix(e.Name(), buildPrefix) || !mine(dir) {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, buildLock), os.O_RDWR|unix.O_NOFOLLOW, 0)
		switch {
		case errors.Is(err, os.ErrNotExist) && !older(dir, time.Hour): // it may be about to be locked
			continue
		case err == nil:
			err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		case errors.Is(err, os.ErrNotExist):
			err = nil
		}
		if err == nil {
			err = local.Clear(local.Options{Dir: dir, Store: store, Log: log})
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			log.Warn("cannot remove what a build has left", "directory", dir, "error", err)
		}
		lock.Close()
	}
}

// mine reports whether a file is a directory that only this user may enter.
func mine(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

func older(file string, age time.Duration) bool {
	info, err := os.Lstat(file)
	return err == nil && time.Since(info.ModTime()) > age
}
