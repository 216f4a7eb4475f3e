// Package packages installs Python distributions into an environment of a
// sandbox's own, which lies over one that others share and leaves that as it is.
package packages

import (
	"errors"
	"fmt"
	"slices"
)

// Installers.
const (
	UV  = "uv"
	Pip = "pip"
)

// ErrNoInstaller means that the environment has neither uv nor pip.
var ErrNoInstaller = errors.New("there is no installer")

// Options say what may be installed, and from where. The zero value is any name, from the
// package index that uv and pip are set up for.
type Options struct {
	Installer string   // UV, Pip, or "": uv where there is one
	Index     []string // URLs of package indexes, the first in place of the default one
	FindLinks []string // folders or pages with distributions
	NoIndex   bool     // only FindLinks
	Sites     []string // folders of distributions that are there beside those of the interpreter, and found before them

	Allow []string // names; empty: all
	Deny  []string // names; it wins over Allow
	URLs  bool     // "name @ URL" may be asked for, which no list checks but by its name
}

// Validate returns an error for an unknown installer or a name that is none.
func (o Options) Validate() error {
	if !slices.Contains([]string{"", UV, Pip}, o.Installer) {
		return fmt.Errorf("installer %q is not uv or pip", o.Installer)
	}
	for _, name := range slices.Concat(o.Allow, o.Deny) {
		if err := ParseName(name); err != nil {
			return err
		}
	}
	return nil
}

// Refused is the error of a name that the lists keep out.
type Refused struct {
	Name  string
	Index int // of the requirement that has the name; -1 where it is what another needs
}

func (r *Refused) Error() string {
	if r.Index < 0 {
		return fmt.Sprintf("%s, which is needed too, may not be installed here", r.Name)
	}
	return fmt.Sprintf("packages[%d]: %s may not be installed here", r.Index, r.Name)
}

// allows reports whether the lists let a name in.
func (o Options) allows(name string) bool {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(one string) bool { return Normalize(one) == Normalize(name) })
	}
	return !has(o.Deny) && (len(o.Allow) == 0 || has(o.Allow))
}

// Check returns a *Refused for the first requirement that the lists keep out, and
// another error where it has a URL and may not.
func (o Options) Check(requirements []Requirement) error {
	for i, r := range requirements {
		if r.URL != "" && !o.URLs {
			return &URLRefused{i}
		}
		if !o.allows(r.Name) {
			return &Refused{r.Name, i}
		}
	}
	return nil
}

// URLRefused is the error of a requirement with a URL where none may be asked for.
type URLRefused struct{ Index int }

func (r *URLRefused) Error() string {
	return fmt.Sprintf("packages[%d]: URLs may not be installed from here", r.Index)
}
