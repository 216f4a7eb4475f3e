package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// aliasesFile has the addresses that stood for names when the sandbox was left to the next process.
const aliasesFile = "aliases.json"

// leaversAtOnce is how many sandboxes are left at a time.
const leaversAtOnce = 32

// leaveAll lets go of what this process has of the sandboxes, which may outlive it, and it may outlive them. The device of a
// network is there for the next process, which could not serve it beside this one.
func (r *Runtime) leaveAll() error {
	var work sync.WaitGroup
	var mu sync.Mutex
	var failed error
	places := make(chan struct{}, leaversAtOnce)
	r.machines.Range(func(m, _ any) bool {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			err := m.(*machine).leave()
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
		return true
	})
	work.Wait()
	return failed
}

func (m *machine) leave() error {
	m.kill.Lock()
	defer m.kill.Unlock()
	if m.gone {
		return nil
	}
	if m.disk != nil { // which would be in use, also when the sandbox has ended
		m.disk.close()
		m.disk = nil
	}
	if m.stack == nil {
		return nil
	}
	err := m.stack.Close()
	if m.record.Network.Mode == fleet.NetworkFull { // where no address stands for a name
		return err
	}
	return errors.Join(err, m.saveAliases())
}

func (m *machine) saveAliases() error {
	text, err := json.Marshal(m.stack.Aliases())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.dir, aliasesFile), text, 0o600); err != nil {
		return fmt.Errorf("cannot keep the names of a sandbox's network: %w", err)
	}
	return nil
}

// aliases returns those that an earlier process has left; none where it has not.
func (m *machine) aliases() (a network.Aliases) {
	text, err := os.ReadFile(filepath.Join(m.dir, aliasesFile))
	if err == nil {
		_ = json.Unmarshal(text, &a) // half a file costs a look-up
	}
	return a
}
