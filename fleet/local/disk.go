package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sandbox's disk is an ext4 file system in a sparse file of the sandbox's directory, over a loop
// device. It is full at its size, takes of the host what is written, and is never mounted in the
// host's own namespace: it goes, and the device with it, when the sandbox's mounts go.

type disk struct {
	mount *os.File // attached nowhere; given to the sandbox
	root  *os.File // its root directory
	loop  loopDevice
}

// loopDevice is a loop device, and the mark by which it is told from a later one of the same number.
type loopDevice struct {
	Number int    `json:"number"`
	Mark   string `json:"mark"`
}

// newDisk makes an empty disk. Its image has no name, so that nothing of it is left behind.
func (r *Runtime) newDisk(ctx context.Context, size int64) (*disk, error) {
	if err := r.hostHasRoom(); err != nil {
		return nil, err
	}
	template, err := r.image(ctx, size)
	if err != nil {
		return nil, err
	}
	defer template.Close()
	image, err := copySparse(template)
	if err != nil {
		return nil, fmt.Errorf("cannot make a disk: %w", err)
	}
	defer image.Close()
	dev, loop, err := attachLoop(image)
	if err != nil {
		return nil, fmt.Errorf("cannot make a disk: %w", err)
	}
	defer dev.Close() // the mount keeps it
	d := &disk{loop: loop}
	d.mount, err = filesystem("ext4", noSuid, "source", dev.Name(), "noinit_itable", "", "discard", "", "nobarrier", "")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(d.mount.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		d.close()
		return nil, fmt.Errorf("cannot open a disk: %w", err)
	}
	d.root = os.NewFile(uintptr(fd), "disk")
	return d, nil
}

// leastFree is what the host's file system has to have free for one more disk, in bytes: disks
// may grow beyond what there is, as most of them never do.
const leastFree = 1 << 30

func (r *Runtime) hostHasRoom() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(r.dir, &fs); err != nil {
		return fmt.Errorf("cannot tell how much space is left in %s: %w", r.dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < leastFree {
		return fmt.Errorf("cannot make a disk: %d bytes are left in %s, fewer than %d: %w", free, r.dir, leastFree, unix.ENOSPC)
	}
	return nil
}

// own gives the disk to a user of the host.
func (d *disk) own(id int) error { return d.root.Chown(id, id) }

// close lets go of the disk, which goes when the sandbox does so, too.
func (d *disk) close() {
	if d.mount != nil {
		d.mount.Close()
	}
	if d.root != nil {
		d.root.Close()
	}
}

// discard ends the file system with whatever is not written yet: nobody will ask for it.
func (d *disk) discard() {
	how := uint32(2) // EXT4_GOING_FLAGS_NOLOGFLUSH
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, d.root.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how)))
}

const ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN

// wait waits until the device is free again.
func (l loopDevice) wait(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for pause := time.Millisecond; l.used(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("loop device %d is still in use", l.Number)
		}
		time.Sleep(pause)
	}
	return nil
}

// used reports whether the device is still there. It does not keep it open, which would be a use.
func (l loopDevice) used() bool {
	dev, err := os.Open(l.path())
	if err != nil {
		return false
	}
	defer dev.Close()
	info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
	return err == nil && unix.ByteSliceToString(info.File_name[:]) == l.Mark
}

func (l loopDevice) path() string { return "/dev/loop" + strconv.Itoa(l.Number) }

// image returns the file of an empty file system of the size, which is made once, unless many others are asked for meanwhile.
func (r *Runtime) image(ctx context.Context, size int64) (*os.File, error) {
	path := filepath.Join(r.dir, "disks", strconv.FormatInt(size, 10)+".img")
	r.images.Lock()
	defer r.images.Unlock()
	if image, err := os.Open(path); err == nil {
		return image, os.Chtimes(path, time.Time{}, time.Now())
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := forgetOldest(filepath.Dir(path), maxImages-1); err != nil {
		return nil, err
	}
	if err := makeImage(ctx, path, size); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// maxImages is how many sizes of disks have an image at a time.
const maxImages = 16

// forgetOldest leaves the newest files of a directory.
func forgetOldest(dir string, keep int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	age := func(e os.DirEntry) (at time.Time) {
		if info, err := e.Info(); err == nil {
			at = info.ModTime()
		}
		return at
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return age(b).Compare(age(a)) })
	for _, e := range entries[min(keep, len(entries)):] {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	return err
}

func makeImage(ctx context.Context, path string, size int64) error {
	part, err := os.CreateTemp(filepath.Dir(path), ".part-")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	if err := errors.Join(part.Truncate(size), part.Close()); err != nil {
		return err
	}
	// No journal: after a crash of the host nobody goes on with this disk. Nothing is kept for root.
	cmd := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-O", "^has_journal,^resize_inode",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", part.Name())
	cmd.Env = []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make a file system of %d bytes: %w (%s)", size, err, strings.TrimSpace(string(out)))
	}
	return os.Rename(part.Name(), path)
}

// copySparse copies a file without the holes in it, to one without a name.
func copySparse(in *os.File) (*os.File, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Dir(in.Name()), os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(out.Truncate(info.Size()), copyData(in, out)); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

func copyData(in, out *os.File) error {
	for end := int64(0); ; {
		start, err := in.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no more
			return nil
		}
		if err != nil {
			return err
		}
		if end, err = in.Seek(start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return err
		}
	}
}

// attachLoop gives the file a loop device, which frees itself after its last user.
func attachLoop(file *os.File) (*os.File, loopDevice, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, loopDevice{}, err
	}
	defer ctl.Close()
	for {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, loopDevice{}, fmt.Errorf("cannot find a free loop device: %w", err)
		}
		loop := loopDevice{Number: n, Mark: "k2sandbox-" + rand.Text()}
		dev, err := os.OpenFile(loop.path(), os.O_RDWR, 0)
		if err != nil {
			return nil, loopDevice{}, err
		}
		if err = loop.configure(dev, file); err == nil {
			return dev, loop, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) { // else somebody was faster
			return nil, loopDevice{}, fmt.Errorf("cannot use loop device %d: %w", n, err)
		}
	}
}

func (l loopDevice) configure(dev, file *os.File) error {
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: 4096}
	copy(config.Info.File_name[:], l.Mark)
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	err := unix.IoctlLoopConfigure(int(dev.Fd()), &config)
	if errors.Is(err, unix.EINVAL) { // a file system that cannot read past the cache
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
	}
	return err
}
