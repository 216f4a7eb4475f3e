package envd

import (
	"context"
	"maps"
	"net/http"
	gopath "path"
	"strings"
)

// A sandbox has one user, whom code, commands and files belong to, and who goes by these
// names; E2B's clients name one of them. Where the sandbox has a root, commands of root are that one's.
func known(name string) bool { return name == owner || name == root }

const root, rootHome = "root", "/root"

// rootEnvs returns the variables of a command of root.
func rootEnvs(asked map[string]string) map[string]string {
	envs := map[string]string{"HOME": rootHome, "USER": root, "LOGNAME": root}
	maps.Copy(envs, asked)
	return envs
}

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

// as does what a client wants of files as the user that it names, who may be root, and tells whose home directory that is.
func (h *handler) as(name string, do func(home string) error) error {
	if name == root && h.box.HasRoot() {
		return h.box.FilesAsRoot(func() error { return do(rootHome) })
	}
	return do(h.home)
}

// asCaller has a method of files done as the user that the call names.
func asCaller[Q, A any](h *handler, do func(ctx context.Context, home string, q *Q) (A, error)) method {
	return unary(func(ctx context.Context, r *http.Request, q *Q) (a A, err error) {
		name, _, _ := r.BasicAuth()
		err = h.as(name, func(home string) (err error) {
			a, err = do(ctx, home, q)
			return err
		})
		return a, err
	})
}

// resolve returns the absolute path that a client means: others begin at the home directory.
func resolve(home, path string) (string, error) {
	switch {
	case path == "~" || path == "":
		return home, nil
	case strings.HasPrefix(path, "~/"):
		path = path[len("~/"):]
	case strings.HasPrefix(path, "~"):
		return "", errorf(invalidArgument, "failed to expand path '%s': cannot expand user-specific home dir", path)
	}
	if gopath.IsAbs(path) {
		return path, nil
	}
	return strings.TrimSuffix(home, "/") + "/" + path, nil
}
