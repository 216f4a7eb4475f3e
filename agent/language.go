package agent

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/packages"
)

// LanguagePrefix begins the id of the default context of a language that is not the sandbox's own.
const LanguagePrefix = "default-"

// Language returns the name of a language that has several.
func Language(name string) string {
	switch name = strings.ToLower(strings.TrimSpace(name)); name {
	case "js":
		return "javascript"
	case "ts":
		return "typescript"
	case "py", "python3":
		return "python"
	case "sh", "shell":
		return "bash"
	}
	return name
}

// LanguageContext returns the default context of a language, or of the kernel that has this name: DefaultContext for the
// sandbox's own, else one that it starts where it is not there yet. "" is the sandbox's own. Errors are those of StartLanguage.
func (s *Sandbox) LanguageContext(ctx context.Context, language string) (ContextInfo, error) {
	language = Language(language)
	own, err := s.ContextInfo(DefaultContext)
	if err != nil || language == "" || own.Language == language {
		return own, err
	}
	s.languages.Lock()
	defer s.languages.Unlock()
	id := LanguagePrefix + language
	if info, err := s.ContextInfo(id); err == nil {
		return info, nil
	}
	return s.StartLanguage(ctx, ContextOptions{ID: id, Language: language})
}

// StartLanguage is CreateContext for a language that is also the name of a kernel. A kernel that is not there and that a
// Python package brings is installed, as a client can: within the sandbox's rules.
func (s *Sandbox) StartLanguage(ctx context.Context, o ContextOptions) (ContextInfo, error) {
	o.Language = Language(o.Language)
	info, err := s.startLanguage(ctx, o)
	if name := brings[o.Language]; errors.Is(err, ErrUnknownKernel) && name != "" {
		if err = s.installKernel(ctx, name); err == nil {
			info, err = s.startLanguage(ctx, o)
		}
	}
	if errors.Is(err, ErrUnknownKernel) {
		return ContextInfo{}, api.Invalid("language", "there is no kernel for %.64q here", o.Language)
	}
	return info, err
}

// startLanguage tries one kernel after the other that can be meant, the likeliest first.
func (s *Sandbox) startLanguage(ctx context.Context, o ContextOptions) (ContextInfo, error) {
	info, err := s.CreateContext(ctx, o)
	if errors.Is(err, ErrUnknownKernel) && o.Language != "" && !strings.ContainsAny(o.Language, "/\x00") {
		o.Kernel, o.Language = o.Language, ""
		info, err = s.CreateContext(ctx, o)
	}
	return info, err
}

// brings tells which Python package brings the kernel of a language.
var brings = map[string]string{"bash": "bash_kernel", "javascript": "deno", "typescript": "deno"}

// installKernel installs the package of a kernel.
func (s *Sandbox) installKernel(ctx context.Context, name string) error {
	wanted, err := packages.Parse(name)
	if err != nil {
		return err
	}
	i, err := s.InstallPackages([]packages.Requirement{wanted}, false, 0)
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
