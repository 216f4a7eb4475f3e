package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// maxConfig bounds a file of settings, in bytes.
const maxConfig = 1 << 20

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check files of settings for k2sandbox serve",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a file of settings, and the files that it names, without starting a server",
		Long: `Check a file of settings, and the files that it names, without starting a server. Each setting is a flag of
"k2sandbox serve" without its dashes:

  listen: 0.0.0.0:8900
  api-keys: /etc/k2sandbox/keys
  memory: 1024
  allow-host: [sandboxes.example.org]

All that is wrong is told, each with its line; the exit status is 1 then.`,
		Example: `  k2sandbox config check /etc/k2sandbox/config.yaml && systemctl restart k2sandbox`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o serving
			serve := serveCommandOf(&o)
			if err := readConfig(args[0], serve.Flags()); err != nil {
				return err
			}
			if err := serve.ValidateFlagGroups(); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := o.check(); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good\n", args[0])
			return nil
		},
	})
	return cmd
}

// check looks at what a server needs to know before it does anything.
func (o *serving) check() error {
	if err := o.checkStop(); err != nil {
		return err
	}
	keys, _, err := o.access.read()
	if err != nil {
		return err
	}
	_, ended, err := o.traces.open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ended()
	if err := o.jupyter.check(keys); err != nil {
		return err
	}
	if _, err := o.confined.check(); err != nil {
		return err
	}
	if _, err := address(o.address, o.access.remote || keys.Len() > 0); err != nil {
		return err
	}
	_, err = tune(&o.limits, &o.packages, o.jupyter.ping, o.s.launcher)
	return err
}

func (o *serving) checkStop() error {
	if o.onStop != "end" && o.onStop != "keep" {
		return fmt.Errorf("--on-stop %q: want end or keep", o.onStop)
	}
	return nil
}

// readConfig sets those flags by a file of YAML that nobody has set by hand. The error tells all that is wrong, each with its line.
func readConfig(path string, flags *pflag.FlagSet) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot read settings: %w", err)
	}
	if info.Size() > maxConfig || info.IsDir() {
		return fmt.Errorf("cannot read settings: %s is no file of at most %d bytes", path, maxConfig)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read settings: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 { // an empty file
		return nil
	}
	return configure(path, doc.Content[0], flags)
}

func configure(path string, settings *yaml.Node, flags *pflag.FlagSet) error {
	if settings.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: want settings, NAME: VALUE on each line", path, settings.Line)
	}
	var wrong []error
	seen := map[string]int{}
	for i := 0; i+1 < len(settings.Content); i += 2 {
		name, value := settings.Content[i], settings.Content[i+1]
		err := func() error {
			if line, twice := seen[name.Value]; twice {
				return fmt.Errorf("is there already, on line %d", line)
			}
			seen[name.Value] = name.Line
			return setFlag(flags, name.Value, value)
		}()
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s:%d: %s: %w", path, name.Line, name.Value, err))
		}
	}
	return errors.Join(wrong...)
}

// setFlag sets a flag to a value of YAML, unless it is set.
func setFlag(flags *pflag.FlagSet, name string, value *yaml.Node) error {
	flag := flags.Lookup(name)
	if flag == nil || name == "config" || name == "help" {
		return errors.New(`there is no such setting: "k2sandbox serve --help" lists them`)
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	values, isList := flag.Value.(pflag.SliceValue)
	var texts []string
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		texts = []string{value.Value}
	case value.Kind == yaml.SequenceNode && isList:
		for _, one := range value.Content {
			if one.Kind != yaml.ScalarNode || one.Tag == "!!null" {
				return fmt.Errorf("line %d: want a value", one.Line)
			}
			texts = append(texts, one.Value)
		}
	case isList:
		return errors.New("want a value, or a list of them")
	default:
		return errors.New("want a value")
	}
	if flag.Changed {
		return nil
	}
	if !isList {
		return plainError(flags.Set(name, texts[0]), name)
	}
	flag.Changed = true
	return values.Replace(texts)
}

// plainError is an error of a flag's value without the words of pflag around it.
func plainError(err error, name string) error {
	if err == nil {
		return nil
	}
	_, rest, found := strings.Cut(err.Error(), "--"+name+"\" flag: ")
	if !found {
		return err
	}
	return errors.New(rest)
}
