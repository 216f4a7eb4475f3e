package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// record is what has to be known of a sandbox to take it back, or to remove it. It is in
// its directory from before the sandbox runs anything.
type record struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"` // of its group and slot; sandboxes that wait have one, too
	Level     string          `json:"level"`
	Template  string          `json:"template"` // the name of its layer's directory
	Root      bool            `json:"root,omitempty"`
	PID       int             `json:"pid"`
	Started   uint64          `json:"started"` // of the process, in ticks since the boot
	Boot      string          `json:"boot"`    // which boot
	Slot      int             `json:"slot"`    // of user ids, or noSlot
	Loop      *loopDevice     `json:"loop,omitempty"`
	Tun       int             `json:"tun,omitempty"` // the first process's descriptor of its network device
	Network   fleet.Network   `json:"network"`
	Limits    fleet.Limits    `json:"limits"`
	Isolation fleet.Isolation `json:"isolation"`
}

const recordFile = "machine.json"

func (r *record) save(dir string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	part := filepath.Join(dir, recordFile+".part")
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return fmt.Errorf("cannot write the sandbox's record: %w", err)
	}
	if err := os.Rename(part, filepath.Join(dir, recordFile)); err != nil {
		return fmt.Errorf("cannot write the sandbox's record: %w", err)
	}
	return nil
}

func loadRecord(dir string) (*record, error) {
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, fmt.Errorf("cannot read the sandbox's record: %w", err)
	}
	r := &record{Slot: noSlot}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("cannot read the sandbox's record: %w", err)
	}
	return r, nil
}

// identify notes which process it is: a pid alone may be another's by now.
func (r *record) identify(pid int) (err error) {
	r.PID, r.Boot = pid, bootID()
	r.Started, err = startTime(pid)
	return err
}

// open returns a descriptor of the process, nil if it has ended.
func (r *record) open() (*os.File, error) {
	if r.PID <= 0 || r.Boot != bootID() {
		return nil, nil
	}
	fd, err := unix.PidfdOpen(r.PID, unix.PIDFD_NONBLOCK)
	if err == unix.ESRCH {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch process %d: %w", r.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if started, err := startTime(r.PID); err != nil || started != r.Started || ended(f) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// startTime returns when the process started, in ticks since the boot.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("cannot tell when process %d started: %w", pid, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	if len(fields) < 20 {
		return 0, fmt.Errorf("cannot tell when process %d started", pid)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

var bootID = sync.OnceValue(func() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(text))
})
