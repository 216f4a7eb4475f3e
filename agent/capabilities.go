package agent

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/kernel"
)

// notBuilt is why something is not there that is to come.
const notBuilt = "this version of k2sandbox cannot do that yet"

// Capabilities tells what can be done in the sandbox. What the server adds is zero.
func (s *Sandbox) Capabilities() api.Capabilities {
	return api.Capabilities{
		Platform:  runtime.GOOS + "/" + runtime.GOARCH,
		Kernels:   s.Kernels(),
		Isolation: cmp.Or(s.o.Isolation, api.Isolation{Mode: "none", Reason: "code runs as the user of this process"}),
		Networks:  []string{cmp.Or(s.o.Network, "full")},
		Packages:  s.packageCapability(),
		Terminals: capability(tryTerminal()),
		Watch:     capability(tryWatch()),
		Pause:     api.Capability{Reason: notBuilt},
		Snapshots: api.Capability{Reason: notBuilt},
		Fronts:    []string{},
		Limits:    api.Limits{MaxContexts: s.o.MaxContexts, MaxPackages: api.MaxPackages},
	}
}

// Kernels returns what a context can have, the default context's first.
func (s *Sandbox) Kernels() []api.KernelCapability {
	var all []api.KernelCapability
	for _, spec := range s.Kernelspecs() {
		all = append(all, api.KernelCapability{Kernel: spec.Name, Language: spec.Language, DisplayName: spec.DisplayName})
	}
	return all
}

// Kernelspecs returns the specs of what a context can have, the default context's first. That of a managed Python has
// the directory of what its ipykernel has installed.
func (s *Sandbox) Kernelspecs() []kernel.Spec {
	seen := map[string]bool{}
	var all []kernel.Spec
	for _, spec := range append([]kernel.Spec{s.o.Spec}, s.others()...) {
		if seen[spec.Name] {
			continue
		}
		seen[spec.Name] = true
		if spec.ResourceDir == "" && filepath.IsAbs(spec.Argv[0]) {
			spec.ResourceDir = filepath.Join(filepath.Dir(filepath.Dir(spec.Argv[0])), "share", "jupyter", "kernels", spec.Name)
		}
		all = append(all, spec)
	}
	return all
}

func (s *Sandbox) packageCapability() api.PackageCapability {
	o := s.o.Packages
	can := api.PackageCapability{Allow: orEmpty(o.Allow), Deny: orEmpty(o.Deny), URLs: o.URLs}
	installer, err := s.Installer()
	if can.Available, can.Installer = err == nil, installer; err != nil {
		can.Reason = err.Error()
	}
	return can
}

func capability(err error) api.Capability {
	if err != nil {
		return api.Capability{Reason: err.Error()}
	}
	return api.Capability{Available: true}
}

// tryTerminal opens a pseudo-terminal.
func tryTerminal() error {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// tryWatch makes an inotify instance, of which a user can have only so many.
func tryWatch() error {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("inotify_init", err)
	}
	return syscall.Close(fd)
}
