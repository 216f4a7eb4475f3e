package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// state returns the folder of the sandboxes and what removes it, where it is for this
// process alone: nobody can come back to a port that was free by chance.
func (o *serving) state(ln net.Listener) (dir string, remove func(), err error) {
	if o.stateDir != "" {
		dir, err = filepath.Abs(o.stateDir)
		return dir, func() {}, err
	}
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		if home := homeDir(); home != "" {
			base = filepath.Join(home, ".local", "state")
		} else if base, err = privateTempDir(); err != nil {
			return "", nil, err
		}
	}
	base = filepath.Join(base, "k2sandbox")
	if !strings.HasSuffix(o.address, ":0") {
		return filepath.Join(base, folder(ln)), func() {}, nil
	}
	if o.onStop == "keep" {
		return "", nil, errors.New("--on-stop keep with a port that is free by chance: give --state-dir")
	}
	if err = os.MkdirAll(base, 0o700); err == nil {
		dir, err = os.MkdirTemp(base, "once-")
	}
	if err != nil {
		err = fmt.Errorf("cannot make the folder of the sandboxes, for which --state-dir names another place: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

// folder returns a name of a folder for a listener's address.
func folder(ln net.Listener) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == ':' {
			return '_'
		}
		return r
	}, strings.TrimPrefix(ln.Addr().String(), "/"))
}
