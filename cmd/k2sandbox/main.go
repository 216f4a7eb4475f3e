// Command k2sandbox runs code in supervised Jupyter kernels: over HTTP (serve,
// agent) or from the command line (run). Flags, the environment and the log are
// read and set up here, and nowhere else in the module.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	disinherit()
	if len(os.Args) == 2 && os.Args[1] == insideCommand {
		os.Exit(beInside())
	}
	root := command()
	root.SetArgs(joinPairs(os.Args[1:]))
	err := root.ExecuteContext(context.Background())
	var code exitStatus
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "k2sandbox:", err)
		os.Exit(1)
	}
}

// exitStatus is the error of a command that has said all there is to say.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "k2sandbox",
		Short:         "Run code in supervised Jupyter kernels and stream everything it says",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(serveCommand(), gatewayCommand(), agentCommand(), configCommand(), upgradeCommand(), backupCommand())
	root.AddCommand(psCommand(), topCommand(), createCommand(), execCommand(), killCommand(), networkCommand(), logsCommand(), labCommand(), consoleCommand(), previewCommand(), envCommand(), templateCommand())
	root.AddCommand(runCommand(), notebookCommand(), mcpCommand(), doctorCommand(), benchCommand(), pythonCommand(), versionCommand())
	return root
}
