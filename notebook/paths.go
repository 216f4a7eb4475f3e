package notebook

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Moment is when and as which run a notebook runs, for its paths.
type Moment struct {
	RunUUID string
	Time    time.Time
}

// NewMoment returns this moment, with a random UUID.
func NewMoment() Moment { return Moment{uuid.NewString(), time.Now()} }

// Path fills a template of a path in, as papermill does: Python's format strings,
// {name} with the value of a parameter, {name[key]} with a member of one, and
// {pm[run_uuid]}, {pm[current_datetime_utc]} and {pm[current_datetime_local]} of the
// moment. After a colon comes a format: of numbers and text Python's width, fill,
// alignment, sign, precision and type, of times strftime's. {{ and }} are braces.
// A parameter that is missing is an error.
func (m Moment) Path(template string, values []Parameter) (string, error) {
	builtin := []Parameter{
		{"run_uuid", m.RunUUID}, {"current_datetime_utc", m.Time.UTC()}, {"current_datetime_local", m.Time.Local()},
	}
	all := append([]Parameter{{"pm", builtin}}, values...)
	var b strings.Builder
	for rest := template; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		rest = rest[i:]
		if rest[:1] == "}" || strings.HasPrefix(rest, "{{") {
			if len(rest) < 2 || rest[1] != rest[0] {
				return "", fmt.Errorf("path %q: a } without its {; }} stands for a brace", template)
			}
			b.WriteByte(rest[0])
			rest = rest[2:]
			continue
		}
		field, after, ok := strings.Cut(rest[1:], "}")
		if !ok {
			return "", fmt.Errorf("path %q: a { without its }", template)
		}
		text, err := fill(field, all)
		if err != nil {
			return "", fmt.Errorf("path %q: {%s}: %w", template, field, err)
		}
		b.WriteString(text)
		rest = after
	}
	return b.String(), nil
}

var pathField = lazy.Regexp(`^([^\[\].:!]+)((?:\[[^\[\]]+\])*)(?::(.*))?$`)

// fill returns what a field of a template stands for.
func fill(field string, all []Parameter) (string, error) {
	m := pathField().FindStringSubmatch(field)
	if m == nil {
		return "", errors.New("want {name}, {name[key]} or {name:format}")
	}
	value := any(all)
	keys := strings.FieldsFunc(m[2], func(r rune) bool { return r == '[' || r == ']' })
	for i, key := range append([]string{m[1]}, keys...) {
		next, ok := memberOf(value, key)
		if !ok && i == 0 {
			return "", fmt.Errorf("missing parameter %q", key)
		}
		if !ok {
			return "", fmt.Errorf("nothing at %q", key)
		}
		value = open(next)
	}
	return format(value, m[3])
}

func memberOf(value any, key string) (any, bool) {
	members, _ := mapping(value)
	for _, m := range latest(members) {
		if m.Name == key {
			return m.Value, true
		}
	}
	items, _ := value.([]any)
	var i int
	if n, err := fmt.Sscanf(key, "%d", &i); n == 1 && err == nil && i >= 0 && i < len(items) {
		return items[i], true
	}
	return nil, false
}

// format returns a value as Python's format does.
func format(value any, spec string) (string, error) {
	switch v := value.(type) {
	case time.Time:
		return formatTime(v, spec)
	case string:
		return pad(v, spec)
	case nil, bool:
		text, _ := dialects[0].value(v, 0) // never fails
		return pad(text, spec)
	case []any, []Parameter, map[string]any, Object:
		return "", errors.New("a list or mapping cannot be part of a path")
	}
	text, err := dialects[0].value(value, 0)
	if err != nil {
		return "", err
	}
	return formatNumber(json.Number(strings.Trim(strings.TrimPrefix(text, "float"), "()'")), spec)
}
