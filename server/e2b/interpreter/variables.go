package interpreter

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// submit queues a cell. A kernel that takes no variables for one cell is given them by a silent cell before
// it, and another behind it takes them back.
func (h *handlers) submit(id string, cell executor.Cell) (*executor.Execution, error) {
	e, err := h.box.Submit(id, cell)
	if !errors.Is(err, executor.ErrUnsupported) {
		return e, err
	}
	info, err := h.box.ContextInfo(id)
	if err != nil {
		return nil, err
	}
	speak, ok := dialects[info.Language]
	if !ok {
		return nil, api.Invalid("env_vars", "the kernel %s takes no variables for one run", info.Kernel)
	}
	give, take, err := speak.around(cell.Envs, h.box.Envs())
	if err != nil {
		return nil, err
	}
	cell.Envs = nil
	return h.between(id, give, cell, take)
}

// between queues a cell between two silent ones, all three or none.
func (h *handlers) between(id, before string, cell executor.Cell, after string) (*executor.Execution, error) {
	h.together.Lock()
	defer h.together.Unlock()
	first, err := h.box.Submit(id, executor.Cell{Code: before, Silent: true})
	if err != nil {
		return nil, err
	}
	e, err := h.box.Submit(id, cell)
	if err != nil {
		first.Stop()
		return nil, err
	}
	if _, err := h.box.Submit(id, executor.Cell{Code: after, Silent: true}); err != nil {
		first.Stop()
		e.Stop()
		return nil, err
	}
	return e, nil
}

// dialect is how code of a language sets and removes variables of its process.
type dialect struct {
	name       *regexp.Regexp // what a variable's can be; nil is any
	set, unset func(name, value string) string
}

var dialects = map[string]dialect{
	"bash": {
		name:  regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`),
		set:   func(name, value string) string { return "export " + name + "=" + ansi(value) },
		unset: func(name, _ string) string { return "unset " + name },
	},
	"javascript": javascript,
	"typescript": javascript,
}

var javascript = dialect{
	set:   func(name, value string) string { return "process.env[" + literal(name) + "] = " + literal(value) + ";" },
	unset: func(name, _ string) string { return "delete process.env[" + literal(name) + "];" },
}

// around returns the code that sets variables, and that which gives them the values that they have otherwise.
func (d dialect) around(envs, otherwise map[string]string) (set, reset string, err error) {
	var before, after []string
	for name, value := range envs {
		if d.name != nil && !d.name.MatchString(name) {
			return "", "", api.Invalid("env_vars", "%q cannot be the name of a variable in this language", name)
		}
		before = append(before, d.set(name, value))
		if value, ok := otherwise[name]; ok {
			after = append(after, d.set(name, value))
		} else {
			after = append(after, d.unset(name, ""))
		}
	}
	return strings.Join(before, "\n"), strings.Join(after, "\n"), nil
}

// ansi returns a text as bash has it in $'…', of printable ASCII alone: the kernel types what it is given at a terminal,
// which takes control characters for keys, and code behind them for code.
func ansi(text string) string {
	b := []byte("$'")
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' || c == '!' {
			b = fmt.Appendf(b, `\%03o`, c)
		} else {
			b = append(b, c)
		}
	}
	return string(append(b, '\''))
}

// literal returns a text as JavaScript has it, which is as JSON has it.
func literal(text string) string {
	raw, _ := json.Marshal(text) // a string
	return string(raw)
}
