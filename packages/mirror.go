package packages

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/process"
)

// settings are the variables of uv that say what a setting of pip says.
var settings = []struct{ pip, uv, separator string }{
	{"index-url", "UV_DEFAULT_INDEX", " "},
	{"extra-index-url", "UV_INDEX", " "},
	{"find-links", "UV_FIND_LINKS", ","},
	{"trusted-host", "UV_INSECURE_HOST", " "},
	{"cert", "SSL_CERT_FILE", ""},
	{"proxy", "ALL_PROXY", ""},
}

// mirror returns, as variables for uv, where pip is set up to find packages: uv does
// not read what pip reads, and behind a mirror or a proxy that is all there is. What
// is set for uv itself stays.
func mirror(environ []string) []string {
	given := pipFiles(environ)
	var env []string
	for _, s := range settings {
		value := process.Variable(environ, "PIP_"+strings.ToUpper(strings.ReplaceAll(s.pip, "-", "_")))
		if value == "" {
			value = given[s.pip]
		}
		words := strings.Fields(value)
		if s.pip == "find-links" { // pip passes over a folder that is not there, and uv fails
			words = slices.DeleteFunc(words, func(place string) bool {
				_, err := os.Stat(place)
				return err != nil && !strings.Contains(place, ":")
			})
		}
		if len(words) > 0 && process.Variable(environ, s.uv) == "" {
			env = append(env, s.uv+"="+strings.Join(words, s.separator))
		}
	}
	if process.Variable(environ, "PIP_NO_INDEX") != "" && process.Variable(environ, "UV_NO_INDEX") == "" {
		env = append(env, "UV_NO_INDEX=1")
	}
	return env
}

// pipFiles reads pip's configuration files, the later ones over the earlier.
// https://pip.pypa.io/en/stable/topics/configuration/
func pipFiles(environ []string) map[string]string {
	config := process.Variable(environ, "XDG_CONFIG_HOME")
	home := process.Variable(environ, "HOME")
	if config == "" {
		config = filepath.Join(home, ".config")
	}
	given := map[string]string{}
	for _, file := range []string{
		"/etc/xdg/pip/pip.conf", "/etc/pip.conf", filepath.Join(home, ".pip", "pip.conf"),
		filepath.Join(config, "pip", "pip.conf"), process.Variable(environ, "PIP_CONFIG_FILE"),
	} {
		text, err := readFile(file, 1<<20)
		if err == nil {
			readPipFile(string(text), given)
		}
	}
	return given
}

// readPipFile takes the settings of the sections global and install. A value goes on
// in lines that are indented.
func readPipFile(text string, given map[string]string) {
	section, key := "", ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';':
		case trimmed[0] == '[':
			section, key = strings.Trim(trimmed, "[]"), ""
		case section != "global" && section != "install":
		case line[0] == ' ' || line[0] == '\t':
			if key != "" {
				given[key] += " " + trimmed
			}
		default:
			name, value, _ := strings.Cut(trimmed, "=")
			key = strings.ReplaceAll(strings.TrimSpace(name), "_", "-")
			given[key] = strings.TrimSpace(value)
		}
	}
}
