package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
)

// limits are the flags that bound what one sandbox takes.
type limits struct {
	contexts, queued, output int
	grace                    seconds
}

func (l *limits) add(cmd *cobra.Command) {
	l.grace = seconds(5 * time.Second)
	cmd.Flags().IntVar(&l.contexts, "max-contexts", 64, "contexts, each of which is a kernel")
	cmd.Flags().IntVar(&l.queued, "max-queued", 64, "runs that may wait for their turn in one context")
	cmd.Flags().IntVar(&l.output, "max-output", 1024, "MiB of one run's output that are kept, on disk; more is left out")
	cmd.Flags().Var(&l.grace, "grace", "time between a timeout's interrupt and the kill")
}

func (l *limits) options() (agent.Options, error) {
	for name, value := range map[string]int{"max-contexts": l.contexts, "max-queued": l.queued, "max-output": l.output} {
		if value < 1 {
			return agent.Options{}, fmt.Errorf("--%s %d: want at least 1", name, value)
		}
	}
	if l.grace == 0 {
		return agent.Options{}, errors.New("--grace 0: want more than nothing")
	}
	return agent.Options{MaxContexts: l.contexts, Executor: executor.Options{
		QueueLimit: l.queued, LogLimit: int64(l.output) << 20, Grace: time.Duration(l.grace),
	}}, nil
}
