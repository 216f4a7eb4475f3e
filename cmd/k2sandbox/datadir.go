package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// dataDir returns the absolute path of the folder that keeps the managed Python:
// given, else $XDG_DATA_HOME/k2sandbox, else ~/.local/share/k2sandbox. A user
// without a home gets a folder of their own in the folder for temporary files.
func dataDir(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) { // others are to be ignored, says its specification
		return filepath.Join(base, "k2sandbox"), nil
	}
	if home := homeDir(); home != "" {
		return filepath.Join(home, ".local", "share", "k2sandbox"), nil
	}
	return privateTempDir()
}

func homeDir() string {
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return home
	}
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) && u.HomeDir != "/" {
		return u.HomeDir
	}
	return ""
}

// privateTempDir refuses a folder that somebody else could have laid there: the
// programs in it run as this user.
func privateTempDir() (string, error) {
	dir := filepath.Join(os.TempDir(), "k2sandbox-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make data folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("cannot use data folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(stat.Uid) != os.Getuid() {
		return "", fmt.Errorf("cannot use data folder %s: it is not this user's alone; give --data-dir", dir)
	}
	return dir, nil
}
