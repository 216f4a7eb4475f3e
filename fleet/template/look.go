package template

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Libc is the C library that an image's programs run with.
type Libc struct {
	Name    string  `json:"name"`              // "glibc", "musl", or "" where there is none
	Version Version `json:"version,omitempty"` // of glibc
	Dir     string  `json:"dir,omitempty"`     // where glibc is, a path without links
}

// Version is one of glibc.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less reports whether the version is older.
func (v Version) Less(o Version) bool {
	return v.Major < o.Major || v.Major == o.Major && v.Minor < o.Minor
}

// MarshalText implements encoding.TextMarshaler.
func (v Version) MarshalText() ([]byte, error) {
	if v == (Version{}) {
		return nil, nil
	}
	return []byte(v.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Version) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	_, err := fmt.Sscanf(string(text), "%d.%d", &v.Major, &v.Minor)
	return err
}

var symbolVersion = lazy.Regexp(`GLIBC_(\d{1,3})\.(\d{1,3})`)

// maxVersions bounds how many names of versions are looked at: a C library has some hundreds.
const maxVersions = 100_000

// NewestVersion returns the newest version of glibc that a program or library names: that it has, or needs.
func NewestVersion(text []byte) (newest Version) {
	for _, m := range symbolVersion().FindAllSubmatch(text, maxVersions) {
		major, _ := strconv.Atoi(string(m[1]))
		minor, _ := strconv.Atoi(string(m[2]))
		if v := (Version{major, minor}); newest.Less(v) {
			newest = v
		}
	}
	return newest
}

// machines are the names of processors in the names of directories and files.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// maxLibc bounds what is read of a C library, in bytes.
const maxLibc = 32 << 20

// look finds out what the image's files tell of how it is used.
func (s *Store) look(t *Template) error {
	v := s.View(*t)
	t.Libc = v.libc()
	t.Python = v.python(t.Env)
	if err := v.user(t); err != nil {
		return fmt.Errorf("its user %.100q: %w", t.User, err)
	}
	return nil
}

// libc returns the one that is there: glibc, where there are two.
func (v *View) libc() Libc {
	machine := machines[runtime.GOARCH]
	for _, dir := range []string{"/lib/" + machine + "-linux-gnu", "/lib64", "/usr/lib/" + machine + "-linux-gnu", "/usr/lib64", "/lib", "/usr/lib"} {
		text, err := v.Read(dir+"/libc.so.6", maxLibc)
		if err != nil {
			continue
		}
		if has := NewestVersion(text); has != (Version{}) {
			real, _ := v.Find(dir)
			return Libc{Name: "glibc", Version: has, Dir: real}
		}
	}
	for _, dir := range []string{"/lib", "/usr/lib"} {
		if _, err := v.Find(dir + "/ld-musl-" + machine + ".so.1"); err == nil {
			return Libc{Name: "musl"}
		}
	}
	return Libc{}
}

// python returns the interpreter that is found first and has ipykernel, "" where there is none.
func (v *View) python(env []string) string {
	for dir := range strings.SplitSeq(variable(env, "PATH"), ":") {
		for _, name := range []string{"python3", "python"} {
			file := path.Join(dir, name)
			if real, err := v.Find(file); path.IsAbs(file) && err == nil && (v.hasKernel(path.Dir(path.Dir(file))) || v.hasKernel(path.Dir(path.Dir(real)))) {
				return file
			}
		}
	}
	return ""
}

// defaultPath is where programs are where an image does not say so.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func variable(env []string, name string) string {
	value := ""
	if name == "PATH" {
		value = defaultPath
	}
	for _, v := range env {
		if set, ok := strings.CutPrefix(v, name+"="); ok {
			value = set
		}
	}
	return value
}

// hasKernel reports whether the Python below a prefix has ipykernel.
func (v *View) hasKernel(prefix string) bool {
	for _, version := range v.Names(path.Join(prefix, "lib"), "python3", 100) {
		for _, packages := range []string{"site-packages", "dist-packages"} {
			if v.IsDir(path.Join(prefix, "lib", version, packages, "ipykernel")) {
				return true
			}
		}
	}
	return prefix == "/usr" && v.IsDir("/usr/lib/python3/dist-packages/ipykernel")
}

// user finds the ids and the home of the image's user: "name", "name:group", or numbers. Nobody, and root, are whom code runs as in all
// sandboxes.
func (v *View) user(t *Template) error {
	name, group, _ := strings.Cut(t.User, ":")
	if name == "" {
		return nil
	}
	users, err := v.table("/etc/passwd")
	if err != nil {
		return err
	}
	gid := ""
	if row := find(users, name, 2); row != nil {
		name, gid = row[2], row[3]
		if home := path.Clean("/" + at(row, 5)); strings.HasPrefix(at(row, 5), "/") && home != "/" && !ofSystem(home) {
			t.Home = home
		}
	}
	if group != "" {
		groups, err := v.table("/etc/group")
		if err != nil {
			return err
		}
		if gid = group; find(groups, group, 2) != nil {
			gid = find(groups, group, 2)[2]
		}
	}
	if t.UID, err = number(name); err != nil {
		return err
	}
	if t.UID == 0 {
		t.GID, t.Home = 0, ""
		return nil
	}
	if gid == "" {
		gid = name
	}
	if t.GID, err = number(gid); err != nil {
		return err
	}
	if t.GID == 0 { // it would have what is root's group's
		t.GID = t.UID
	}
	return nil
}

// ofSystem reports whether a path lies in what each sandbox has of its own, and is no place for a home: /dev/null, /proc/self/root.
func ofSystem(name string) bool {
	top, _, _ := strings.Cut(name[1:], "/")
	return top == "proc" || top == "sys" || top == "dev"
}

// number returns an id that a sandbox can have.
func number(text string) (int, error) {
	id, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%.100q is no number, and nobody has that name in the image", text)
	}
	if id < 0 || id >= nobody {
		return 0, fmt.Errorf("%w: %d is beyond the ids of sandboxes", ErrRefused, id)
	}
	return id, nil
}

// find returns the row of a name, or of an id.
func find(table [][]string, name string, id int) []string {
	for _, row := range table {
		if row[0] == name {
			return row
		}
	}
	for _, row := range table {
		if row[id] == name {
			return row
		}
	}
	return nil
}

func at(row []string, i int) string {
	if i < len(row) {
		return row[i]
	}
	return ""
}

// maxTable bounds what is read of a table of users or groups, in bytes.
const maxTable = 1 << 20

// table reads the rows of a table of users or groups.
func (v *View) table(name string) ([][]string, error) {
	text, err := v.Read(name, maxTable)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		if row := strings.Split(strings.TrimSpace(line), ":"); len(row) >= 4 {
			rows = append(rows, row)
		}
	}
	return rows, nil
}
