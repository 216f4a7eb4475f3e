package packages

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// Requirement is a dependency specifier, as in "pandas[excel]>=2,<3; python_version >= '3.9'".
// https://packaging.python.org/en/latest/specifications/dependency-specifiers/ (PEP 508)
type Requirement struct {
	Name string // as it was given; Normalize makes names comparable
	URL  string // of "name @ URL", else ""
	text string
}

// String returns the requirement as an installer takes it.
func (r Requirement) String() string { return r.text }

// MaxRequirement is the longest requirement, in bytes.
const MaxRequirement = 1000

var (
	name       = `[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?`
	head       = lazy.Regexp(`^(` + name + `) *(\[[^\]]*\])? *`)
	extras     = lazy.Regexp(`^\[ *(?:` + name + `(?: *, *` + name + `)*)? *\]$`)
	clause     = lazy.Regexp(`^(===|~=|==|!=|<=|>=|<|>) *(\S+)$`)
	arbitrary  = lazy.Regexp(`^[A-Za-z0-9.+!_-]+$`)
	version    = lazy.Regexp(`^(?i)v?(?:\d+!)?(\d+(?:\.\d+)*)(?:[-_.]?(?:alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?(?:-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?$`)
	archive    = lazy.Regexp(`(?i)\.(?:whl|zip|egg|tar|tgz|tbz2?|txz|tlz|tzst|tar\.[a-z0-9]+)$`) // a path, for uv and pip
	separators = lazy.Regexp(`[-_.]+`)
)

// Normalize makes names of distributions comparable (PEP 503).
func Normalize(name string) string {
	return strings.ToLower(separators().ReplaceAllString(name, "-"))
}

// ParseName checks the name of a distribution alone.
func ParseName(s string) error {
	if m := head().FindStringSubmatch(s); m == nil || m[1] != s {
		return fmt.Errorf("%.100q is not the name of a package", s)
	}
	return nil
}

// Parse reads a requirement, strictly: options, paths, bare URLs, and whatever an
// installer could take for more than one requirement are errors.
func Parse(s string) (Requirement, error) {
	s = strings.Trim(s, " ")
	if s == "" {
		return Requirement{}, errors.New("is empty")
	}
	if len(s) > MaxRequirement {
		return Requirement{}, fmt.Errorf("is longer than %d bytes", MaxRequirement)
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }); i >= 0 {
		return Requirement{}, fmt.Errorf("has a character that no requirement has, at byte %d", i)
	}
	m := head().FindStringSubmatch(s)
	if m == nil {
		return Requirement{}, fmt.Errorf("%.100q begins with no name of a package", s)
	}
	if m[2] != "" && !extras().MatchString(m[2]) {
		return Requirement{}, fmt.Errorf("%.100q are no extras", m[2])
	}
	r := Requirement{Name: m[1], text: s}
	rest := s[len(m[0]):]
	if archive().MatchString(m[1]) {
		return Requirement{}, fmt.Errorf("%.100q is the name of a file", m[1])
	}
	if url, ok := strings.CutPrefix(rest, "@"); ok {
		return r.withURL(strings.TrimLeft(url, " "))
	}
	specifier, marker, marked := strings.Cut(rest, ";")
	if err := checkSpecifier(strings.Trim(specifier, " ")); err != nil {
		return Requirement{}, err
	}
	if marked {
		return r, checkMarker(marker)
	}
	return r, nil
}

// withURL takes what stands behind the @: a URL, and after a space a marker.
func (r Requirement) withURL(s string) (Requirement, error) {
	url, rest, _ := strings.Cut(s, " ")
	scheme, _, ok := strings.Cut(url, "://")
	if !ok || !regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`).MatchString(scheme) {
		return Requirement{}, fmt.Errorf("%.100q is no URL", url)
	}
	r.URL = url
	rest = strings.Trim(rest, " ")
	if rest == "" {
		return r, nil
	}
	marker, ok := strings.CutPrefix(rest, ";")
	if !ok {
		return Requirement{}, fmt.Errorf("%.100q follows the URL", rest)
	}
	return r, checkMarker(marker)
}

// checkSpecifier checks version specifiers (PEP 440), which may be in parentheses.
func checkSpecifier(s string) error {
	if inner, ok := strings.CutPrefix(s, "("); ok {
		if s, ok = strings.CutSuffix(inner, ")"); !ok {
			return errors.New("has a parenthesis that does not close")
		}
	}
	if strings.Trim(s, " ") == "" {
		return nil
	}
	for one := range strings.SplitSeq(s, ",") {
		one = strings.Trim(one, " ")
		m := clause().FindStringSubmatch(one)
		if m == nil {
			return fmt.Errorf("%.100q is no version specifier, such as ==1.2 or >=1,<2", one)
		}
		if err := checkVersion(m[1], m[2]); err != nil {
			return err
		}
	}
	return nil
}

func checkVersion(operator, v string) error {
	bad := fmt.Errorf("%.100q is no version for %s", v, operator)
	if operator == "===" {
		if !arbitrary().MatchString(v) {
			return bad
		}
		return nil
	}
	exact := operator == "==" || operator == "!="
	prefix, wild := strings.CutSuffix(v, ".*")
	m := version().FindStringSubmatch(prefix)
	switch {
	case m == nil,
		wild && (!exact || m[2] != "" || m[3] != ""),
		m[3] != "" && !exact,
		operator == "~=" && !strings.Contains(m[1], "."):
		return bad
	}
	return nil
}

var (
	markerToken = lazy.Regexp(`^ *(\(|\)|===|~=|==|!=|<=|>=|<|>|"[^"]*"|'[^']*'|[a-z_.]+)`)
	variables   = []string{
		"python_version", "python_full_version", "os_name", "sys_platform", "platform_release", "platform_system",
		"platform_version", "platform_machine", "platform_python_implementation", "implementation_name",
		"implementation_version", "extra",
	}
	comparisons = []string{"===", "~=", "==", "!=", "<=", ">=", "<", ">", "in", "not in"}
)

// checkMarker checks an environment marker: comparisons with and, or and parentheses.
func checkMarker(s string) error {
	var m marker
	for rest := strings.TrimRight(s, " "); rest != ""; {
		found := markerToken().FindStringSubmatch(rest)
		if found == nil {
			return fmt.Errorf("%.100q is no marker", s)
		}
		m = append(m, found[1])
		rest = rest[len(found[0]):]
	}
	if rest, ok := m.or(0); !ok || len(rest) > 0 {
		return fmt.Errorf("%.100q is no marker", s)
	}
	return nil
}

// marker is the tokens of a marker that are still to be read.
type marker []string

const markerDepth = 16

func (m marker) or(depth int) (marker, bool) {
	m, ok := m.and(depth)
	for ok && m.next("or") {
		m, ok = m[1:].and(depth)
	}
	return m, ok
}

func (m marker) and(depth int) (marker, bool) {
	m, ok := m.comparison(depth)
	for ok && m.next("and") {
		m, ok = m[1:].comparison(depth)
	}
	return m, ok
}

func (m marker) comparison(depth int) (marker, bool) {
	if m.next("(") && depth < markerDepth {
		m, ok := m[1:].or(depth + 1)
		if !ok || !m.next(")") {
			return m, false
		}
		return m[1:], true
	}
	if len(m) > 3 && m[1] == "not" && m[2] == "in" {
		m = append(marker{m[0], "not in"}, m[3:]...)
	}
	if len(m) < 3 || !value(m[0]) || !slices.Contains(comparisons, m[1]) || !value(m[2]) {
		return m, false
	}
	return m[3:], true
}

func (m marker) next(token string) bool { return len(m) > 0 && m[0] == token }

func value(token string) bool {
	return token[0] == '"' || token[0] == '\'' || slices.Contains(variables, token)
}
