package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// link is a symbolic link.
type link struct{ path, target string }

// route walks an absolute path. It returns what is really there, and the links on the way.
func route(path string) (real string, links []link, err error) {
	real = "/"
	rest := parts(path)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			real = filepath.Dir(real)
			continue
		}
		next := filepath.Join(real, name)
		target, err := os.Readlink(next)
		if errors.Is(err, unix.EINVAL) { // no link
			real = next
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if links = append(links, link{next, target}); len(links) > 40 {
			return "", nil, &os.PathError{Op: "readlink", Path: path, Err: unix.ELOOP}
		}
		if filepath.IsAbs(target) {
			real = "/"
		}
		rest = append(parts(target), rest...)
	}
	return real, links, nil
}

// parts splits a path into names; ".." stays.
func parts(path string) []string {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// within reports whether the clean path is the directory or lies beneath it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}
