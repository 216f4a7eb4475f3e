package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// Inside is what the first process of a sandbox has, once it is confined.
type Inside struct {
	Config
	Listener net.Listener // for the agent's HTTP API; its peer is the server
	Zygote   *os.File     // end of a SOCK_SEQPACKET socket, at whose other end kernels are forked; nil where there is none

	tun device // which is there for as long as it is open

	// Ready tells the server that the agent answers, or why it cannot. Only the first call counts.
	Ready func(error) error
}

// Enter confines this process, which a Runtime has started, as the first thing that it does:
// what it has open, its working directory and its privileges are then those of
// the sandbox. control is the descriptor that it was started with.
// After an error, which the server has been told, the process is to end.
func Enter(controlFile *os.File) (*Inside, error) {
	os.Clearenv() // of what Go itself was to know
	c, err := newControl(controlFile)
	if err != nil {
		return nil, err
	}
	in, err := enter(c)
	if err == nil {
		err = c.send(message{Entered: true, Tun: in.tun.number()})
	}
	if err != nil {
		_ = c.send(message{Error: err.Error()})
		c.close()
		return nil, err
	}
	in.Ready = ready(c)
	return in, nil
}

func ready(c control) func(error) error {
	var once sync.Once
	return func(failed error) (err error) {
		once.Do(func() {
			m := message{Ready: true}
			if failed != nil {
				m = message{Error: failed.Error()}
			}
			err = c.send(m)
			c.close()
		})
		return err
	}
}

// enter waits for what the server sends, and confines the process by it.
func enter(c control) (*Inside, error) {
	m, files, err := c.receive()
	if err != nil {
		return nil, fmt.Errorf("cannot receive the sandbox's settings: %w", err)
	}
	given := map[string]*os.File{}
	for i, name := range m.Files {
		given[name] = files[i]
	}
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot close the process to others: %w", err)
	}
	in := &Inside{}
	if err := readConfig(given["config"], &in.Config); err != nil {
		return nil, err
	}
	if err := confine(&in.Config, given); err != nil {
		return nil, err
	}
	in.Setup = setup{}
	if given["listener"] == nil {
		return nil, errors.New("the server has sent no listener")
	}
	if in.Listener, err = net.FileListener(given["listener"]); err != nil {
		return nil, fmt.Errorf("cannot use the listener: %w", err)
	}
	in.Zygote, in.tun = given["zygote"], device{given["tun"]}
	delete(given, "zygote")
	delete(given, "tun")
	return in, nil
}

func readConfig(f *os.File, into *Config) error {
	if f == nil {
		return errors.New("the server has sent no settings")
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		return fmt.Errorf("cannot read the sandbox's settings: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("cannot read the sandbox's settings: %w", err)
	}
	return nil
}

// confine takes the process where its level says.
func confine(c *Config, given map[string]*os.File) error {
	unix.Umask(0o022)
	if c.Level != "namespace" {
		return settle(c)
	}
	if err := connect(c, given); err != nil {
		return err
	}
	if err := mountRoot(c, given); err != nil {
		return err
	}
	if err := isolate(c); err != nil {
		return err
	}
	return drop(c)
}

// device is a network device, or none.
type device struct{ file *os.File }

func (d device) number() int {
	if d.file == nil {
		return 0
	}
	return int(d.file.Fd())
}

// connect makes the network, but for what the server has made: loopback, at least.
func connect(c *Config, given map[string]*os.File) (err error) {
	switch {
	case c.Setup.Tun:
		given["tun"], err = network.Inside(tunDevice, network.RoutesIPv6())
	case given["tun"] == nil:
		err = network.Loopback()
	}
	return err
}
