package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Variables of the server's environment that mean something else inside, or nothing; "*" stands for any end.
var personal = []string{
	"HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "OLDPWD", "TMPDIR", "XDG_*", "JUPYTER_*", "IPYTHONDIR", "MPLCONFIGDIR",
	"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_CACHE_DIR", "PIP_CACHE_DIR",
}

// settingFiles name a file that is copied into the sandbox: certificates, and where packages come from.
var settingFiles = []string{
	"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
	"PIP_CONFIG_FILE", "UV_CONFIG_FILE",
}

// sources name places of packages, separated by spaces or commas; directories among them are mounted.
var places = []string{
	"PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL",
}

// settingsDir is where files of settings are inside.
const settingsDir = "/etc/k2sandbox"

func one(list []string, name string) bool {
	return slices.ContainsFunc(list, func(pattern string) bool {
		start, open := strings.CutSuffix(pattern, "*")
		return name == pattern || open && strings.HasPrefix(name, start)
	})
}

// packagePlaces returns the directories of the host in which an environment has packages.
func packagePlaces(environ []string) []string {
	var dirs []string
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if !one(places, name) {
			continue
		}
		for item := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' }) {
			dir := filepath.Clean(strings.TrimPrefix(item, "file://"))
			if info, err := os.Stat(dir); err == nil && filepath.IsAbs(dir) && info.IsDir() {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// adapt makes of the server's environment that of code inside, and notes the files that
// are to be copied for it.
func (t *template) adapt(environ []string) {
	t.environ = []string{"HOME=/home/user", "USER=user", "LOGNAME=user", "SHELL=/bin/bash"}
	path, locale := []string{}, false
	for _, v := range environ {
		name, value, ok := strings.Cut(v, "=")
		switch {
		case !ok:
		case name == "PATH":
			path = t.visible(filepath.SplitList(value))
		case one(personal, name):
		case one(settingFiles, name):
			if inside, ok := t.setting(name, value); ok {
				t.environ = append(t.environ, name+"="+inside)
			}
		case one(places, name) || !strings.HasPrefix(value, "/"):
			locale = locale || name == "LANG" || name == "LC_ALL"
			t.environ = append(t.environ, v)
		default: // a path, or several
			if seen := t.visible(filepath.SplitList(value)); len(seen) > 0 {
				t.environ = append(t.environ, name+"="+strings.Join(seen, ":"))
			}
		}
	}
	for dir := range strings.SplitSeq("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ":") {
		if !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	t.environ = append(t.environ, "PATH="+strings.Join(path, ":"))
	if !locale {
		t.environ = append(t.environ, "LANG=C.UTF-8")
	}
}

// visible returns those of the paths that are there inside.
func (t *template) visible(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return !filepath.IsAbs(path) || !t.shows(filepath.Clean(path)) })
}

func (t *template) shows(path string) bool {
	real, _, err := route(path)
	if err != nil {
		return false
	}
	return path == os.DevNull || t.covers(real) ||
		slices.ContainsFunc(t.files, func(file string) bool { return within(path, file) })
}

// setting returns where a file of the host is inside.
func (t *template) setting(name, file string) (string, bool) {
	if !filepath.IsAbs(file) {
		return "", false
	}
	file = filepath.Clean(file)
	if t.shows(file) {
		return file, true
	}
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() || info.Size() > maxCopy {
		return "", false
	}
	to := settingsDir + "/" + strings.ToLower(name) + filepath.Ext(file)
	t.moved[to] = file
	return to, true
}
