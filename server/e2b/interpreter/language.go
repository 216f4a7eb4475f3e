package interpreter

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/packages"
)

// kernels are what can be meant by a language, the likeliest first.
func kernels(language string) []agent.ContextOptions {
	all := []agent.ContextOptions{{Language: language}}
	if language != "" && !strings.ContainsAny(language, "/\x00") {
		all = append(all, agent.ContextOptions{Kernel: language})
	}
	return all
}

// canonical returns the name of a language that has several.
func canonical(language string) string {
	switch language = strings.ToLower(strings.TrimSpace(language)); language {
	case "js":
		return "javascript"
	case "ts":
		return "typescript"
	case "py", "python3":
		return "python"
	case "sh", "shell":
		return "bash"
	}
	return language
}

// start tries one kernel after the other that can be meant by the language.
func (c *contexts) start(ctx context.Context, id, language, cwd string) (info agent.ContextInfo, err error) {
	for _, o := range kernels(language) {
		o.ID, o.Cwd = id, cwd
		if info, err = c.box.CreateContext(ctx, o); !errors.Is(err, agent.ErrUnknownKernel) {
			break
		}
	}
	return info, err
}

// brings tells which Python package brings the kernel of a language.
var brings = map[string]string{"bash": "bash_kernel", "javascript": "deno", "typescript": "deno"}

// install installs a package, as a client of the sandbox can: within its rules, and for it alone.
func (c *contexts) install(ctx context.Context, name string) error {
	wanted, err := packages.Parse(name)
	if err != nil {
		return err
	}
	i, err := c.box.InstallPackages([]packages.Requirement{wanted}, false, 0)
	if err != nil {
		return api.Errorf(api.InvalidRequest, "its kernel is in the Python package %s, which cannot be installed: %v", name, err)
	}
	var end api.InstallEnd
	for line, err := range i.Lines(ctx, 0) {
		if err == nil && line.Type == journal.End {
			err = json.Unmarshal(line.JSON, &end)
		}
		if err != nil {
			return err
		}
	}
	if end.Error != nil {
		return api.Errorf(api.InvalidRequest, "its kernel is in the Python package %s, whose installation failed: %s", name, end.Error.Message)
	}
	return nil
}
