package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The folders of a server of one's own are those that the Python package chooses (_folders.py), so that both have one server.

// longestSocket is how many bytes the path of a unix socket may have.
const longestSocket = 107

// sharedData is where root's files are that the users of sandboxes read.
const sharedData = "/var/lib"

// runtimeFolder returns a folder that is this user's alone, for sockets whose names have so many bytes.
func runtimeFolder(rest int) (string, error) {
	mine := fmt.Sprintf("k2sandbox-%d", os.Geteuid())
	folders := []string{filepath.Join(os.TempDir(), mine), filepath.Join("/tmp", mine)}
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		folders = slices.Insert(folders, 0, filepath.Join(base, "k2sandbox"))
	}
	var problems []error
	for _, folder := range folders {
		err := private(folder)
		if err == nil && len(folder)+1+rest > longestSocket {
			err = fmt.Errorf("%s is too long a path for a socket", folder)
		}
		if err == nil {
			return folder, nil
		}
		problems = append(problems, err)
	}
	return "", fmt.Errorf("there is no place for the server's socket: set XDG_RUNTIME_DIR to a folder that only you can enter: %w", errors.Join(problems...))
}

// private makes a folder where there is none, and refuses one that others could have made, or enter.
func private(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(stat.Uid) != os.Geteuid() || info.Mode()&0o077 != 0 {
		return fmt.Errorf("%s is not this user's alone", folder)
	}
	return nil
}

// localState returns where what outlives a server is kept; "" where there is no home to write to.
func localState() string {
	base, mode := os.Getenv("XDG_STATE_HOME"), os.FileMode(0o700)
	if !filepath.IsAbs(base) {
		base = homeFolder(".local/state")
	}
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	folder := filepath.Join(base, "k2sandbox")
	if os.MkdirAll(folder, mode) != nil || syscall.Access(folder, 3) != nil { // W_OK and X_OK
		return ""
	}
	return folder
}

// localData returns where the Python is that code runs in; "" where the server itself knows it best.
func localData() string {
	_, err := os.Stat(filepath.Join(homeDir(), ".local/share/k2sandbox/python"))
	if filepath.IsAbs(os.Getenv("XDG_DATA_HOME")) || err == nil {
		return ""
	}
	return filepath.Join(homeFolder(".local/share"), "k2sandbox")
}

// homeFolder returns a folder of the home, or for root one where others can enter it.
func homeFolder(folder string) string {
	folder = filepath.Join(homeDir(), folder)
	if os.Geteuid() == 0 && !enterable(folder) {
		return sharedData
	}
	return folder
}

// enterable reports whether all users can enter a folder, or could if it were made.
func enterable(folder string) bool {
	for ; ; folder = filepath.Dir(folder) {
		if info, err := os.Stat(folder); err == nil && info.Mode()&0o001 == 0 {
			return false
		}
		if folder == filepath.Dir(folder) {
			return true
		}
	}
}

// localEnviron returns the environment of the server: nothing that is for its clients.
func localEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "K2_") })
}
