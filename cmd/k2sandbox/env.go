package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// anyE2BKey is for a server without keys: E2B's clients need one, and some look at its form.
var anyE2BKey = "e2b_" + strings.Repeat("0", 40)

var e2bKey = lazy.Regexp(`^e2b_[0-9a-f]+$`)

func envCommand() *cobra.Command {
	var (
		r   remote
		e2b bool
		lab bool
	)
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the environment variables by which clients find a server",
		Long: `Print the environment variables by which clients find a server, as commands of a shell: those of the
commands and SDKs of k2sandbox or, with --e2b, those of E2B's clients, or with --jupyter those of a Jupyter server,
which then work unchanged.`,
		Example: `  eval "$(k2sandbox env --e2b)" && python my_e2b_program.py
  eval "$(k2sandbox env --jupyter)" && jupyter lab`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := r.key()
			if err != nil {
				return err
			}
			if e2b {
				return writeE2B(cmd.OutOrStdout(), cmd.ErrOrStderr(), r.address(), key)
			}
			if lab {
				return writeJupyter(cmd.OutOrStdout(), r.address(), key)
			}
			export(cmd.OutOrStdout(), urlVariable, r.address())
			if key != "" {
				export(cmd.OutOrStdout(), keyVariable, key)
			}
			return nil
		},
	}
	r.add(cmd)
	cmd.Flags().BoolVar(&e2b, "e2b", false, "those of E2B's clients")
	cmd.Flags().BoolVar(&lab, "jupyter", false, "those of a Jupyter server, and of nbclient and papermill with it, whose kernels are to be in sandboxes")
	cmd.MarkFlagsMutuallyExclusive("e2b", "jupyter")
	return cmd
}

func writeE2B(out, warnings io.Writer, address, key string) error {
	if strings.HasPrefix(address, "unix:") {
		return errors.New("E2B's clients cannot talk to a unix socket: name an http:// address by --url")
	}
	address = strings.TrimRight(address, "/")
	if key != "" && !e2bKey().MatchString(key) {
		fmt.Fprintln(warnings, "k2sandbox: some of E2B's clients take only keys that are e2b_ and hexadecimal digits: for those set E2B_VALIDATE_API_KEY=false, or make such a key")
	}
	export(out, "E2B_API_URL", address)
	export(out, "E2B_SANDBOX_URL", address)
	export(out, "E2B_API_KEY", cmp.Or(key, anyE2BKey))
	return nil
}

// writeJupyter writes those of jupyter_server, of which one ending in / would give paths that there are not.
func writeJupyter(out io.Writer, address, key string) error {
	if strings.HasPrefix(address, "unix:") {
		return errors.New("a Jupyter server cannot talk to a unix socket: name an http:// address by --url")
	}
	export(out, "JUPYTER_GATEWAY_URL", strings.TrimRight(address, "/"))
	if key != "" {
		export(out, "JUPYTER_GATEWAY_AUTH_TOKEN", key)
	}
	return nil
}

// export writes a command that sets a variable, in a way that all POSIX shells read.
func export(out io.Writer, name, value string) {
	fmt.Fprintf(out, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
}
