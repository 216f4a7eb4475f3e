package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/notebook"
)

// parameterFlags are the ways to give a notebook parameters: papermill's.
type parameterFlags struct {
	typed, raw                             []string // NAME=VALUE
	files, yaml, base64                    []string
	injectInput, injectOutput, injectPaths bool
}

func (f *parameterFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&f.typed, "parameters", "p", nil, "a parameter, NAME VALUE or NAME=VALUE; may be given many times")
	flags.StringArrayVarP(&f.raw, "parameters-raw", "r", nil, "a parameter that is text, NAME VALUE or NAME=VALUE")
	flags.StringArrayVarP(&f.files, "parameters-file", "f", nil, "a YAML or JSON file of parameters")
	flags.StringArrayVarP(&f.yaml, "parameters-yaml", "y", nil, "parameters in YAML or JSON")
	flags.StringArrayVarP(&f.base64, "parameters-base64", "b", nil, "parameters in YAML or JSON, in base64")
	flags.BoolVar(&f.injectInput, "inject-input-path", false, "set the parameter PAPERMILL_INPUT_PATH")
	flags.BoolVar(&f.injectOutput, "inject-output-path", false, "set the parameter PAPERMILL_OUTPUT_PATH")
	flags.BoolVar(&f.injectPaths, "inject-paths", false, "set both")
	_ = cobra.MarkFlagFilename(flags, "parameters-file", "yaml", "yml", "json")
}

// twoWords are the flags that take a name and a value, two words as in papermill.
var twoWords = []string{"-p", "-r", "--parameters", "--parameters_raw", "--parameters-raw"}

// joinPairs turns "-p NAME VALUE" of k2sandbox notebook run into "-p NAME=VALUE",
// since flags here take one word.
func joinPairs(args []string) []string {
	i := slices.Index(args, "notebook")
	if i < 0 || slices.Index(args[i:], "run") < 0 {
		return args
	}
	var joined []string
	for ; len(args) > 0; args = args[1:] {
		joined = append(joined, args[0])
		switch {
		case args[0] == "--":
			return append(joined, args[1:]...)
		case slices.Contains(twoWords, args[0]) && len(args) > 2 && !strings.Contains(args[1], "="):
			joined = append(joined, args[1]+"="+args[2])
			args = args[2:]
		}
	}
	return joined
}

// values returns the parameters that the flags give, later ones over earlier ones.
func (f *parameterFlags) values(in, out string) ([]notebook.Parameter, error) {
	var all []notebook.Parameter
	if f.injectInput || f.injectPaths {
		all = append(all, notebook.Parameter{Name: "PAPERMILL_INPUT_PATH", Value: in})
	}
	if f.injectOutput || f.injectPaths {
		all = append(all, notebook.Parameter{Name: "PAPERMILL_OUTPUT_PATH", Value: out})
	}
	for _, source := range []struct {
		flag  string
		given []string
		read  func(string) ([]notebook.Parameter, error)
	}{
		{"--parameters-base64", f.base64, fromBase64},
		{"--parameters-file", f.files, fromFile},
		{"--parameters-yaml", f.yaml, fromYAML},
		{"--parameters", f.typed, func(pair string) ([]notebook.Parameter, error) { return fromPair(pair, typed) }},
		{"--parameters-raw", f.raw, func(pair string) ([]notebook.Parameter, error) {
			return fromPair(pair, func(s string) any { return s })
		}},
	} {
		for _, given := range source.given {
			values, err := source.read(given)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", source.flag, err)
			}
			all = append(all, values...)
		}
	}
	return all, nil
}

func fromPair(pair string, value func(string) any) ([]notebook.Parameter, error) {
	name, text, ok := strings.Cut(pair, "=")
	if !ok {
		return nil, fmt.Errorf("%q: want a name and a value", pair)
	}
	return []notebook.Parameter{{Name: name, Value: value(text)}}, nil
}

var (
	pythonInt   = lazy.Regexp(`^[+-]?[0-9]+(_[0-9]+)*$`)
	pythonFloat = lazy.Regexp(`(?i)^[+-]?([0-9][0-9_]*\.?[0-9_]*(e[+-]?[0-9]+)?|\.[0-9][0-9_]*(e[+-]?[0-9]+)?|nan|inf|infinity)$`)
)

// typed reads a value as papermill's -p does.
func typed(text string) any {
	number := strings.ReplaceAll(strings.TrimSpace(text), "_", "")
	switch {
	case text == "True" || text == "False":
		return text == "True"
	case text == "None":
		return nil
	case pythonInt().MatchString(strings.TrimSpace(text)):
		n, _ := new(big.Int).SetString(number, 10) // is one
		return json.Number(n.String())
	case pythonFloat().MatchString(strings.TrimSpace(text)):
		f, _ := strconv.ParseFloat(number, 64) // beyond its range: infinite, as in Python
		return f
	}
	return text
}

func fromFile(name string) ([]notebook.Parameter, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	values, err := fromYAML(string(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return values, nil
}

func fromBase64(text string) ([]notebook.Parameter, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	return fromYAML(string(raw))
}

func fromYAML(text string) ([]notebook.Parameter, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return nil, err
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	left := 100_000
	value, err := fromNode(document.Content[0], &left)
	if values, ok := value.([]notebook.Parameter); ok || err != nil || value == nil {
		return values, err
	}
	return nil, errors.New("want a mapping of names to values")
}

// fromNode returns what a YAML node stands for; mappings keep their order. It counts
// down left, so that aliases of aliases come to an end.
func fromNode(n *yaml.Node, left *int) (any, error) {
	if *left--; *left < 0 {
		return nil, errors.New("more than 100000 values")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return fromNode(n.Alias, left)
	case yaml.SequenceNode:
		items := []any{}
		for _, item := range n.Content {
			value, err := fromNode(item, left)
			if err != nil {
				return nil, err
			}
			items = append(items, value)
		}
		return items, nil
	case yaml.MappingNode:
		return fromMapping(n, left)
	}
	return fromScalar(n)
}

func fromMapping(n *yaml.Node, left *int) (any, error) {
	members := []notebook.Parameter{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		value, err := fromNode(n.Content[i+1], left)
		if err != nil {
			return nil, err
		}
		merged, isMapping := value.([]notebook.Parameter)
		switch {
		case key.Kind != yaml.ScalarNode:
			return nil, fmt.Errorf("line %d: a key that is no text", key.Line)
		case key.Tag == "!!merge" && isMapping:
			members = append(merged, members...)
		default:
			members = append(members, notebook.Parameter{Name: key.Value, Value: value})
		}
	}
	return members, nil
}

var yamlBools = map[string]bool{"yes": true, "on": true, "no": false, "off": false}

// fromScalar reads a scalar as papermill's YAML does: that of YAML 1.1, with times as text.
func fromScalar(n *yaml.Node) (any, error) {
	truth, isBool := yamlBools[strings.ToLower(n.Value)]
	switch {
	case isBool && n.ShortTag() == "!!str" && n.Style == 0:
		return truth, nil
	case n.ShortTag() == "!!timestamp" || n.ShortTag() == "!!binary":
		return n.Value, nil
	case n.ShortTag() != "!!str" && pythonInt().MatchString(n.Value) && !strings.HasPrefix(n.Value, "0"):
		return typed(n.Value), nil // of any size
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return nil, err
	}
	if t, ok := value.(time.Time); ok {
		return t.Format(time.RFC3339), nil
	}
	return value, nil
}
