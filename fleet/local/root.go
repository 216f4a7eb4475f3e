package local

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Attributes of mounts.
const (
	readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	noExec   = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	noSuid   = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
)

// stage is where the new root is put together: a directory that every system has, over which
// a file system of ours is mounted, in the mount namespace of the sandbox alone.
const stage = "/tmp"

// mountRoot makes the sandbox's root file system and takes the process there. Nothing
// of the host's is left but what the settings name.
func mountRoot(c *setup, given kit) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	proc, err := filesystem("proc", noExec) // the host's has to be in sight for it
	if err != nil {
		return err
	}
	defer proc.Close()
	sources, err := openSources(c, given)
	if err != nil {
		return err
	}
	defer closeAll(sources)
	if err := overlay(c, sources[0], sources[1+len(c.Binds):], given); err != nil {
		return err
	}
	for i, b := range c.Binds {
		if c.Root && len(c.Layers) == 0 { // else what is mounted is the server's Python, and no part of the image
			err = cover(sources[i+1], b.Target, strconv.Itoa(i))
		} else {
			err = attach(sources[i+1], "root"+b.Target)
		}
		if err != nil {
			return err
		}
	}
	if err := attach(proc, "root/proc"); err != nil {
		return err
	}
	// No more user namespaces, in which whoever has taken over the agent would have all capabilities again.
	_ = os.WriteFile("root/proc/sys/user/max_user_namespaces", []byte("0"), 0) // beside what else forbids them
	if err := hideProc("root/proc"); err != nil {
		return err
	}
	if err := devices("root/dev", c); err != nil {
		return err
	}
	return pivot()
}

// openSources returns the trees of the lower layer, of the binds, and of the layers of an image, in this order.
func openSources(s *setup, given map[string]*os.File) ([]*os.File, error) {
	sources := []source{s.Lower}
	for _, b := range s.Binds {
		sources = append(sources, b.Source)
	}
	sources = append(sources, s.Layers...)
	var open []*os.File
	for _, from := range sources {
		f := given[from.File]
		if f == nil {
			var err error
			if f, err = tree(from.Path, nil, readOnly); err != nil {
				closeAll(open)
				return nil, err
			}
		}
		delete(given, from.File)
		open = append(open, f)
	}
	return open, nil
}

// overlay mounts the root at "root" of the stage, which is the working directory then. Paths are
// relative so that the list of mounts shows none of the host.
func overlay(c *setup, lower *os.File, layers []*os.File, given kit) error {
	if err := mountNew(stage, "tmpfs", noSuid, "mode", "755", "size", "1m"); err != nil {
		return err
	}
	if err := os.Chdir(stage); err != nil {
		return err
	}
	for _, dir := range []string{"lower", "disk", "root"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := attach(lower, "lower"); err != nil {
		return err
	}
	lowers := "lower"
	for i, l := range layers {
		name := strconv.Itoa(i)
		if err := errors.Join(os.Mkdir(name, 0o755), attach(l, name)); err != nil {
			return err
		}
		lowers += ":" + name
	}
	if err := attachDisk(c, given); err != nil {
		return err
	}
	if err := fill("disk/upper", c); err != nil {
		return err
	}
	if len(layers) == 0 {
		return layer("root", "lower", "disk")
	}
	// By mount(2): an option of fsconfig(2) has no more than 255 bytes.
	options := "lowerdir=" + lowers + ",upperdir=disk/upper,workdir=disk/work,userxattr"
	if err := unix.Mount("overlay", "root", "overlay", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("cannot lay the image's layers over each other: %w", err)
	}
	return nil
}

// layer mounts a tree with a layer of the disk over it, into which all changes go.
func layer(target, lower, disk string) error {
	return mountNew(target, "overlay", noSuid, "lowerdir", lower, "upperdir", disk+"/upper", "workdir", disk+"/work", "userxattr", "")
}

// cover mounts a directory of the template so that root of the sandbox can change it there, and without what the
// layer hides of it: see template.mask.
func cover(lower *os.File, target, name string) error {
	place, disk := "lower-"+name, "disk/"+name
	if err := os.Mkdir(place, 0o755); err != nil {
		return err
	}
	if err := attach(lower, place); err != nil {
		return err
	}
	for _, dir := range []string{disk, disk + "/upper", disk + "/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	hidden := "hidden-" + name // as a list of layers has at most 255 bytes
	if err := os.Symlink("lower"+target, hidden); err != nil {
		return err
	}
	return layer("root"+target, hidden+":"+place, disk)
}

func attachDisk(c *setup, given kit) (err error) {
	if given["disk"] == nil { // and after this it is the one in memory
		given["disk"], err = filesystem("tmpfs", noSuid, append(diskSize(c.Sizes), "mode", "755")...)
		if err != nil {
			return err
		}
	}
	return attach(given["disk"], "disk")
}

func diskSize(s sizes) []string {
	files := max(s.Disk/(8<<10), 16<<10) // each takes memory that its size does not tell of
	return []string{"size", strconv.FormatInt(s.Disk, 10), "nr_inodes", strconv.FormatInt(files, 10)}
}

func sharedSize(s sizes) []string {
	return []string{"size", strconv.FormatInt(s.Shared, 10), "nr_inodes", "16k"}
}

// resize gives file systems in memory their sizes.
func resize(s sizes, disk *os.File) error {
	shared, err := unix.Open("/dev/shm", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(shared)
	if err := reconfigure(shared, sharedSize(s)...); err != nil || s.Disk == 0 {
		return err
	}
	return reconfigure(int(disk.Fd()), diskSize(s)...)
}

// fill puts into the writable layer what is the sandbox's own from the start.
func fill(upper string, c *setup) error {
	for _, dir := range []string{upper, "disk/work", upper + "/etc", upper + "/home"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{upper + "/tmp", upper + "/var", upper + "/var/tmp"} {
		mode := os.FileMode(0o777 | os.ModeSticky)
		if filepath.Base(dir) == "var" {
			mode = 0o755
		}
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			return err
		}
	}
	for _, dir := range append([]string{c.Home}, c.Own...) {
		if err := errors.Join(os.MkdirAll(upper+dir, 0o755), os.Chown(upper+dir, c.UID, c.GID)); err != nil {
			return err
		}
	}
	return nil
}

// Of /proc, what tells of the host or changes it, although an ordinary user inside could not.
var (
	hidden = []string{"kcore", "keys", "key-users", "sysrq-trigger", "timer_list", "sched_debug", "latency_stats", "kallsyms", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "vmallocinfo", "slabinfo"}
	frozen = []string{"sys", "irq", "bus", "fs", "asound", "acpi", "scsi", "driver", "pressure"}
)

func hideProc(proc string) error {
	cover := func(name, from string, attr uint64) error {
		path := filepath.Join(proc, name)
		if _, err := os.Lstat(path); err != nil {
			return nil // not in this kernel
		}
		return mountCopy(cmp.Or(from, path), path, attr)
	}
	for _, name := range hidden {
		if err := cover(name, "/dev/null", readOnly&^unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	for _, name := range frozen {
		if err := cover(name, "", readOnly|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	return nil
}

// devices makes /dev: the devices that are no hardware, terminals of its own, shared memory.
func devices(dev string, c *setup) error {
	if err := mountNew(dev, "tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "mode", "755", "size", "64k"); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := filepath.Join(dev, name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := mountCopy(filepath.Join("/dev", name), path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	if err := terminals(filepath.Join(dev, "pts"), c); err != nil {
		return err
	}
	if err := mountNew(filepath.Join(dev, "shm"), "tmpfs", noExec, append(sharedSize(c.Sizes), "mode", "1777")...); err != nil {
		return err
	}
	for name, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return unix.MountSetattr(unix.AT_FDCWD, dev, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// closeRoot leaves of a root whose files all belong to the user the usual places to be written.
func closeRoot(c *setup) error {
	for _, dir := range append([]string{c.Home, "/tmp", "/var/tmp"}, c.Own...) {
		if err := mountCopy(dir, dir, noSuid); err != nil {
			return err
		}
	}
	return unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

func terminals(path string, c *setup) error {
	options := []string{"ptmxmode", "0666", "mode", "0620"}
	if c.SetUID { // group tty exists
		options = append(options, "gid", "5")
	}
	return mountNew(path, "devpts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, options...)
}

// pivot makes "root" the root, and lets go of all that was mounted before.
func pivot() error {
	if err := os.Chdir("root"); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root is above the new one now
		return fmt.Errorf("cannot change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("cannot let go of the host's files: %w", err)
	}
	return os.Chdir("/")
}
