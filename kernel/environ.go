package kernel

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// inherited are the variables that a kernel gets of our own environment; "*"
// stands for any end. What is not listed may be a secret, such as a token of
// the server or a cloud's credentials.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TERM",
	"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
	"SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST", "PIP_CERT",
	"PIP_PROXY", "PIP_CONFIG_FILE", "PIP_CACHE_DIR", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES",
	"UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE",
	"UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_CONFIG_FILE", "UV_CACHE_DIR", "UV_HTTP_TIMEOUT",
	"LD_LIBRARY_PATH", "OPENBLAS_*", "OMP_*", "MKL_*", "NUMEXPR_*", "CUDA_*", "NVIDIA_VISIBLE_DEVICES",
	"MPLBACKEND", "MPLCONFIGDIR", "PYTHONPATH",
	"JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH", "JUPYTER_RUNTIME_DIR",
	"JUPYTER_PLATFORM_DIRS", "JUPYTER_PREFER_ENV_PATH", "IPYTHONDIR",
}

// DefaultEnviron picks from an environment ("NAME=value", as os.Environ returns)
// what a kernel may see of it: paths, locale, proxies, certificates, package
// indexes, thread counts.
func DefaultEnviron(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.ContainsFunc(inherited, func(pattern string) bool {
			start, open := strings.CutSuffix(pattern, "*")
			return name == pattern || open && strings.HasPrefix(name, start)
		})
	})
}

// Environ returns the environment of a kernel that the options start, "NAME=value".
// Commands that are to find the same programs get it too.
func Environ(o Options) []string {
	if o.Environ == nil {
		o.Environ = DefaultEnviron(os.Environ())
	}
	program := o.Spec.Interpreter
	if program == "" && len(o.Spec.Argv) > 0 {
		program = o.Spec.Argv[0]
	}
	return environ(o.Environ, &o.Spec, program, o.Envs)
}

// environ returns the environment of a kernel: the base, what ours adds for a
// terminal-less Python, the spec's, and the caller's, each over the one before.
func environ(base []string, spec *Spec, program string, envs map[string]string) []string {
	env := map[string]string{"COLUMNS": "80", "LINES": "24", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
	for _, v := range base {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			env[name] = value
		}
	}
	// JPY_PARENT_PID has ipykernel watch its parent and exit when it guesses wrong;
	// our guardian does that work. The others would speak of another Python.
	for _, name := range []string{"JPY_PARENT_PID", "PYTHONEXECUTABLE", "PYTHONHOME", "VIRTUAL_ENV"} {
		delete(env, name)
	}
	activate(env, program)
	launch := maps.Clone(env)
	for name, value := range spec.Env {
		env[name] = substitute(value, launch)
	}
	maps.Copy(env, envs)
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// activate does what activating the program's virtual environment would: without
// it, `!pip` is the pip of another Python than `%pip`.
func activate(env map[string]string, program string) {
	bin := filepath.Dir(program)
	prefix := filepath.Dir(bin)
	if !filepath.IsAbs(program) || filepath.Base(bin) != "bin" {
		return
	}
	if _, err := os.Stat(filepath.Join(prefix, "pyvenv.cfg")); err == nil {
		env["VIRTUAL_ENV"] = prefix
	} else if _, err := os.Stat(filepath.Join(prefix, "conda-meta")); err == nil {
		env["CONDA_PREFIX"] = prefix
	} else if slices.Contains(strings.Split(env["PATH"], ":"), bin) {
		return // a system's directory: its place in the order is the system's choice
	}
	env["PATH"] = strings.TrimSuffix(bin+":"+env["PATH"], ":")
}

var variable = lazy.Regexp(`\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})`)

// substitute is Python's string.Template.safe_substitute: ${NAME} and $NAME are
// replaced where known and left where not, $$ is a dollar.
func substitute(text string, env map[string]string) string {
	return variable().ReplaceAllStringFunc(text, func(ref string) string {
		if ref == "$$" {
			return "$"
		}
		if v, ok := env[strings.Trim(ref, "${}")]; ok {
			return v
		}
		return ref
	})
}
