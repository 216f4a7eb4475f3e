package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// Spec says how to start a kernel: the content of a kernel.json and where it was found.
// https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
type Spec struct {
	Name          string
	Argv          []string // may hold {connection_file}, {resource_dir} and {prefix}
	DisplayName   string
	Language      string
	InterruptMode string            // "signal" or "message"
	Env           map[string]string // values may hold ${NAME} of the environment below it
	Transport     string            // "tcp" or "ipc", where it knows no other; "" leaves it to Options
	Metadata      json.RawMessage
	Raw           json.RawMessage // the whole kernel.json, with the keys unknown here

	ResourceDir string // its directory; "" where it has none
	Prefix      string // of the installation that the directory belongs to, or ""

	// Interpreter, where set, runs in place of the program that Argv names: that of a
	// virtual environment over it.
	Interpreter string

	launcher fs.FS // files to put in the kernel's directory; {launcher} in Argv is launcher.py
}

// PythonSpec is ipykernel of the given Python interpreter, started by our launcher.
func PythonSpec(interpreter string) Spec {
	return Spec{
		Name:          "python3",
		Argv:          []string{interpreter, "{launcher}", "-f", "{connection_file}"},
		DisplayName:   "Python 3 (ipykernel)",
		Language:      "python",
		InterruptMode: "signal",
		Metadata:      json.RawMessage(`{"debugger":true}`),
		launcher:      python.Launcher,
	}
}

// Stock returns the kernel of PythonSpec whose messages take ipykernel's own ways, from thread to thread,
// in place of our launcher's, which takes less than half of the time. All else that the launcher does stays.
func (s Spec) Stock() Spec {
	s.Argv = append(slices.Clone(s.Argv), "--App.stock=True")
	return s
}

// ReadSpec reads DIR/kernel.json. The kernel's name is that of the directory.
func ReadSpec(dir string) (Spec, error) {
	file := filepath.Join(dir, "kernel.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return Spec{}, fmt.Errorf("cannot read kernel spec: %w", err)
	}
	s, err := parseSpec(data)
	if err != nil {
		return Spec{}, fmt.Errorf("cannot read kernel spec %s: %w", file, err)
	}
	s.Name = strings.ToLower(filepath.Base(dir))
	s.ResourceDir = dir
	if prefix, ok := strings.CutSuffix(filepath.Dir(dir), "/share/jupyter/kernels"); ok {
		s.Prefix = prefix
	}
	return s, nil
}

func parseSpec(data []byte) (Spec, error) {
	var f struct {
		Argv          []string          `json:"argv"`
		DisplayName   string            `json:"display_name"`
		Language      string            `json:"language"`
		InterruptMode string            `json:"interrupt_mode"`
		Env           map[string]string `json:"env"`
		Metadata      json.RawMessage   `json:"metadata"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return Spec{}, fmt.Errorf("%s: not a %s", wrong.Field, wrong.Type)
		}
		return Spec{}, err
	}
	if len(f.Argv) == 0 || f.Argv[0] == "" {
		return Spec{}, errors.New("argv: empty")
	}
	if f.InterruptMode == "" {
		f.InterruptMode = "signal"
	}
	if f.InterruptMode != "signal" && f.InterruptMode != "message" {
		return Spec{}, fmt.Errorf("interrupt_mode: %q is not signal or message", f.InterruptMode)
	}
	return Spec{
		Argv: f.Argv, DisplayName: f.DisplayName, Language: f.Language,
		InterruptMode: f.InterruptMode, Env: f.Env, Metadata: f.Metadata, Raw: data,
	}, nil
}

// launchable returns an error where starting the kernel takes more than a local process.
func (s *Spec) launchable() error {
	if len(s.Argv) == 0 {
		return errors.New("kernel spec: argv: empty")
	}
	var m struct {
		Provisioner struct {
			Name string `json:"provisioner_name"`
		} `json:"kernel_provisioner"`
	}
	json.Unmarshal(s.Metadata, &m) // of another shape: it names no provisioner
	if name := m.Provisioner.Name; name != "" && name != "local-provisioner" {
		return fmt.Errorf("kernel spec %s: metadata.kernel_provisioner: %q cannot be run, only local processes", s.Name, name)
	}
	return nil
}

// ipykernel reports whether the kernel is known to fill in ports that are 0.
func (s *Spec) ipykernel() bool {
	return s.launcher != nil || strings.Contains(strings.Join(s.Argv, " ")+" ", " -m ipykernel")
}

var (
	placeholder = lazy.Regexp(`\{([A-Za-z0-9_]+)\}`)
	barePython  = lazy.Regexp(`^python(3(\.[0-9]+)?)?$`)
)

// command returns the arguments with values in place of the known {name}s.
func (s *Spec) command(values map[string]string, home string) []string {
	argv := make([]string, len(s.Argv))
	for i, arg := range s.Argv {
		argv[i] = placeholder().ReplaceAllStringFunc(arg, func(name string) string {
			if v, ok := values[name[1:len(name)-1]]; ok {
				return v
			}
			return name
		})
		if rest, ok := strings.CutPrefix(argv[i], "~"); ok && home != "" && (rest == "" || rest[0] == '/') {
			argv[i] = home + rest
		}
	}
	if barePython().MatchString(argv[0]) && s.Prefix != "" {
		argv[0] = s.python(argv[0])
	}
	return argv
}

// Program returns what Argv[0] stands for: a path, or a name to look up in PATH.
// home is in place of a "~".
func (s *Spec) Program(home string) string { return s.command(nil, home)[0] }

// python returns the interpreter that a bare name means: the one of the spec's
// own installation. "python" is what ipykernel's installed spec really says.
func (s *Spec) python(name string) string {
	for _, n := range []string{name, "python", "python3"} {
		if file := filepath.Join(s.Prefix, "bin", n); isProgram(file) {
			return file
		}
	}
	return name
}

func isProgram(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
