package envd

import (
	"net/http"
	gopath "path"
	"strings"
)

// A sandbox has one user, whom code, commands and files belong to, and who goes by these
// names; E2B's clients name one of them.
func known(name string) bool { return name == "user" || name == "root" }

// owner is the name that clients know the sandbox's user, and its group, by.
const owner = "user"

// identity is how the system calls the sandbox's user: whom the home directory belongs to.
type identity struct{ user, group string }

func (h *handler) lookUpUser() identity {
	e, err := h.box.Files().Stat(h.home)
	if err != nil {
		return identity{owner, owner}
	}
	return identity{e.Owner, e.Group}
}

// caller checks the user that a call names by "Authorization: Basic", if it does.
func caller(r *http.Request) error {
	if name, _, ok := r.BasicAuth(); ok && !known(name) {
		return errorf(unauthenticated, "invalid username: '%s'", name)
	}
	return nil
}

// asked checks the user that a query names, if it does.
func asked(name string) error {
	if name != "" && !known(name) {
		return errorf(unauthenticated, "error looking up user '%s': user: unknown user %s", name, name)
	}
	return nil
}

// resolve returns the absolute path that a client means: others begin at the home directory.
func (h *handler) resolve(path string) (string, error) {
	switch {
	case path == "~" || path == "":
		return h.home, nil
	case strings.HasPrefix(path, "~/"):
		path = path[len("~/"):]
	case strings.HasPrefix(path, "~"):
		return "", errorf(invalidArgument, "failed to expand path '%s': cannot expand user-specific home dir", path)
	}
	if gopath.IsAbs(path) {
		return path, nil
	}
	return strings.TrimSuffix(h.home, "/") + "/" + path, nil
}
