package local

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	images "github.com/k2sandbox/k2sandbox/fleet/template"
)

// Build is a sandbox of an image in which commands run as root, with the capabilities of cage.Root in the sandbox's own user
// namespace, so that they can install what the image has a program to install with. What they change is a layer then.
type Build struct{ *machine }

// CanBuild returns why there can be no Build here, nil where there can.
func (r *Runtime) CanBuild() error {
	if err := r.canRoot(); err != nil {
		return err
	}
	if !r.disks {
		return errors.New(r.missing["disk"])
	}
	return nil
}

// Build starts one, of a template of the store.
func (r *Runtime) Build(ctx context.Context, s fleet.Spec) (*Build, error) {
	if err := r.CanBuild(); err != nil {
		return nil, fmt.Errorf("cannot start a build: %w: %w", err, fleet.ErrUnsupported)
	}
	s, err := r.Complete(s)
	if err != nil {
		return nil, err
	}
	k := kind{limits: s.Limits, root: true}
	if k.image, err = r.imageTemplate(ctx, s.Template); err != nil {
		return nil, fmt.Errorf("cannot start a build: %w", err)
	}
	defer k.image.users.Add(-1)
	m, err := r.prepared(ctx, r.level, k)
	if err != nil {
		return nil, err
	}
	if err := m.begin(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start a build: %w", m.explain(err)), m.Kill())
	}
	m.process.control.close()
	return &Build{m}, nil
}

// builds reports whether the sandbox is a Build.
func (m *machine) builds() bool { return m.record.Root && m.image != nil }

// ownPlaces are what each sandbox has of its own, and no layer: what is mounted there, what the server writes, and what is temporary.
var ownPlaces = []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}

// Layer ends all that runs in the sandbox, and writes what has been changed of its root since it started as an archive of a layer, in
// which the home of the template's user, and its working directory, are that user's.
func (b *Build) Layer(ctx context.Context, w io.Writer) error {
	m := b.machine
	m.kill.Lock()
	defer m.kill.Unlock()
	if err := m.endProcesses(); err != nil {
		return err
	}
	fd, err := unix.Openat2(int(m.disk.root.Fd()), "upper", &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return &os.PathError{Op: "openat2", Path: "upper", Err: err}
	}
	root := os.NewFile(uintptr(fd), "upper")
	defer root.Close()
	t := m.template()
	archive := tar.NewWriter(w)
	err = images.Upper{
		FirstID: m.users.uids[0].HostID, Leave: ownPlaces, Theirs: append(slices.Clone(t.own), t.home), UID: t.code, GID: t.group,
		Size: m.record.Limits.Disk, Files: images.Defaults.Files,
	}.Pack(ctx, archive, root)
	return errors.Join(err, archive.Close())
}
